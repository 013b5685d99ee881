"""Shards split and move by themselves under load that goes through gateway and client, and say why; nobody sees an error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import asyncpg
import pytest
from elastic_world import NAMES, Elastic, Traffic, opened, share, surname

from pgherd.testing.servers import Yard

Story = Callable[[Elastic], Awaitable[None]]


@pytest.fixture(scope="module")
def gateway(yard: Yard) -> Iterator[str]:
    """A cluster of its own: the settings of balancing hold for all of it."""
    cluster = yard.cluster("elastic", embedded=True, groups=3, gateway=False)
    yield cluster.dsn(cluster.up())
    cluster.kill()


def run(dsn: str, story: Story, seconds: float = 150) -> None:
    async def told() -> None:
        async with asyncio.timeout(seconds), opened(dsn) as world:
            await story(world)

    asyncio.run(told())


def read_by(link: Any, table: str, key: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    return lambda: link.fetch(f"SELECT n FROM {table} WHERE name = $1", key())


def write_by(link: Any, table: str, key: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    return lambda: link.execute(f"UPDATE {table} SET n = n + 1 WHERE name = $1", key())


def test_a_busy_shard_splits_where_its_load_halves_and_the_load_spreads(gateway: str) -> None:
    async def story(world: Elastic) -> None:
        await world.quick()
        await world.gate.execute("CREATE TABLE busy (name text PRIMARY KEY, n int) PARTITION BY RANGE (name)")
        await world.gate.executemany("INSERT INTO busy VALUES ($1, 0)", [(name,) for name in NAMES])
        await world.settings("busy", load_max="0.02", shards_max="4", cooldown="1s", stay="2s")
        chance = random.Random(5)
        key = lambda: surname(chance)  # noqa: E731
        gates = [await asyncpg.connect(gateway) for _ in range(3)]
        jobs = [("gateway", read_by(link, "busy", key)) for link in gates[:2]]
        jobs += [("gateway", write_by(gates[2], "busy", key))]
        jobs += [("client", read_by(world.db, "busy", key)), ("client", write_by(world.db, "busy", key))]
        traffic = Traffic()
        async with traffic.flowing(jobs):
            await world.until("a split", lambda: _shards(world, "busy", 2))
            first = await world.shards("busy")
            assert 0.25 <= share(None, first[0][3]) <= 0.75, first
            await world.until("load in each group", lambda: _level(world, "busy", 0.6))
        assert traffic.failed == [] and min(traffic.done.values()) > 100
        log = await world.log("busy")
        split = next(row for row in log if row["kind"] == "split")
        assert split["code"] in ("too_hot", "to_balance") and split["workflow"]
        origins = await world.gate.fetch("SELECT DISTINCT origin FROM pgherd.workflows")
        assert [row[0] for row in origins] == ["controller"]
        for link in gates:
            await link.close()

    run(gateway, story)


async def _shards(world: Elastic, table: str, least: int) -> bool:
    return len(await world.shards(table)) >= least


async def _level(world: Elastic, table: str, most: float) -> bool:
    parts: dict[int, float] = {}
    for _, group, low, high in await world.shards(table):
        parts[group] = parts.get(group, 0.0) + share(low, high)
    return len(parts) > 1 and max(parts.values()) <= most
