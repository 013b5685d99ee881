"""Shards that are split and moved under load: how long, how fast, and what writers notice of it."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import asyncpg

import pgherd
from bench.figures import Aim, Figure, Reached
from bench.ground import Ground, Place
from pgherd.errors import PgherdError

PLACE = "grouped"
WRITERS = 8  # half of them through the gateway, half through the client
SHARE = 0.5  # of what they can do at most
BEFORE_S = 5.0
PAUSE_MS = 100.0  # no writer should see a longer one
NOTE = "8 writers at half of what they can do, half of them through the gateway; a longest pause is the longest that any statement of theirs took"
_UPDATE = "UPDATE folk SET n = n + 1 WHERE name = $1 AND id = $2"
_NAMES = (
    "Abel",
    "Baker",
    "Carter",
    "Diaz",
    "Evans",
    "Foster",
    "Green",
    "Hill",
    "Irwin",
    "Jones",
    "Kelly",
    "Lee",
    "Moore",
)
_ERRORS = (PgherdError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


@dataclass(slots=True)
class Writers:
    """Point updates by key, at `rate` a second each (None: as fast as they go). `took`: (when it ended, seconds)."""

    faces: list[Any]
    rows: int
    rate: float | None = None
    took: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    failed: int = 0
    said: set[str] = field(default_factory=set[str])
    stop: bool = False

    async def run(self) -> None:
        """Until `stop`."""
        async with asyncio.TaskGroup() as group:
            for number, face in enumerate(self.faces):
                group.create_task(self._one(face, random.Random(number)))

    async def _one(self, face: Any, chance: random.Random) -> None:
        due = time.perf_counter()
        while not self.stop:
            if self.rate is not None:
                due = max(due + 1 / self.rate, time.perf_counter() - 0.1)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            id_ = chance.randint(1, self.rows)
            begun = time.perf_counter()
            try:
                await face.execute(_UPDATE, _NAMES[id_ % len(_NAMES)], id_)
            except _ERRORS as error:
                self.failed += 1
                self.said.add(str(error)[:120])
            ended = time.perf_counter()
            self.took.append((ended, ended - begun))

    def between(self, begin: float, end: float) -> list[float]:
        """Seconds of the statements that ended then."""
        return [seconds for at, seconds in self.took if begin <= at <= end]


async def run(ground: Ground) -> list[Figure]:
    """A split and a move of a table of a million rows."""
    place, rows = ground.grouped, ground.effort.rows
    await _fill(place, rows)
    gateways = [await asyncpg.connect(place.dsn) for _ in range(WRITERS // 2)]
    db = await pgherd.connect(place.dsn)
    writers = Writers([*gateways, *[db] * (WRITERS // 2)], rows)
    try:
        writers.rate = await _half(writers)
        figures: list[Figure] = []
        for name in ("split", "move"):
            figures += await _measured(place, writers, name)
        return figures
    finally:
        for link in gateways:
            await link.close()
        await db.close()


async def _fill(place: Place, rows: int) -> None:
    names = "ARRAY[" + ", ".join(f"'{name}'" for name in _NAMES) + "]"
    connection = await asyncpg.connect(place.dsn)
    await connection.execute(
        "CREATE TABLE folk (name text, id bigint, n int NOT NULL, note text, PRIMARY KEY (name, id)) PARTITION BY RANGE (name, id)"
    )
    await connection.execute("ALTER TABLE folk SET (pgherd.autosplit = off)")  # nobody else shall split it
    await connection.execute(
        f"INSERT INTO folk SELECT ({names})[1 + g % {len(_NAMES)}], g, 0, repeat(md5(g::text), 3) FROM generate_series(1, {rows}) g"
    )
    await connection.close()


async def _half(writers: Writers) -> float:
    """Half of a writer's highest rate, in statements a second."""
    job = asyncio.create_task(writers.run())
    await asyncio.sleep(BEFORE_S)
    writers.stop = True
    await job
    rate = len(writers.took) / BEFORE_S / WRITERS
    writers.stop, writers.took = False, []
    return rate * SHARE


async def _measured(place: Place, writers: Writers, name: str) -> list[Figure]:
    caller = await asyncpg.connect(place.dsn)
    sql, shard = "CALL pgherd.split('folk')", None
    if name == "move":
        shard, group = await caller.fetchrow(
            "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'folk' ORDER BY s.range_start NULLS FIRST LIMIT 1"
        )
        sql = f"CALL pgherd.move({shard}, {1 - group})"
    bytes_ = await _bytes(place, caller, shard)
    writers.took, writers.failed = [], 0
    job = asyncio.create_task(writers.run())
    await asyncio.sleep(BEFORE_S)
    begun = time.perf_counter()
    await caller.execute(sql)
    ended = time.perf_counter()
    await asyncio.sleep(1.0)
    writers.stop = True
    await job
    writers.stop = False
    row = await caller.fetchrow(
        "SELECT id, progress FROM pgherd.workflows WHERE kind = $1 ORDER BY id DESC LIMIT 1", name
    )
    if row is not None:
        await caller.execute(
            f"CALL pgherd.confirm({row[0]})"
        )  # the old copy may go: the next change begins on quiet ground
    await caller.close()
    return _figures(writers, name, begun, ended, bytes_)


async def _bytes(place: Place, caller: asyncpg.Connection, shard: int | None) -> int:
    """What a shard takes with its indexes; None: all shards of the table together."""
    rows = await caller.fetch(
        "SELECT s.id FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'folk'"
    )
    wanted = [row[0] for row in rows] if shard is None else [shard]
    found = 0
    for node in place.nodes:
        link = await asyncpg.connect(node)
        found += int(
            await link.fetchval(
                "SELECT coalesce(sum(bytes), 0) FROM pgherd.shard_sizes() WHERE shard = ANY ($1)", wanted
            )
        )
        await link.close()
    return found


def _figures(writers: Writers, name: str, begun: float, ended: float, bytes_: int) -> list[Figure]:
    before = writers.between(begun - BEFORE_S, begun)
    during = writers.between(begun, ended + 0.5)
    seconds = ended - begun
    rates = {"during": len(during) / (seconds + 0.5), "before": len(before) / BEFORE_S}
    pauses = {"during": max(during) * 1000, "before": max(before) * 1000, "aim": PAUSE_MS}
    note = f"{NOTE}. Statements that failed during the {name}: {writers.failed} of {len(during):,}" + "".join(
        f" ({said})" for said in sorted(writers.said)
    )
    return [
        _figure(f"{name}, in all", "s", {"pgherd": seconds}, note),
        _figure(f"{name}, bytes with indexes in all of that time", "MB/s", {"pgherd": bytes_ / 1e6 / seconds}, note),
        _figure(f"{name}, longest pause of a writer", "ms", pauses, note, (Aim(against="aim", most=1.0),)),
        _figure(f"{name}, median of a write", "ms", {"during": median(during) * 1000, "before": median(before) * 1000}, note),
        _figure(f"{name}, writes", "/s", rates, note, (Aim(against="before", least=0.8),)),
    ]  # fmt: skip


def _figure(name: str, unit: str, values: dict[str, float], note: str, aims: tuple[Aim, ...] = ()) -> Figure:
    reached = {what: Reached(median=value, rounds=(value,)) for what, value in values.items()}
    first, *others = values.values()
    names = list(values)[1:]
    ratios = {what: first / other for what, other in zip(names, others, strict=True) if other}
    return Figure(
        item="resharding", name=name, unit=unit, reached=reached, ratios=ratios, aims=aims, note=note
    )
