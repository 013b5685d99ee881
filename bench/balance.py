"""A skewed workload over surnames, and what the balancer makes of it: each group's part of the statements before and after its work."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import asyncpg

import pgherd
from bench.figures import Aim, Figure, Reached
from bench.ground import Ground
from pgherd.errors import PgherdError

PLACE = "grouped"
TASKS = 4  # half of them through the gateway, half through the client
LEVEL = 1.15  # max/mean of the groups' statements, at which the work counts as done
WORK_S = 30.0  # for the balancer at most
QUICK = {
    "round": "1s", "report": "1s", "half_life": "5s", "keep_for": "0s", "sustain_rounds": "2", "floor_load": "0.002", "floor_bytes": "1MB", "settle": "0.05", "trigger": "0.1",
}  # fmt: skip
KEYSPACE = {"cooldown": "1s", "stay": "2s", "automerge": "off"}
NAMES = [a + b + c for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "aeiou" for c in "lnrs"]
FIRST, SECOND = [name for name in NAMES if name < "N"], [name for name in NAMES if name >= "N"]
NOTE = (
    "four of five statements use names from A to M, which are one shard in one group at first; updates by key from 4 connections, "
    "half of them through the gateway; the balancer looks every second, and makes level what is a tenth off"
)


class Use:
    """Updates that never stop; `done`: how many for each name; `failed`: what a user would have seen."""

    def __init__(self, faces: list[Any]) -> None:
        self.faces, self.done, self.failed, self.stop = faces, Counter[str](), 0, False

    async def run(self) -> None:
        """Until `stop`."""
        async with asyncio.TaskGroup() as group:
            for number, face in enumerate(self.faces):
                group.create_task(self._one(face, random.Random(number)))

    async def _one(self, face: Any, chance: random.Random) -> None:
        while not self.stop:
            name = chance.choice(FIRST if chance.random() < 0.8 else SECOND)
            try:
                await face.execute("UPDATE kin SET n = n + 1 WHERE name = $1", name)
                self.done[name] += 1
            except (PgherdError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                self.failed += 1
            await asyncio.sleep(0.001)

    async def parts(self, admin: asyncpg.Connection, seconds: float) -> list[float]:
        """Each group's part of the statements of so many seconds, by where the shards lie in their middle."""
        begin = self.done.copy()
        await asyncio.sleep(seconds / 2)
        shards = await admin.fetch(_SHARDS)
        await asyncio.sleep(seconds / 2)
        used = self.done - begin
        counts = Counter(dict.fromkeys((0, 1), 0))
        for name, count in used.items():
            counts[next(row["group_id"] for row in shards if _holds(row, name))] += count
        return [counts[group] / max(used.total(), 1) for group in sorted(counts)]


_SHARDS = (
    "SELECT s.group_id, s.range_start[1] AS low, s.range_end[1] AS high FROM pgherd.shards s"
    " JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'kin'"
)


def _holds(row: Any, name: str) -> bool:
    return (row["low"] is None or row["low"] <= name) and (row["high"] is None or name < row["high"])


async def run(ground: Ground) -> list[Figure]:
    """One run: the skew, the work, the parts after it."""
    dsn, seconds = ground.grouped.dsn, max(2.0, ground.effort.seconds * 2)
    admin = await asyncpg.connect(dsn)
    db = await pgherd.connect(dsn)
    gateways = [await asyncpg.connect(dsn) for _ in range(TASKS // 2)]
    use = Use([*gateways, *[db] * (TASKS // 2)])
    try:
        await _fill(admin)
        job = asyncio.create_task(use.run())
        before = await use.parts(admin, seconds)
        worked_s = await _work(admin, use)
        after = await use.parts(admin, seconds)
        use.stop = True
        await job
        done = await admin.fetch(
            "SELECT kind, count(*) FROM pgherd.workflows WHERE origin = 'controller' AND keyspace = 'kin' AND state = 'done' GROUP BY 1"
        )
        return _figures(before, after, worked_s, use, {row[0]: row[1] for row in done})
    finally:
        await _settle(admin)
        for link in (*gateways, admin):
            await link.close()
        await db.close()


async def _fill(admin: asyncpg.Connection) -> None:
    await admin.execute("CALL pgherd.set_balancing('balancing', 'off')")
    await admin.execute("CREATE TABLE kin (name text PRIMARY KEY, n int NOT NULL) PARTITION BY RANGE (name)")
    await admin.execute("CALL pgherd.split('kin', 'N')")
    rows = await admin.fetch(
        "SELECT s.id, s.range_start IS NULL AS first FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'kin'"
    )
    for row in rows:
        await admin.execute(f"CALL pgherd.move({row['id']}, {0 if row['first'] else 1}, offline => true)")
    await admin.executemany("INSERT INTO kin VALUES ($1, 0)", [(name,) for name in NAMES])


async def _work(admin: asyncpg.Connection, use: Use) -> float:
    """Let the balancer work until the groups are level, and answer how long it took."""
    for name, value in KEYSPACE.items():
        await admin.execute(f"CALL pgherd.set_keyspace('kin', '{name}', '{value}')")
    for name, value in {**QUICK, "balancing": "on"}.items():
        await admin.execute(f"CALL pgherd.set_balancing('{name}', '{value}')")
    begun = time.perf_counter()
    while time.perf_counter() - begun < WORK_S:
        if 2 * max(await use.parts(admin, 1.0)) <= LEVEL:
            break
    return time.perf_counter() - begun


async def _settle(admin: asyncpg.Connection) -> None:
    for name in (*QUICK, "balancing"):
        await admin.execute(f"CALL pgherd.set_balancing('{name}', 'default')")
    await admin.execute("DROP TABLE IF EXISTS kin")


def _figures(
    before: list[float], after: list[float], worked_s: float, use: Use, done: dict[str, int]
) -> list[Figure]:
    changes = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(done.items()))
    note = f"{NOTE}. In {worked_s:.0f} s: {changes or 'no change'}; statements that failed: {use.failed} of {use.done.total():,}"
    figures = [
        _figure(f"statements of group {group}", "%", {"after": 100 * now, "before": 100 * then}, note)
        for group, (now, then) in enumerate(zip(after, before, strict=True))
    ]
    fullest = {"after": max(after) * len(after), "before": max(before) * len(before)}
    aims = (Aim(against="before", most=0.85),)
    return [*figures, _figure("fullest group", "max/mean", fullest, note, aims)]


def _figure(name: str, unit: str, values: dict[str, float], note: str, aims: tuple[Aim, ...] = ()) -> Figure:
    reached = {what: Reached(median=value, rounds=(value,)) for what, value in values.items()}
    ratios = {"before": values["after"] / values["before"]} if values["before"] else {}
    return Figure(item="balance", name=name, unit=unit, reached=reached, ratios=ratios, aims=aims, note=note)
