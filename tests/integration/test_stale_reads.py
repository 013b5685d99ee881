"""Reads by a gateway that has not heard of a move: never half of a transaction, wherever the shards lie by now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from late_gateway import late

from pgherd.catalog.model import GroupId
from pgherd.deploy.local import LocalCluster
from pgherd.testing.lender import PlainLender
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard
from pgherd.transaction import recovery
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.snapshot import Gates
from pgherd.transaction.two_phase import Phase, Protocol

pytestmark = pytest.mark.usefixtures("grouped_gateway")


@pytest.fixture(scope="module")
def late_gateway(yard: Yard, grouped_cluster: LocalCluster, grouped_gateway: str) -> Iterator[str]:
    del grouped_gateway
    with late(yard, grouped_cluster) as dsn:
        yield dsn


async def shards(admin: Any) -> list[tuple[int, int]]:
    """Number and group of the two shards, in the order of their ranges."""
    rows = await admin.fetch(
        "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t ON t.keyspace = s.keyspace WHERE t.name = 'halves' ORDER BY s.range_start[1] NULLS FIRST"
    )
    return [(row[0], row[1]) for row in rows]


async def half_done(
    lender: PlainLender, moved: list[tuple[int, int]], half: asyncio.Event, on: asyncio.Event
) -> None:
    """Take one from the first shard and give it to the second; wait in the moment in which only the first group shows it."""

    async def stop(when: str, protocol: Protocol) -> None:
        if when == "before" and protocol.phase is Phase.FINISHING:
            half.set()
            await on.wait()

    tx = Transaction(lender, tuple(lender.uris), gates=Gates(lender), on_step=stop)
    for amount, (shard, group) in zip((-1, 1), moved, strict=True):
        link = await tx.branch(GroupId(group))
        await link.run(f"UPDATE shard_{shard}.halves SET n = n + ({amount})")
    await tx.commit()


async def until_waiting(lender: PlainLender, look: asyncio.Future[Any]) -> None:
    """Return when the look is over, or waits at a gate."""
    sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%LOCK TABLE pgherd.gate %'"
    async with asyncio.timeout(20):
        while not look.done():
            for group in lender.uris:
                if await recovery.ask(lender, group, sql):
                    return
            await asyncio.sleep(0.01)


LOOKS = {
    "one group": "SELECT sum(n)::int FROM halves",
    "one group, limited": "SELECT sum(n)::int AS total FROM halves ORDER BY total LIMIT 3",
    "a write of a single table": "WITH told AS (INSERT INTO noted SELECT sum(n) FROM halves RETURNING n) SELECT n::int FROM told",
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whoever_takes_the_shards_for_neighbours_sees_no_half_of_a_transaction(
    grouped_cluster: LocalCluster, grouped_gateway: str, late_gateway: str, look: str
) -> None:
    async def story() -> None:
        admin, other = await asyncpg.connect(grouped_gateway), await asyncpg.connect(late_gateway)
        lender = PlainLender(dict(zip(map(GroupId, (0, 1)), uris(grouped_cluster), strict=True)))
        try:
            await admin.execute(
                "CREATE TABLE halves (k text PRIMARY KEY, n int) PARTITION BY RANGE (k); CREATE TABLE noted (n bigint)"
            )
            await admin.execute("INSERT INTO halves VALUES ('a', 100), ('z', 100)")
            await admin.execute("CALL pgherd.split('halves', 'm', offline => true)")
            (first, group), (second, same) = await shards(admin)
            if (group, same) != (0, 0):
                for shard in (first, second):
                    await admin.execute(f"CALL pgherd.move({shard}, 0, offline => true)")
            assert await other.fetchval(look) == 200
            await admin.execute(f"CALL pgherd.move({second}, 1, offline => true)")
            half, on = asyncio.Event(), asyncio.Event()
            transfer = asyncio.create_task(half_done(lender, await shards(admin), half, on))
            await half.wait()
            seen = asyncio.ensure_future(other.fetchval(look))
            await until_waiting(lender, seen)
            on.set()
            await transfer
            assert await seen == 200
        finally:
            await admin.execute("DROP TABLE IF EXISTS halves; DROP TABLE IF EXISTS noted")
            await lender.close()
            await admin.close()
            await other.close()

    asyncio.run(asyncio.wait_for(story(), 100))


def test_a_row_is_locked_where_it_is(
    grouped_cluster: LocalCluster, grouped_gateway: str, late_gateway: str
) -> None:
    """SELECT ... FOR UPDATE by a gateway with an old map: not through a foreign table, where its own UPDATE would wait for it."""

    async def story() -> None:
        admin, other = await asyncpg.connect(grouped_gateway), await asyncpg.connect(late_gateway)
        lock = "SELECT n FROM kept WHERE k = 'z' FOR UPDATE"
        try:
            await admin.execute("CREATE TABLE kept (k text PRIMARY KEY, n int) PARTITION BY RANGE (k)")
            await admin.execute("INSERT INTO kept VALUES ('z', 100)")
            assert await other.fetchval(lock) == 100
            for _ in range(2):
                shard, group = await admin.fetchrow(
                    "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t ON t.keyspace = s.keyspace WHERE t.name = 'kept'"
                )
                await admin.execute(f"CALL pgherd.move({shard}, {1 - group}, offline => true)")
                async with other.transaction():
                    assert await other.fetchval(lock) == 100
                    await other.execute("UPDATE kept SET n = n + 0 WHERE k = 'z'")
        finally:
            await admin.execute("DROP TABLE IF EXISTS kept")
            await admin.close()
            await other.close()

    asyncio.run(asyncio.wait_for(story(), 60))
