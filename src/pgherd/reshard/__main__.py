"""The process that carries workflows out: `python -m pgherd.reshard`, started by a controller.

It reads one line of json from its standard input (`nodes` of group 0, `user`, `password`), and ends when the input does: its
controller is gone, and another one starts its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from pgherd.backend.connection import Credentials
from pgherd.catalog.model import GroupId, Node
from pgherd.errors import PgherdError
from pgherd.gateway import tls
from pgherd.reshard.engine import Engine
from pgherd.reshard.places import Places

AGAIN_S = 1.0


def places_of(told: dict[str, Any]) -> Places:
    """The connections that the line of json describes."""
    nodes = [Node(group=GroupId(0), **node) for node in told["nodes"]]
    mode = told.get("tls") or "off"
    authority = Path(told["authority"]) if told.get("authority") else None
    context = tls.client_context("disable" if mode == "off" else mode, authority)
    return Places(nodes, Credentials(user=told["user"], password=told.get("password")), tls=context)


async def _serve(told: dict[str, Any]) -> None:
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    engine = asyncio.create_task(_work(told))
    await asyncio.wait((over, engine), return_when=asyncio.FIRST_COMPLETED)
    engine.cancel()
    await asyncio.gather(engine, return_exceptions=True)


async def _work(told: dict[str, Any]) -> None:
    while True:
        places = places_of(told)
        try:
            await Engine(places).run()
        except (PgherdError, OSError, TimeoutError, ExceptionGroup) as error:
            logging.getLogger(__name__).info("workflows: %s", error)
        finally:
            places.close()
        await asyncio.sleep(AGAIN_S)


def main() -> None:
    """Read the line, work."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    line = sys.stdin.readline()
    if line.strip():
        asyncio.run(_serve(json.loads(line)))


if __name__ == "__main__":
    main()
