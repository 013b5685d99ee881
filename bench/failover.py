"""How long nobody could write: a writer through the gateway and one through the client, while a node of their group fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import asyncpg

import pgherd
from bench.figures import Figure, Reached
from bench.ground import Ground
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.switchover import switchover
from pgherd.errors import PgherdError
from pgherd.testing.nodes import NodeFaults, primary, wait_healthy

PLACE = "replicated"
NOTE = "longest time between two acknowledged writes to the group, from before the fault until everything runs again"
BEFORE_S = 1.0
WITHIN_S = 60.0
_ERRORS = (PgherdError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, EOFError)

Fault = Callable[[LocalCluster], None]


def _crash(cluster: LocalCluster) -> None:
    NodeFaults(cluster, primary(cluster, 0)).kill("postgres")


def _lose_host(cluster: LocalCluster) -> None:
    NodeFaults(cluster, primary(cluster, 0)).burn()


def _freeze_host(cluster: LocalCluster) -> None:
    NodeFaults(cluster, primary(cluster, 0)).freeze()


def _switch(cluster: LocalCluster) -> None:
    current = cluster.existing()
    config = cluster.replicated(current).config(current.nodes[0])
    asyncio.run(switchover(config, 0, None, lambda _: None))


FAULTS: dict[str, Fault] = {
    "PostgreSQL crash": _crash,
    "host lost": _lose_host,
    "host frozen": _freeze_host,
    "planned switchover": _switch,
}


@dataclass(slots=True)
class Writer:
    """One connection (or the client library), one row, again and again. `failed` counts errors that reached it."""

    name: str
    dsn: str
    row: int
    moments: list[float] = field(default_factory=list[float])
    failed: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop`."""
        clock = asyncio.get_running_loop()
        connect: Any = asyncpg.connect if self.name.startswith("gateway") else pgherd.connect
        while not stop.is_set():
            with suppress(*_ERRORS):
                face = await connect(self.dsn)
                try:
                    while not stop.is_set():
                        await face.execute("UPDATE beats SET n = n + 1 WHERE id = $1", self.row)
                        self.moments.append(clock.time())
                except _ERRORS:
                    self.failed += 1
                finally:
                    await face.close()

    @property
    def gap_s(self) -> float:
        """The longest time between two acknowledged writes."""
        return max((b - a for a, b in zip(self.moments, self.moments[1:], strict=False)), default=WITHIN_S)


async def run(ground: Ground) -> list[Figure]:
    """Seconds without writes for each fault: minimum, median, maximum."""
    cluster = ground.replicated
    rows = await _rows(cluster)
    figures: list[Figure] = []
    for name, fault in FAULTS.items():
        rounds = [await _round(cluster, fault, rows) for _ in range(ground.effort.faults)]
        figures.append(_figure(name, rounds))
    return figures


def _figure(name: str, rounds: list[list[Writer]]) -> Figure:
    by_writer = list(zip(*rounds, strict=True))
    reached: dict[str, Reached] = {}
    for writers in by_writer:
        gaps = tuple(writer.gap_s for writer in writers)
        reached[writers[0].name] = Reached(median=median(gaps), rounds=gaps)
    errors = ", ".join(f"{writers[0].name} {sum(w.failed for w in writers)}" for writers in by_writer)
    note = f"{NOTE}. Errors that reached the writers, {name}, {len(rounds)} rounds: {errors}"
    return Figure(item="failover", name=name, unit="s", reached=reached, note=note)


async def _round(cluster: LocalCluster, fault: Fault, rows: tuple[int, int]) -> list[Writer]:
    dsn = cluster.dsn(cluster.existing())
    writers = [
        Writer("gateway", dsn, rows[0]),
        Writer("client", dsn, rows[0]),
        Writer("gateway, the other group", dsn, rows[1]),
    ]
    stop = asyncio.Event()
    jobs = [asyncio.create_task(writer.run(stop)) for writer in writers]
    await asyncio.sleep(BEFORE_S)
    begun = asyncio.get_running_loop().time()
    await asyncio.to_thread(fault, cluster)
    async with asyncio.timeout(WITHIN_S):
        while any(_stands(writer, begun) for writer in writers):  # noqa: ASYNC110 they are at work meanwhile
            await asyncio.sleep(0.05)
    await asyncio.to_thread(wait_healthy, cluster)
    await asyncio.sleep(BEFORE_S)
    stop.set()
    await asyncio.gather(*jobs)
    return writers


def _stands(writer: Writer, begun: float) -> bool:
    """Has it not written since well after the fault, or not for a while?"""
    last = writer.moments[-1] if writer.moments else 0.0
    return last < begun + 0.5 or asyncio.get_running_loop().time() - last > 0.2


async def _rows(cluster: LocalCluster) -> tuple[int, int]:
    """A table of one row in each group, and their ids, group 0's first."""
    async with await pgherd.connect(cluster.dsn(cluster.existing())) as db:
        await db.execute(
            "CREATE TABLE beats (id bigint PRIMARY KEY, n bigint NOT NULL) PARTITION BY HASH (id)"
        )
        await db.execute("INSERT INTO beats SELECT i, 0 FROM generate_series(1, 64) i")
        found: dict[int, int] = {}
        for row in range(1, 65):
            keyspace = db.map.keyspace_of(db.map.tables["public", "beats"])
            shard = keyspace.locate((row,))
            if shard is not None:
                found.setdefault(int(shard.group), row)
    return found[0], found[1]
