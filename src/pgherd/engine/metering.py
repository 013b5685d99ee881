"""How much each shard is used: one of every few statements of one shard is timed, and the sums go to group 0 every few seconds.

Gateways and clients have a `Meter` each. Statements that replicas answer do not count: they are no load of the group's primary.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from random import randrange, uniform
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from pgherd.balance.load import HALF_LIFE_S, LoadCounters, to_json
from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId, Key, Keyspace, ShardId
from pgherd.catalog.text import literal
from pgherd.engine.link import Params
from pgherd.engine.route import key_of
from pgherd.errors import PgherdError
from pgherd.plan.plans import Single
from pgherd.transaction.perform import Lender, borrowed

log = logging.getLogger(__name__)
EVERY: Final = 8
REPORT_S: Final = 10.0
ANSWER_S: Final = 5.0
NEVER: Final = 1 << 62
TIMED_MAX: Final = 50  # a second
FIRST_S: Final = 1.0  # until the first report, which learns the rhythm
Due = tuple[ShardId, Key | None, bool]
Sample = tuple[ShardId, Key | None, bool, int, float]


class Meter:
    """One process's. The query path counts `left` down for each statement of one shard; below 0 the statement is timed:
    `begin` when it is sent, `end` when its answer is there. One of `every` is timed; fewer where there are very many, so that
    about TIMED_MAX a second are. 0: nothing is counted."""

    __slots__ = ("counters", "every", "least", "left", "timed")

    def __init__(self, every: int = EVERY) -> None:
        self.counters = LoadCounters()
        self.least = self.every = every
        self.timed = 0
        self.left = randrange(every) if every else NEVER

    def count(self) -> bool:
        """A statement is about to be sent: whether it is to be timed."""
        self.left -= 1
        return self.left < 0

    def skip(self) -> None:
        """Wait for the next one to time."""
        self.left = randrange(2 * self.every - 1)  # no rhythm of the statements can hide in it

    def begin(self, shard: ShardId, key: Key | None, write: bool) -> Sample:
        """A statement is sent."""
        self.left = randrange(2 * self.every - 1)
        return shard, key, write, self.every, monotonic()

    def due(self, plan: Single, params: Params, keyspace: Keyspace) -> Due | None:
        """Count a statement that is about to be sent; what to begin with if it is to be timed."""
        self.left -= 1
        if self.left >= 0:
            return None
        key = self.key(plan, params, keyspace)
        shard = keyspace.locate(key) if key is not None else None
        return None if shard is None else (shard.id, key, plan.write)

    def end(self, sample: Sample) -> None:
        """Its answer is there."""
        shard, key, write, every, sent = sample
        self.timed += 1
        self.counters.record(shard, key, monotonic() - sent, write, every)

    def key(self, plan: Single, params: Params, keyspace: Keyspace) -> Key | None:
        """The key of a statement that is about to be sent, if it is the next to be timed and its key can be told at once."""
        if self.left > 0:
            return None
        try:
            return key_of(plan.key, params, keyspace)
        except (keys.Undecodable, PgherdError):
            return None

    def rows(self, cluster: ClusterMap, elapsed_s: float, half_life_s: float) -> list[dict[str, Any]]:
        """Let time pass, and tell what pgherd.report_load takes."""
        types = {
            shard.id: keyspace.key_types
            for keyspace in cluster.keyspaces.values()
            for shard in keyspace.shards
        }
        self.counters.forget(types)
        self.counters.pass_time(elapsed_s, half_life_s)
        seen = self.timed * self.every / max(elapsed_s, 0.1)  # statements a second
        self.every, self.timed = max(self.least, min(round(seen / TIMED_MAX), 1000)), 0
        return [
            {"shard": shard, "load": to_json(load, types[shard])}
            for shard, load in self.counters.loads().items()
        ]


class Reporter:
    """Sends a meter's sums to group 0. `what`: "gateway 10.0.0.7:6432". Group 0 answers how often, and how fast all fades."""

    def __init__(self, meter: Meter, lender: Lender, cluster: Callable[[], ClusterMap], what: str) -> None:
        self.meter, self.lender, self.cluster = meter, lender, cluster
        self.source = f"{what} {uuid4().hex[:8]}"
        self.every_s, self.half_life_s = REPORT_S, HALF_LIFE_S
        self._last = monotonic()
        self._told = False

    async def run(self) -> None:
        """Until cancelled. A report that fails is made up for by the next one."""
        pause_s = min(FIRST_S, self.every_s)
        while self.meter.least:
            await asyncio.sleep(pause_s * uniform(0.9, 1.1))
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self.report()
            except Exception as error:  # of servers, of connections, of a catalog of another version
                log.debug("load was not reported: %s: %s", type(error).__name__, error)
            pause_s = self.every_s

    async def report(self) -> None:
        """Once, now. Who has not done anything says nothing."""
        now = monotonic()
        rows = self.meter.rows(self.cluster(), now - self._last, self.half_life_s)
        self._last = now
        if not rows and not self._told:
            return
        self._told = bool(rows)
        sql = (
            f"SELECT pgherd.report_load({literal(self.source)}, {literal(json.dumps(rows))}::pg_catalog.jsonb),"
            " r.report_s, r.half_life_s FROM pgherd.load_rhythm() r"
        )
        async with borrowed(self.lender, GroupId(0)) as link:
            answer = (await link.run(sql))[0]
        self.every_s, self.half_life_s = max(0.2, float(answer[1] or 0)), max(1.0, float(answer[2] or 0))


def here(what: str) -> str:
    """A name of this process that tells people where to look."""
    return f"{what} {socket.gethostname()[:40]} {os.getpid()}"
