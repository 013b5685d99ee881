"""Storms over a cluster on hosts of its own: whatever breaks, nothing acknowledged is lost, doubled or half done.

PGHERD_CHAOS_SEEDS (a list such as `7,8`), PGHERD_CHAOS_ROUNDS and PGHERD_CHAOS_CHANGES (of shards, in one storm) choose others than the short
run of the test suite; `make chaos` does.
A failing seed draws the same faults again, though not the same timing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Sequence

import pytest

from pgherd.catalog.model import GroupId
from pgherd.testing import network
from pgherd.testing.chaos.direct import Direct
from pgherd.testing.chaos.faces import ClientFace, GatewayFace
from pgherd.testing.chaos.moving import Moving
from pgherd.testing.chaos.reading import Heartbeat, Sessions
from pgherd.testing.chaos.storm import Report, run
from pgherd.testing.chaos.workloads import Inserts, Lists, Transfers, Workload
from pgherd.testing.chaos.world import Layout, World
from pgherd.testing.coverage import covered
from pgherd.testing.servers import Yard

SEEDS = [int(seed) for seed in os.environ.get("PGHERD_CHAOS_SEEDS", "1").split(",")]
ROUNDS = int(os.environ.get("PGHERD_CHAOS_ROUNDS", "3"))
CHANGES = int(os.environ.get("PGHERD_CHAOS_CHANGES", "5"))
NODES = int(os.environ.get("PGHERD_CHAOS_NODES", "2"))

MISSING = network.missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"no hosts can be made here: {MISSING}")


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    world = World.start(yard.directory / "chaos", Layout(groups=2, nodes=NODES))
    yield world
    kept = os.environ.get("PGHERD_CHAOS_LOGS")
    world.close()
    if kept:
        shutil.copytree(
            world.directory, kept, ignore=shutil.ignore_patterns("data", ".s.PGSQL*"), dirs_exist_ok=True
        )


async def storm(
    world: World,
    seed: int,
    workloads: Sequence[Workload],
    rounds: int,
    enough: Callable[[], bool] = lambda: True,
) -> Report:
    faces = [GatewayFace(world.dsn), ClientFace(world.client_dsn, region="near")]
    try:
        return await run(world, seed, workloads=workloads, faces=faces, rounds=rounds, enough=enough)
    finally:
        for face in faces:
            await face.close()


@pytest.mark.slow
@pytest.mark.timeout(300 + 120 * ROUNDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost_whatever_breaks(world: World, seed: int) -> None:
    workloads = [Inserts(), Transfers(), Lists(), Sessions(), Heartbeat(), Direct(world)]
    report = asyncio.run(storm(world, seed, workloads, ROUNDS))
    print(report)
    assert not report.violations, str(report)
    assert all(report.counts[f"set, {face} done"] for face in ("gateway", "client"))
    covered("chaos: faults", report.faults)
    covered("chaos: workloads", report.counts)


@pytest.mark.slow
@pytest.mark.timeout(300 + 60 * CHANGES)
@pytest.mark.parametrize("seed", SEEDS)
def test_shards_split_move_and_merge_whatever_breaks(world: World, seed: int) -> None:
    moving = Moving(
        world.lender(),
        tuple(map(GroupId, range(world.layout.groups))),
        ("chaos_set", "chaos_money", "chaos_lists"),
        most=CHANGES,
    )
    workloads = [Inserts(), Transfers(), Lists(), Direct(world), moving]
    report = asyncio.run(storm(world, seed + 1000, workloads, 2, lambda: moving.finished >= CHANGES))
    print(report)
    assert not report.violations, f"{report}\n{moving.errors}"
    assert moving.finished >= CHANGES, f"{report}\n{moving.errors}"
    covered("chaos with moving shards: faults", report.faults)
    covered("chaos with moving shards: workloads", report.counts)
