"""Reads from a region that is 80 ms away from the primaries: the nearest replica against the primary."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import asyncpg

import pgherd
from bench.contest import ratios
from bench.figures import Aim, Figure, Reached
from bench.ground import Ground
from pgherd.testing import network
from pgherd.testing.chaos.world import Layout, World

PLACE = "directory"
AWAY_MS = 40.0  # each way
SETTLE_S = 60.0
NOTE = (
    "hosts in network namespaces, 40 ms added each way; the median of single point reads, one after another"
)
_SQL = "SELECT name FROM people WHERE id = $1"

Read = Callable[[int], Awaitable[Any]]


async def run(ground: Ground) -> list[Figure]:
    """Milliseconds for a read. Nothing where no hosts can be made (root and iproute2 are needed)."""
    if (reason := network.missing()) is not None:
        print(f"far: left out, {reason}")
        return []
    layout = Layout(groups=2, nodes=2, far_ms=AWAY_MS)
    world = await asyncio.to_thread(World.start, ground.directory / "far", layout)
    try:
        await _primaries_far(world)
        return [await _measure(ground, world)]
    finally:
        await asyncio.to_thread(world.close)


async def _primaries_far(world: World) -> None:
    """Let each group's primary be the node behind the long cable."""
    deadline = time.monotonic() + SETTLE_S
    for group in range(world.layout.groups):
        while world.region(await asyncio.to_thread(world.primary, group)) != "far":
            if time.monotonic() > deadline:
                raise TimeoutError(f"group {group} does not switch over")
            await asyncio.to_thread(world.switch_over, group)
            await world.healthy()


async def _measure(ground: Ground, world: World) -> Figure:
    rows = ground.effort.accounts
    async with await pgherd.connect(world.client_dsn, region="near") as db:
        await db.execute("CREATE TABLE people (id bigint PRIMARY KEY, name text) PARTITION BY HASH (id)")
        await db.execute(f"INSERT INTO people SELECT g, 'name of ' || g FROM generate_series(1, {rows}) g")
        gateways = {read: await asyncpg.connect(world.dsn) for read in ("bounded 5s", "strong")}
        for read, link in gateways.items():
            await link.execute(f"SET pgherd.read = '{read}'")
        ways: dict[str, Read] = {
            "client, nearest replica (bounded 5s)": lambda id_: db.fetchval(_SQL, id_, read="bounded 5s"),
            "client, primary": lambda id_: db.fetchval(_SQL, id_),
            "gateway, nearest replica (bounded 5s)": lambda id_: gateways["bounded 5s"].fetchval(_SQL, id_),
            "gateway, primary": lambda id_: gateways["strong"].fetchval(_SQL, id_),
        }
        rounds = {name: await _rounds(ground, way) for name, way in ways.items()}
        for link in gateways.values():
            await link.close()
    reached = {name: Reached(median=median(times), rounds=tuple(times)) for name, times in rounds.items()}
    aim = Aim(against="client, primary", most=0.2)
    return Figure(
        item="far", name="point read, primary 80 ms away", unit="ms", reached=reached, ratios=ratios(reached),
        aims=(aim,), note=NOTE,
    )  # fmt: skip


async def _rounds(ground: Ground, read: Read) -> list[float]:
    chance = random.Random(1)
    await read(1)  # connections are made
    found: list[float] = []
    for _ in range(ground.effort.rounds):
        times: list[float] = []
        for _ in range(20):
            begun = time.perf_counter()
            await read(chance.randint(1, ground.effort.accounts))
            times.append((time.perf_counter() - begun) * 1000)
        found.append(median(times))
    return found
