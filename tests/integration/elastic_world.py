"""A cluster that balances itself in seconds instead of minutes, traffic with a known distribution of keys, and waiting for decisions."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

import pgherd

QUICK = {"round": "1s", "report": "1s", "half_life": "10s", "keep_for": "0s", "sustain_rounds": "2", "floor_load": "0.002", "floor_bytes": "1MB"}  # fmt: skip
NAMES = [f"{letter}{second}{third}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for second in "aeiou" for third in "lnrs"]  # fmt: skip
FIRST_HALF = [name for name in NAMES if name < "N"]
SECOND_HALF = [name for name in NAMES if name >= "N"]


def surname(chance: random.Random) -> str:
    """A name; four of five lie in A to M, evenly."""
    return chance.choice(FIRST_HALF if chance.random() < 0.8 else SECOND_HALF)


def share(low: str | None, high: str | None) -> float:
    """The part of `surname`'s keys from `low` up to `high`."""
    inside = [name for name in NAMES if (low is None or name >= low) and (high is None or name < high)]
    first = sum(name < "N" for name in inside)
    return 0.8 * first / len(FIRST_HALF) + 0.2 * (len(inside) - first) / len(SECOND_HALF)


class Traffic:
    """Statements that never stop; `failed`: errors that a user would have seen."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stopped = False

    async def forever(self, name: str, job: Callable[[], Awaitable[Any]]) -> None:
        while not self.stopped:
            try:
                await job()
                self.done[name] += 1
            except Exception as error:
                self.failed.append(f"{name}: {type(error).__name__}: {error}")
            await asyncio.sleep(0.002)

    @asynccontextmanager
    async def flowing(self, jobs: Sequence[tuple[str, Callable[[], Awaitable[Any]]]]) -> AsyncGenerator[None]:
        self.stopped = False
        tasks = [asyncio.create_task(self.forever(name, job)) for name, job in jobs]
        try:
            yield
        finally:  # each ends what it has begun: what is counted is what was done
            self.stopped = True
            await asyncio.gather(*tasks)


class Elastic:
    """`gate`: a connection to the gateway as a user has it; `db`: the client library."""

    def __init__(self, gate: asyncpg.Connection, db: pgherd.Database, dsn: str) -> None:
        self.gate, self.db, self.dsn = gate, db, dsn

    async def quick(self, **more: str) -> None:
        for name, value in {**QUICK, **more}.items():
            await self.gate.execute(f"CALL pgherd.set_balancing('{name}', '{value}')")

    async def settings(self, table: str, **values: str) -> None:
        for name, value in values.items():
            await self.gate.execute(f"CALL pgherd.set_keyspace('{table}', '{name}', '{value}')")

    async def shards(self, table: str) -> list[tuple[int, int, str | None, str | None]]:
        """Number, group and bounds (of the first column) of each shard, in order."""
        rows = await self.gate.fetch(
            "SELECT s.id, s.group_id, s.range_start[1] AS low, s.range_end[1] AS high FROM pgherd.shards s"
            " JOIN pgherd.tables t USING (keyspace) WHERE t.name = $1 ORDER BY s.range_start NULLS FIRST",
            table,
        )
        return [tuple(row) for row in rows]

    async def log(self, table: str) -> list[dict[str, Any]]:
        rows = await self.gate.fetch(
            "SELECT l.kind, l.code, l.shard, l.reason, l.workflow, l.figures::text FROM pgherd.decisions_log l"
            " JOIN pgherd.tables t USING (keyspace) WHERE t.name = $1 ORDER BY l.id",
            table,
        )
        return [{**dict(row), "figures": json.loads(row["figures"])} for row in rows]

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]], seconds: float = 90.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await condition():  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        except TimeoutError:
            told = [dict(row) for row in await self.gate.fetch("SELECT at, kind, code, shard, reason FROM pgherd.decisions_log ORDER BY id")]  # fmt: skip
            flows = [dict(row) for row in await self.gate.fetch("SELECT id, kind, state, phase, error, origin FROM pgherd.workflows ORDER BY id")]  # fmt: skip
            raise AssertionError(f"not within {seconds:g} s: {what}; {told}; {flows}") from None


@asynccontextmanager
async def opened(dsn: str) -> AsyncGenerator[Elastic]:
    async with pgherd.connect(dsn) as db:
        world = Elastic(await asyncpg.connect(dsn), db, dsn)
        try:
            yield world
        finally:
            await world.gate.close()
