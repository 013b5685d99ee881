"""Clients of gateway and library read and write while shards split, move and merge: none of them sees an error, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
from traffic_world import ACCOUNTS, START, Job, Traffic

import pgherd
from pgherd.deploy.local import LocalCluster
from pgherd.errors import ShardMoved
from pgherd.testing import coverage
from pgherd.testing.plugin import uris


def test_nobody_notices_splits_moves_and_merges(grouped_cluster: LocalCluster, grouped_gateway: str) -> None:
    traffic = Traffic("lively")

    async def story() -> None:
        admin = await asyncpg.connect(grouped_gateway)
        await admin.execute(
            "CREATE TABLE lively_set (k text, id bigint, PRIMARY KEY (k, id)) PARTITION BY RANGE (k)"
        )
        await admin.execute(
            "CREATE TABLE lively_bank (id text PRIMARY KEY, balance int) PARTITION BY RANGE (id)"
        )
        await admin.execute(
            f"INSERT INTO lively_bank SELECT lpad(i::text, 2, '0'), {START} FROM generate_series(0, {ACCOUNTS - 1}) i"
        )
        async with pgherd.connect(uris(grouped_cluster)[0]) as db:
            doors: list[Any] = [db, *[await asyncpg.connect(grouped_gateway) for _ in range(5)]]

            def adding(number: int) -> Job:
                text = "INSERT INTO lively_set VALUES ($1, $2)"
                return traffic.add(doors[number], text, lambda new: (chr(65 + new % 26), new))

            def moving(number: int, seed: int) -> Job:
                return traffic.transfer(doors[number], random.Random(seed), "{:02}".format)

            jobs = [adding(1), moving(2, 1), traffic.look(doors[3], *traffic.all),
                    adding(0), moving(0, 2), traffic.look(doors[0], *traffic.all), adding(4), moving(5, 3)]  # fmt: skip
            names = [
                "set, gateway",
                "bank, gateway",
                "look, gateway",
                "set, client",
                "bank, client",
                "look, client",
                "set, gateway",
                "bank, gateway",
            ]
            tasks = [
                asyncio.create_task(traffic.forever(name, job)) for name, job in zip(names, jobs, strict=True)
            ]
            try:
                await asyncio.sleep(0.3)
                await _rearrange(admin)
            finally:
                traffic.stop = True
                await asyncio.gather(*tasks)
                for door in doors[1:]:
                    await door.close()
        found = [row[0] for row in await admin.fetch("SELECT id FROM lively_set")]
        assert sorted(found) == sorted(traffic.acknowledged)
        assert traffic.wrong == []
        await admin.execute("DROP TABLE lively_set; DROP TABLE lively_bank")
        await admin.close()

    asyncio.run(asyncio.wait_for(story(), 110))
    coverage.covered("statements beside splits, moves and merges", traffic.counts)


async def _rearrange(admin: Any) -> None:
    """Both keyspaces through a split, a move of each half and a merge; nothing is small enough to be done at once."""
    for table, point in (("lively_bank", "20"), ("lively_set", "M")):
        await admin.execute(
            f"CALL pgherd.split('{table}', '{point}', max_pause => '2 s', keep_for => '0 s', offline => false)"
        )
        low, high = await _shards(admin, table)
        await admin.execute(
            f"CALL pgherd.move({high[0]}, {1 - high[1]}, max_pause => '2 s', keep_for => '0 s')"
        )
        await admin.execute(f"CALL pgherd.merge({low[0]}, {high[0]}, max_pause => '2 s', keep_for => '0 s')")


async def _shards(admin: Any, table: str) -> list[tuple[int, int]]:
    rows = await admin.fetch(
        "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t ON t.keyspace = s.keyspace WHERE t.name = $1 ORDER BY s.range_start[1] NULLS FIRST",
        table,
    )
    return [(row[0], row[1]) for row in rows]


def test_a_snapshot_older_than_a_move_is_told_so(grouped_cluster: LocalCluster, grouped_gateway: str) -> None:
    """REPEATABLE READ: rows of the moved shard are neither missing nor newer than the snapshot: it is 40001, in gateway and client."""

    async def story() -> None:
        admin = await asyncpg.connect(grouped_gateway)
        await admin.execute("CREATE TABLE aged (k text PRIMARY KEY, n int) PARTITION BY RANGE (k)")
        await admin.execute("INSERT INTO aged VALUES ('a', 1), ('z', 1)")
        await admin.execute("CALL pgherd.split('aged', 'm', offline => true)")
        (_, first), (high, group) = await _shards(admin, "aged")
        assert first == group
        other = await asyncpg.connect(grouped_gateway)
        async with pgherd.connect(uris(grouped_cluster)[0]) as db:
            for door in (other, db):
                await door.fetch("SELECT n FROM aged WHERE k = 'z'")
                group = 1 - group
                with_error = 0
                try:
                    async with door.transaction(isolation="repeatable_read"):
                        assert await door.fetchval("SELECT n FROM aged WHERE k = 'a'") == 1
                        await admin.execute(
                            f"CALL pgherd.move({high}, {group}, max_pause => '2 s', keep_for => '0 s')"
                        )
                        await admin.execute("UPDATE aged SET n = n + 1 WHERE k = 'z'")
                        await door.fetchval("SELECT n FROM aged WHERE k = 'z'")
                except (asyncpg.SerializationError, ShardMoved):
                    with_error = 1
                assert with_error
                async with door.transaction(isolation="repeatable_read"):
                    assert await door.fetchval("SELECT n FROM aged WHERE k = 'z'") > 1
        await admin.execute("DROP TABLE aged")
        await other.close()
        await admin.close()

    asyncio.run(asyncio.wait_for(story(), 100))
