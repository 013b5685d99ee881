"""Shards that split, move and merge while everything else goes on; and whether something of it is left behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pgherd.catalog.model import GroupId
from pgherd.reshard import doctor
from pgherd.testing.chaos.faces import Face, Session, outcome_of
from pgherd.testing.chaos.workloads import ERRORS, PAUSE_S
from pgherd.transaction.perform import Lender

SHARDS_MAX = 6  # of one keyspace: then they are merged again
SETTLE_S = 180.0
SETTINGS = "keep_for => '0s', offline => false"
_UNFINISHED = "SELECT id || ' ' || kind || ' ' || state || ' ' || step FROM pgherd.workflows WHERE state IN ('waiting', 'running', 'paused', 'kept')"
_SHARDS = (
    "SELECT s.id, s.group_id, s.modulus, s.remainder, t.name FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace)"
    " WHERE t.name = $1 ORDER BY s.id"
)


@dataclass
class Moving:
    """One change of shards after another, of the given tables (by hash). `most`: then it only looks on (0: never)."""

    lender: Lender
    groups: tuple[GroupId, ...]
    tables: tuple[str, ...]
    most: int = 0
    name: str = "moving"
    counts: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    _begun: bool = False

    @property
    def finished(self) -> int:
        """Changes that were answered with success."""
        return sum(count for what, count in self.counts.items() if what.endswith(" done"))

    async def setup(self, session: Session) -> None:
        """The tables are other workloads'. What the controller begins by itself keeps no old copies either."""
        await session.execute("CALL pgherd.set_balancing('keep_for', '0s')")

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        if self._begun:  # one at a time is enough
            return
        self._begun = True
        chance = random.Random(seed)
        while not stop.is_set() and not (self.most and self.finished >= self.most):
            try:
                async with face.session() as session:
                    await self._one(session, chance)
            except ERRORS as error:
                outcome_of(error)
                self.errors[f"{type(error).__name__}: {str(error)[:160]}"] += 1
                await asyncio.sleep(PAUSE_S)

    async def _one(self, session: Session, chance: random.Random) -> None:
        table = chance.choice(self.tables)
        shards = await session.fetch(_SHARDS, table)
        kind, sql = self._change(table, shards, chance)
        self.counts[f"{kind} begun"] += 1
        async with asyncio.timeout(SETTLE_S):
            await session.execute(sql)
        self.counts[f"{kind} done"] += 1

    def _change(self, table: str, shards: Sequence[Any], chance: random.Random) -> tuple[str, str]:
        pairs = _pairs(shards)
        if len(shards) >= SHARDS_MAX and pairs:
            one, two = chance.choice(pairs)
            return "merge", f"CALL pgherd.merge({one}, {two}, {SETTINGS})"
        shard = chance.choice(shards)
        if len(shards) < SHARDS_MAX and chance.random() < 0.4:
            return "split", f"CALL pgherd.split('{table}', '{shard[0]}', {SETTINGS})"
        others = [group for group in self.groups if group != shard[1]]
        return "move", f"CALL pgherd.move({shard[0]}, {chance.choice(others)}, {SETTINGS})"

    async def check(self, session: Session) -> list[str]:
        """Wait until no workflow is under way, then ask the doctor."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while rows := await session.fetch(_UNFINISHED):
            if asyncio.get_running_loop().time() > deadline:
                return [f"workflows do not end: {[row[0] for row in rows]}"]
            await asyncio.sleep(0.2)
        found = await doctor.examine(self.lender, self.groups)
        return [f"left behind: {finding}" for finding in found]


def _pairs(shards: Sequence[Any]) -> list[tuple[int, int]]:
    """The halves of one hash shard."""
    place = {(row[2], row[3]): row[0] for row in shards}
    return [
        (id_, place[modulus, remainder + modulus // 2])
        for (modulus, remainder), id_ in place.items()
        if modulus > 1 and (modulus, remainder + modulus // 2) in place and remainder < modulus // 2
    ]
