"""Shards split and move by themselves under load that goes through gateway and client, and say why; nobody sees an error."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import asyncpg
import pytest
from elastic_world import NAMES, Elastic, Traffic, opened, share, surname

from pgherd.deploy.local import LocalCluster
from pgherd.testing.servers import Yard

Story = Callable[[Elastic], Awaitable[None]]


@pytest.fixture(scope="module")
def cluster(yard: Yard) -> Iterator[LocalCluster]:
    """A cluster of its own: the settings of balancing hold for all of it."""
    cluster = yard.cluster("elastic", embedded=True, groups=3, gateway=False)
    yield cluster
    cluster.kill()


@pytest.fixture
def gateway(cluster: LocalCluster) -> str:
    return cluster.dsn(cluster.up())


def run(dsn: str, story: Story, seconds: float = 150) -> None:
    async def told() -> None:
        async with asyncio.timeout(seconds), opened(dsn) as world:
            await story(world)

    asyncio.run(told())


def read_by(link: Any, table: str, key: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    return lambda: link.fetch(f"SELECT n FROM {table} WHERE {table}_name = $1", key())


def write_by(link: Any, table: str, key: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    return lambda: link.execute(f"UPDATE {table} SET n = n + 1 WHERE {table}_name = $1", key())


def test_a_busy_shard_splits_where_its_load_halves_and_the_load_spreads(gateway: str) -> None:
    async def story(world: Elastic) -> None:
        await world.quick()
        await world.gate.execute(
            "CREATE TABLE busy (busy_name text PRIMARY KEY, n int) PARTITION BY RANGE (busy_name)"
        )
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
        await world.gate.execute("DROP TABLE busy")

    run(gateway, story)


def test_what_a_split_cannot_help_is_left_alone_and_says_why(gateway: str) -> None:
    async def story(world: Elastic) -> None:
        await world.quick()
        for table in ("smiths", "quiet"):
            await world.gate.execute(
                f"CREATE TABLE {table} ({table}_name text PRIMARY KEY, n int) PARTITION BY RANGE ({table}_name)"
            )
            await world.settings(table, load_max="0.02", cooldown="1s", automove="off")
        await world.settings("quiet", autosplit="off")
        chance = random.Random(6)
        key = lambda: "Smith" if chance.random() < 0.97 else surname(chance)  # noqa: E731
        jobs = [
            ("gateway", read_by(world.gate, "smiths", key)),
            *(("client", read_by(world.db, "smiths", key)) for _ in range(2)),
            *(("quiet", read_by(world.db, "quiet", lambda: surname(chance))) for _ in range(3)),
        ]
        traffic = Traffic()
        asking = await asyncpg.connect(gateway)
        world.gate, jobs_gate = asking, world.gate
        async with traffic.flowing(jobs):
            await world.until("the hot key's reason", lambda: _told(world, "smiths", "hot_key"))
            await world.until("autosplit's reason", lambda: _told(world, "quiet", "off"))
        assert traffic.failed == []
        (row,) = [row for row in await world.log("smiths") if row["code"] == "hot_key"]
        assert "Smith" in row["reason"] and "composite key" in row["reason"]
        for table in ("smiths", "quiet"):
            assert len(await world.shards(table)) == 1, await world.log(table)
            assert not [row for row in await world.log(table) if row["workflow"]]
            await world.gate.execute(f"DROP TABLE {table}")
        await asking.close()
        world.gate = jobs_gate

    run(gateway, story)


def test_growing_keys_are_split_at_their_end(gateway: str) -> None:
    async def story(world: Elastic) -> None:
        await world.quick()
        await world.gate.execute(
            "CREATE TABLE events (id bigint PRIMARY KEY, body text) PARTITION BY RANGE (id)"
        )
        await world.settings("events", size_max="1MB", cooldown="5min", automove="off")
        numbers = itertools.count(1)

        async def add() -> None:
            number = next(numbers)
            await world.db.execute(
                "INSERT INTO events VALUES ($1, $2)", number, random.Random(number).randbytes(2000).hex()
            )

        traffic = Traffic()
        async with traffic.flowing([("client", add), ("client", add)]):
            await world.until("a split", lambda: _shards(world, "events", 2))
        assert traffic.failed == []
        left, right = await world.shards("events")
        (split,) = [row for row in await world.log("events") if row["kind"] == "split"]
        assert split["code"] == "grows" and left[3] == right[2]
        below = await world.gate.fetchval("SELECT count(*) FROM events WHERE id < $1", int(left[3] or 0))
        assert below > 0.9 * traffic.done["client"]  # nothing of the past was divided
        await world.gate.execute("DROP TABLE events")

    run(gateway, story)


def test_another_controller_goes_on_with_what_a_killed_one_began(cluster: LocalCluster) -> None:
    async def story(world: Elastic) -> None:
        await world.quick()
        await world.gate.execute(
            "CREATE TABLE orphans (orphans_name text PRIMARY KEY, n int) PARTITION BY RANGE (orphans_name)"
        )
        await world.gate.executemany("INSERT INTO orphans VALUES ($1, 0)", [(name,) for name in NAMES])
        await world.settings("orphans", load_max="0.02", shards_max="2", cooldown="1s", automove="off")
        chance = random.Random(7)
        jobs = [("client", write_by(world.db, "orphans", lambda: surname(chance))) for _ in range(4)]
        traffic = Traffic()
        async with traffic.flowing(jobs):
            await world.until("a workflow", lambda: _begun(world, "orphans"))
            pid = cluster.gateway.pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while cluster.gateway.pid() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            again = cluster.up()  # in this thread: the gateway ends with the one that started it
            await world.gate.close()
            world.gate = await asyncpg.connect(cluster.dsn(again))
            await world.until("the split", lambda: _shards(world, "orphans", 2))
        assert traffic.failed == []
        assert await world.gate.fetchval("SELECT sum(n) FROM orphans") == traffic.done["client"]
        log = await world.log("orphans")
        assert [row["kind"] for row in log if row["workflow"]] == [
            "split"
        ]  # begun once, and told with its number
        await world.gate.execute("DROP TABLE orphans")

    run(cluster.dsn(cluster.up()), story)


def test_rebalance_and_drain(gateway: str) -> None:
    async def story(world: Elastic) -> None:
        await world.quick(balancing="off")
        told: list[str] = []
        world.gate.add_log_listener(lambda _, message: told.append(message.message))
        await world.gate.execute(
            "CREATE TABLE heavy (heavy_name text PRIMARY KEY, body text) PARTITION BY RANGE (heavy_name)"
        )
        for point in ("D", "H", "M", "R"):
            await world.gate.execute(f"CALL pgherd.split('heavy', '{point}')")
        for number, *_ in await world.shards("heavy"):
            await world.gate.execute(f"CALL pgherd.move({number}, 1)")
        rows = [(name, random.Random(name).randbytes(4000).hex()) for name in NAMES]
        await world.gate.executemany("INSERT INTO heavy VALUES ($1, $2)", rows)
        told.clear()
        await world.gate.execute("CALL pgherd.rebalance(dry_run => true)")
        assert "moves" in told[0] and {group for _, group, *_ in await world.shards("heavy")} == {1}, told
        await world.gate.execute("CALL pgherd.rebalance()")
        assert {group for _, group, *_ in await world.shards("heavy")} == {0, 1, 2}
        await world.db.drain(2)
        assert {group for _, group, *_ in await world.shards("heavy")} == {0, 1}
        await world.db.drain(2, stop=True)
        assert await world.gate.fetchval("SELECT count(*) FROM heavy") == len(NAMES)
        found = await world.gate.fetch(
            "SELECT DISTINCT origin FROM pgherd.workflows WHERE keyspace = 'heavy'"
        )
        assert {row[0] for row in found} >= {"rebalance", "controller"}
        await world.gate.execute("DROP TABLE heavy")
        await world.gate.execute("CALL pgherd.set_balancing('balancing', 'default')")

    run(gateway, story)


def test_settings_are_checked(gateway: str) -> None:
    async def story(world: Elastic) -> None:
        await world.gate.execute(
            "CREATE TABLE meek (meek_name text PRIMARY KEY) PARTITION BY RANGE (meek_name)"
        )
        for call in (
            "set_keyspace('meek', 'size', '1GB')",
            "set_keyspace('meek', 'size_max', 'much')",
            "set_balancing('round', '0')",
            "set_balancing('speed', 'high')",
            "drain(7)",
        ):
            with pytest.raises(asyncpg.PostgresError) as found:
                await world.gate.execute(f"CALL pgherd.{call}")
            assert found.value.sqlstate == "22023", call
        await world.db.set_keyspace("meek", "window", "02:00-05:00")
        await world.db.set_keyspace("meek", "autosplit", "off")
        await world.db.set_keyspace("meek", "window", None)
        rows = await world.gate.fetch(
            "SELECT name, value FROM pgherd.keyspace_settings WHERE keyspace = 'meek'"
        )
        assert [tuple(row) for row in rows] == [("autosplit", "off")]
        await world.gate.execute("DROP TABLE meek")

    run(gateway, story)


async def _told(world: Elastic, table: str, code: str) -> bool:
    return any(row["code"] == code for row in await world.log(table))


async def _begun(world: Elastic, table: str) -> bool:
    return any(row["workflow"] for row in await world.log(table))


async def _shards(world: Elastic, table: str, least: int) -> bool:
    return len(await world.shards(table)) >= least


async def _level(world: Elastic, table: str, most: float) -> bool:
    parts: dict[int, float] = {}
    for _, group, low, high in await world.shards(table):
        parts[group] = parts.get(group, 0.0) + share(low, high)
    return len(parts) > 1 and max(parts.values()) <= most
