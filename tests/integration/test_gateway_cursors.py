"""Reads over several groups that outlive a statement, or run beside a pinned connection: nothing stays open behind them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from pgherd.deploy.local import LocalCluster
from pgherd.testing.plugin import uris

TABLE = "gateway_cursors"


@pytest.fixture(scope="module")
def table(gateway: str) -> str:
    async def make() -> None:
        connection = await asyncpg.connect(gateway)
        await connection.execute(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY) PARTITION BY HASH (id)")
        await connection.execute(f"INSERT INTO {TABLE} SELECT generate_series(1, 20)")
        await connection.close()

    asyncio.run(make())
    return TABLE


async def open_transactions(cluster: LocalCluster, mark: str) -> int:
    """How many of the session's server connections are inside a transaction."""
    connection = await asyncpg.connect(uris(cluster)[0])
    try:
        return await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in transaction%'",
            mark,
        )
    finally:
        await connection.close()


async def _cursor(dsn: str, table: str, close: str, mark: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"application_name": mark})
    for text in (
        "BEGIN",
        f"DECLARE c CURSOR FOR SELECT * FROM {table} ORDER BY id",
        "FETCH 2 FROM c",
        close,
        "COMMIT",
    ):
        if text:
            await connection.execute(text)
    await connection.close()


@pytest.mark.parametrize("close", ["", "CLOSE c", "CLOSE ALL"])
def test_a_cursor_over_groups_leaves_no_transaction_open(
    gateway: str, embedded_cluster: LocalCluster, table: str, close: str
) -> None:
    mark = f"cursor {close}"
    asyncio.run(_cursor(gateway, table, close, mark))
    assert asyncio.run(open_transactions(embedded_cluster, mark)) == 0


def test_a_pinned_connection_in_a_transaction_is_not_used_beside_it(gateway: str, table: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(gateway)
        try:
            await connection.execute("CREATE TEMP TABLE beside AS SELECT 1 AS one")
            async with connection.transaction():
                assert await connection.fetchval("SELECT count(*) FROM beside") == 1
                assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 20
                await connection.execute("INSERT INTO beside VALUES (2)")
                assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 20
            assert await connection.fetchval("SELECT count(*) FROM beside") == 2
        finally:
            await connection.close()

    asyncio.run(run())


def test_portals_of_one_transaction_never_share_a_name(gateway: str, table: str) -> None:
    """A row limit in a transaction leaves a portal on the server until the transaction ends."""

    async def story() -> None:
        connection = await asyncpg.connect(gateway, statement_cache_size=0)
        async with connection.transaction(isolation="repeatable_read"):
            for number in range(200):
                sql = f"SELECT id + {number} FROM {table} WHERE id = $1"  # another text each time: none is known
                assert await connection.fetchval(sql, 1 + number % 20) == 1 + number % 20 + number
        await connection.close()

    asyncio.run(story())
