"""The client's branches: they begin in front of their first statement, in one round trip, and are never cancelled while they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.integration.client_world import World, make, run

import pgherd
from pgherd.client import Database
from pgherd.testing.servers import Yard

UPDATE = "UPDATE purses SET v = v + $1 WHERE id = $2"
DDL = "CREATE TABLE purses (id bigint PRIMARY KEY, v int CHECK (v < 1000)) PARTITION BY HASH (id)"


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    return make(yard)


@asynccontextmanager
async def purses(world: World) -> AsyncIterator[Database]:
    """Purses 1 to 40 with nothing in them, over all groups; UPDATE is prepared on every connection there is."""
    async with pgherd.connect(world.dsn, max_size=1) as db:
        await db.execute("DROP TABLE IF EXISTS purses")
        await db.execute(DDL)
        await db.executemany("INSERT INTO purses VALUES ($1, 0)", [(number,) for number in range(1, 41)])
        for number in range(1, 41):
            await db.execute(UPDATE, 0, number)
        yield db
        await db.execute("DROP TABLE purses")


async def _all(db: Database, amount: int) -> None:
    for number in range(1, 41):
        assert await db.execute(UPDATE, amount, number) == "UPDATE 1"


def test_what_is_sent_behind_begin_is_in_the_transaction(world: World) -> None:
    async def main() -> None:
        async with purses(world) as db:
            with pytest.raises(ZeroDivisionError):
                async with db.transaction():
                    await _all(db, 1)
                    assert await db.fetchval("SELECT sum(v) FROM purses") == 40
                    raise ZeroDivisionError
            assert await db.fetchval("SELECT sum(v) FROM purses") == 0
            async with db.transaction():
                await _all(db, 2)
            assert await db.fetchval("SELECT sum(v) FROM purses") == 80

    run(main())


def test_a_first_statement_that_fails_fails_its_transaction(world: World) -> None:
    async def main() -> None:
        async with purses(world) as db:
            with pytest.raises(asyncpg.CheckViolationError):
                async with db.transaction():
                    await db.execute(UPDATE, 5000, 1)
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                async with db.transaction():
                    with pytest.raises(asyncpg.CheckViolationError):
                        await db.execute(UPDATE, 5000, 1)
                    await db.execute(UPDATE, 1, 1)
            async with db.transaction():  # the connections are in order
                await _all(db, 1)
            assert await db.fetchval("SELECT sum(v) FROM purses") == 40

    run(main())


def test_savepoints_of_any_name_stand_in_branches_that_open_later(world: World) -> None:
    async def main() -> None:
        async with purses(world) as db, db.transaction():
            await db.execute(UPDATE, 1, 1)
            nested = db.transaction()
            await nested.start()
            await _all(db, 1)
            await nested.rollback()
            assert await db.fetchval("SELECT sum(v) FROM purses") == 1

    run(main())


def test_a_connection_that_died_while_idle_is_replaced(world: World) -> None:
    async def main() -> None:
        async with purses(world) as db:
            pid = await db.fetchval("SELECT pg_backend_pid() FROM purses WHERE id = $1", 1)
            async with pgherd.connect(world.dsn) as other:
                for pool in other.pools.values():
                    link = other.link(pool, await pool.wait())
                    await link.run(
                        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid}"
                    )
                    pool.give(link.held)
            async with db.transaction():
                await _all(db, 1)
            assert await db.fetchval("SELECT sum(v) FROM purses") == 40

    run(main())


def test_cancelling_what_ends_a_branch_sends_no_cancel_request(world: World) -> None:
    """As a cancelled COMMIT that waits for its standby would look committed."""

    async def main() -> None:
        async with purses(world) as db:
            table = await db.fetchval("SELECT tableoid::regclass::text FROM purses WHERE id = $1", 1)
            shard = next(
                s for k in db.map.keyspaces.values() for s in k.shards if table == f"shard_{s.id}.purses"
            )
            pool = db.pools[shard.group]
            link = db.link(pool, await pool.overdraw())
            busy = asyncio.create_task(
                link.do(f"SELECT pg_sleep(0.5); UPDATE {table} SET v = 7 WHERE id = 1")
            )
            await asyncio.sleep(0.1)
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
            assert link.broken
            db.lender.give_back(link, reusable=False)
            async with asyncio.timeout(5):
                while await db.fetchval("SELECT v FROM purses WHERE id = $1", 1) != 7:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    run(main())
