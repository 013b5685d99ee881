"""Lets the catalog know where a node answers: a process beside the node's supervisor that ends when it is done.

Run as `python -m pgherd.deploy.announce FILE` with the node's settings. It tries until the node is registered as it is: a
new node joins the cluster by that, and one whose address has changed is found again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from pgherd.deploy import members, node_config
from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import PgherdError

TRY_S = 120.0  # longer than a change of the map waits for another one, and its commit for a failover
FIRST_S = 1.0
PAUSE_S_MAX = 15.0


async def announce(config: NodeConfig) -> None:
    """Until it is done; what is in the way is said once for each new reason."""
    pause, said = FIRST_S, ""
    while True:
        try:
            async with asyncio.timeout(TRY_S):
                reason = await members.register_self(config)
            if not reason:
                return
        except TimeoutError:
            reason = f"a group did not answer within {TRY_S:.0f} s"
        except PgherdError as error:
            reason = error.message
        if reason != said:
            now, said = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), reason
            print(f"{now} pgherd node: not registered yet: {reason}", file=sys.stderr, flush=True)
        await asyncio.sleep(pause)
        pause = min(PAUSE_S_MAX, pause * 1.5)


if __name__ == "__main__":
    asyncio.run(announce(node_config.load(Path(sys.argv[1]))))
