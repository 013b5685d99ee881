"""The client on a real cluster: asyncpg's habits, transactions over groups, changed maps, groups that are down."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tests.integration.client_world import World, make, run

import pgherd
from pgherd.client import Database
from pgherd.errors import GroupDown, NullKey, PgherdError, Refused
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    return make(yard)


@asynccontextmanager
async def scratch(world: World, ddl: str) -> AsyncIterator[Database]:
    """A database with a table t of the test's own."""
    async with pgherd.connect(world.dsn) as db:
        await db.execute("DROP TABLE IF EXISTS t")
        await db.execute(ddl)
        yield db
        await db.execute("DROP TABLE t")


HASHED = "CREATE TABLE t (id bigint PRIMARY KEY, v int CHECK (v < 1000)) PARTITION BY HASH (id)"


def test_any_node_is_a_door(world: World) -> None:
    async def main() -> None:
        for dsn in world.dsns:
            async with pgherd.connect(dsn) as db:
                row = await db.fetchrow("SELECT name, credit FROM users WHERE id = $1", 5)
                assert (row["name"], row["credit"]) == ("user 5", 50)
                assert await db.fetchval("SELECT body FROM notes WHERE id = 3") == "note 3"
        db = await pgherd.connect(world.dsn)
        assert await db.fetchval("SELECT count(*) FROM users") == 40
        await db.close()

    run(main())


def test_what_is_not_a_cluster_says_so(world: World) -> None:
    async def main() -> None:
        with pytest.raises(PgherdError, match="no pgherd cluster"):
            await pgherd.connect(world.plain)
        with pytest.raises(GroupDown, match="cannot connect"):
            await pgherd.connect("postgresql://postgres@127.0.0.1:1/x")

    run(main())


def test_the_short_way_and_the_long_way_agree(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            query = "SELECT id, name FROM users WHERE id = $1"
            for _ in range(3):
                for number in range(1, 45):
                    row = await db.fetchrow(query, number)
                    assert (row["id"] if row else None) == (number if number <= 40 else None)
                    assert len(await db.fetch(query, number)) == (number <= 40)
                    assert await db.fetchval(query, number, column=1) == (
                        f"user {number % 7}" if row else None
                    )
            assert await db.fetchrow(query, None) is None
            with pytest.raises(asyncpg.DataError):
                await db.fetchrow(query, "five")
            with pytest.raises(asyncpg.InterfaceError):
                await db.fetchrow(query)
            assert (await db.fetchrow(query, 7))["name"] == "user 0"

    run(main())


def test_errors_are_asyncpgs_own(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            assert await db.execute("INSERT INTO t VALUES ($1, $2)", 1, 1) == "INSERT 0 1"
            for _ in range(2):
                with pytest.raises(asyncpg.UniqueViolationError):
                    await db.execute("INSERT INTO t VALUES ($1, $2)", 1, 1)
            with pytest.raises(asyncpg.CheckViolationError):
                await db.execute("INSERT INTO t VALUES ($1, $2)", 2, 5000)
            with pytest.raises(asyncpg.UndefinedTableError):
                await db.fetch("SELECT * FROM nowhere")
            with pytest.raises(asyncpg.UndefinedColumnError):
                await db.fetch("SELECT nothing FROM t WHERE id = 1")
            with pytest.raises(NullKey):
                await db.execute("INSERT INTO t VALUES ($1, 1)", None)
            with pytest.raises(PgherdError) as syntax:
                await db.fetch("SELEC 1")
            assert syntax.value.sqlstate == "42601"
            assert await db.fetchval("SELECT count(*) FROM t") == 1

    run(main())


def test_what_would_leave_state_behind_is_refused(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn, server_settings={"work_mem": "7MB"}) as db:
            for sql in ("SET work_mem = '9MB'", "BEGIN", "PREPARE a AS SELECT 1", "LISTEN a", "DISCARD ALL"):
                with pytest.raises(Refused) as refused:
                    await db.execute(sql)
                assert refused.value.hint
            async with db.transaction():
                await db.execute("SET LOCAL work_mem = '9MB'")
                assert await db.fetchval("SHOW work_mem") == "9MB"
            assert await db.fetchval("SHOW work_mem") == "7MB"

    run(main())


def test_transactions_over_groups(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            async with db.transaction() as tx:
                for number in range(20):
                    await db.execute("INSERT INTO t VALUES ($1, $2)", number, number)
                assert await db.fetchval("SELECT count(*) FROM t") == 20
                assert await tx.fetchval("SELECT sum(v) FROM t") == 190
                name = tx.id
            assert await db.outcome(name) == "committed"
            with pytest.raises(ZeroDivisionError):
                async with db.transaction() as tx:
                    await db.execute("UPDATE t SET v = v + 100")
                    name = tx.id
                    raise ZeroDivisionError
            assert await db.outcome(name) == "aborted"
            assert await db.fetchval("SELECT sum(v) FROM t") == 190

    run(main())


def test_nested_transactions_are_savepoints(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            async with db.transaction():
                await db.execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
                with pytest.raises(asyncpg.UniqueViolationError):
                    async with db.transaction():
                        await db.execute("INSERT INTO t VALUES (5, 5), (6, 6), (7, 7), (8, 8)")
                        await db.execute("INSERT INTO t VALUES ($1, 0)", 1)
                async with db.transaction():
                    await db.execute("INSERT INTO t VALUES (9, 9)")
                assert await db.fetchval("SELECT sum(v) FROM t") == 19
            assert await db.fetchval("SELECT sum(v) FROM t") == 19

    run(main())


def test_a_failed_transaction_takes_nothing_more(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            transaction = db.transaction()
            await transaction.start()
            await db.execute("INSERT INTO t VALUES (1, 1)")
            with pytest.raises(asyncpg.UniqueViolationError):
                await db.execute("INSERT INTO t VALUES (1, 1)")
            for _ in range(2):
                with pytest.raises(asyncpg.InFailedSQLTransactionError):
                    await db.fetchval("SELECT count(*) FROM notes")
            await transaction.rollback()
            assert await db.fetchval("SELECT count(*) FROM t") == 0

    run(main())


def test_repeatable_read_holds_one_snapshot(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db, pgherd.connect(world.dsn) as other:
            await db.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 30) g")
            async with db.transaction(isolation="repeatable_read", readonly=True):
                before = await db.fetchval("SELECT sum(v) FROM t")
                await other.execute("UPDATE t SET v = v + 1")
                assert await db.fetchval("SELECT sum(v) FROM t") == before
                assert await db.fetchval("SELECT v FROM t WHERE id = $1", 7) == 7
            assert await db.fetchval("SELECT sum(v) FROM t") == before + 30

    run(main())


def test_many_tasks_and_a_constant_total(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            await db.execute("INSERT INTO t SELECT g, 100 FROM generate_series(0, 9) g")
            seen: set[int] = set()
            moved = 0

            async def transfer(seed: int) -> None:
                nonlocal moved
                for step in range(6):
                    first, second = sorted(((seed + step) % 10, (seed * 3 + step * 7 + 1) % 10))
                    if first != second:
                        async with db.transaction():
                            await db.execute("UPDATE t SET v = v - 1 WHERE id = $1", first)
                            await db.execute("UPDATE t SET v = v + 1 WHERE id = $1", second)
                        moved += 1

            async def watch() -> None:
                for _ in range(8):
                    seen.add(await db.fetchval("SELECT sum(v) FROM t"))

            async with asyncio.TaskGroup() as tasks:
                for seed in range(16):
                    tasks.create_task(transfer(seed))
                tasks.create_task(watch())
                tasks.create_task(watch())
            assert moved > 50
            assert seen == {1000}

    run(main())


def test_tasks_started_in_a_transaction_belong_to_it(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            with pytest.raises(ZeroDivisionError):
                async with db.transaction():
                    async with asyncio.TaskGroup() as tasks:
                        for number in range(8):
                            tasks.create_task(db.execute("INSERT INTO t VALUES ($1, 1)", number))
                    assert await db.fetchval("SELECT count(*) FROM t") == 8
                    raise ZeroDivisionError
            assert await db.fetchval("SELECT count(*) FROM t") == 0

    run(main())


def test_more_tasks_than_connections(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn, max_size=2) as db:
            single = [db.fetchval("SELECT id FROM users WHERE id = $1", n) for n in range(1, 41)]
            whole = [db.fetchval("SELECT count(*) FROM users") for _ in range(20)]
            answers = await asyncio.gather(*single, *whole)
            assert answers == [*range(1, 41), *[40] * 20]

    run(main())


def test_a_changed_map_is_noticed(world: World) -> None:
    async def main() -> None:
        async with (
            scratch(world, "CREATE TABLE t (k text PRIMARY KEY, v int) PARTITION BY RANGE (k)") as db,
            pgherd.connect(world.dsn) as other,
        ):
            query = "SELECT v FROM t WHERE k = $1"
            assert await other.fetchval(query, "z") is None
            await db.execute("CALL pgherd.split('t', 'm')")
            assert await other.execute("INSERT INTO t VALUES ($1, 1)", "z") == "INSERT 0 1"
            assert await other.fetchval(query, "z") == 1
            await other.execute("DELETE FROM t")
            shard = await db.fetchval(
                "SELECT max(s.id) FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 't'"
            )
            for group in (1, 2, 0, 1):
                await db.execute(f"CALL pgherd.move({shard}, {group})")
                for _ in range(2):
                    await other.execute(
                        "INSERT INTO t VALUES ($1, 1) ON CONFLICT (k) DO UPDATE SET v = 9", "z"
                    )
                assert await other.fetchval("SELECT count(*) FROM t") == 1
                assert await other.fetchval(query, "z") == 9
                await other.execute("DELETE FROM t WHERE k = $1", "z")
            for group in (2, 0):
                await other.execute("INSERT INTO t VALUES ($1, 1)", "y")
                await other.execute("TRUNCATE t")
                assert await db.fetchval("SELECT count(*) FROM t") == 0
                await db.execute(f"CALL pgherd.move({shard}, {group})")
                await other.execute("TRUNCATE t")
            await db.execute("ALTER TABLE t ADD COLUMN extra int DEFAULT 4")
            assert await other.fetchval("SELECT sum(extra) FROM t") is None
            await db.execute("CREATE TABLE later (id int PRIMARY KEY)")
            assert await other.fetchval("SELECT count(*) FROM later") == 0
            await db.execute("DROP TABLE later")

    run(main())


def test_executemany_is_divided_and_atomic(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            insert = "INSERT INTO t VALUES ($1, $2)"
            await db.executemany(insert, [(n, n % 10) for n in range(500)])
            assert await db.fetchval("SELECT count(*) FROM t") == 500
            with pytest.raises(asyncpg.UniqueViolationError):
                await db.executemany(insert, [(n, 0) for n in range(1000, 400, -1)])
            assert await db.fetchval("SELECT count(*) FROM t") == 500
            await db.executemany("UPDATE t SET v = v + 1 WHERE id = $1", [(n,) for n in range(500)])
            assert await db.fetchval("SELECT sum(v) FROM t") == 2750
            await db.executemany(insert, [])

    run(main())


def test_cursors(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            async with db.transaction():
                found = [row["id"] async for row in db.cursor("SELECT id FROM users")]
                assert sorted(found) == list(range(1, 41))
                cursor = await db.cursor("SELECT id FROM users ORDER BY id DESC")
                assert [row["id"] for row in await cursor.fetch(3)] == [40, 39, 38]
                assert await cursor.forward(2) == 2
                assert (await cursor.fetchrow())["id"] == 35
                await cursor.close()
                rows = [
                    row["no"]
                    async for row in db.cursor("SELECT no FROM orders WHERE user_id = $1 ORDER BY no", 3)
                ]
                assert rows == [1, 2, 3]
            with pytest.raises(asyncpg.NoActiveSQLTransactionError):
                db.cursor("SELECT 1")

    run(main())


def test_codecs_reach_every_connection(world: World) -> None:
    async def main() -> None:
        async with scratch(
            world, "CREATE TABLE t (id int PRIMARY KEY, data jsonb) PARTITION BY HASH (id)"
        ) as db:
            await db.fetchval("SELECT count(*) FROM t")
            await db.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
            for number in range(6):
                await db.execute("INSERT INTO t VALUES ($1, $2)", number, {"n": number})
            assert await db.fetchval("SELECT data FROM t WHERE id = $1", 4) == {"n": 4}
            rows = await db.fetch("SELECT id, data FROM t ORDER BY id LIMIT 3")
            assert [row["data"] for row in rows] == [{"n": 0}, {"n": 1}, {"n": 2}]

    run(main())


def test_timeouts(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn, max_size=1) as db:
            for query in (
                "SELECT pg_sleep(5), id FROM users WHERE id = $1",
                "SELECT pg_sleep(5), id FROM notes WHERE id = $1",
            ):
                for _ in range(2):
                    with pytest.raises(TimeoutError):
                        await db.fetch(query, 3, timeout=0.2)
            assert await db.fetchval("SELECT id FROM users WHERE id = $1", 3) == 3

    run(main())


def test_explain_shows_route_and_parts(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            text = "\n".join(
                row[0] for row in await db.fetch("EXPLAIN (COSTS off) SELECT * FROM users WHERE id = 5")
            )
            # which scan it is depends on whether autovacuum has counted the rows
            assert "Single" in text and "Shard" in text and re.search(r"Scan .*on users", text)
            text = "\n".join(row[0] for row in await db.fetch("EXPLAIN SELECT count(*) FROM users"))
            assert text.count("Arm on group") == 3
            document: Any = json.loads(await db.fetchval("EXPLAIN (FORMAT json) SELECT count(*) FROM users"))
            assert [one["Group"] for one in document] == [0, 1, 2]
            before = await db.fetchval("SELECT credit FROM users WHERE id = 9")
            await db.fetch("EXPLAIN UPDATE users SET credit = credit + 1 WHERE id = 9")
            assert await db.fetchval("SELECT credit FROM users WHERE id = 9") == before
            await db.fetch("EXPLAIN ANALYZE UPDATE users SET credit = credit + 1 WHERE id = 9")
            assert await db.fetchval("SELECT credit FROM users WHERE id = 9") == before + 1
            await db.execute("UPDATE users SET credit = $1 WHERE id = 9", before)

    run(main())


def test_a_group_that_is_down_does_not_stop_the_others(yard: Yard) -> None:
    cluster = yard.cluster("client-down", embedded=False, groups=2, gateway=False)
    dsns = uris(cluster)

    async def before() -> None:
        async with pgherd.connect(dsns[0]) as db:
            await db.execute("CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY HASH (id)")
            await db.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 20) g")

    async def main() -> None:
        async with pgherd.connect(dsns[0], connect_timeout=2) as db:
            query = "SELECT v FROM t WHERE id = $1"
            for number in range(1, 21):
                assert await db.fetchval(query, number) == number
            servers = {server.directory.name: server for server in cluster.servers(cluster.existing())}
            lost = [server for name, server in sorted(servers.items())][1]
            lost.stop(immediate=True)
            alive = dead = 0
            for number in range(1, 21):
                try:
                    assert await db.fetchval(query, number) == number
                    alive += 1
                except GroupDown as error:
                    assert "group 1" in error.message
                    dead += 1
            assert alive and dead
            with pytest.raises(GroupDown, match="group 1"):
                await db.fetchval("SELECT count(*) FROM t")
            lost.start()
            assert await db.fetchval("SELECT count(*) FROM t") == 20
            for number in range(1, 21):
                assert await db.fetchval(query, number) == number

    run(before())
    run(main())


def test_a_timeout_in_a_distributed_statement_leaves_nothing_behind(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            await db.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 9) g")
            slow = "WHERE pg_sleep(5) IS NOT NULL"
            for sql in (
                f"SELECT count(*) FROM t {slow}",
                f"SELECT id FROM t {slow}",
                f"UPDATE t SET v = 0 {slow}",
            ):
                with pytest.raises(TimeoutError):
                    await db.execute(sql, timeout=0.3)
            assert await db.fetchval("SELECT sum(v) FROM t") == 45
            for dsn in world.dsns:
                node = await asyncpg.connect(dsn)
                assert await node.fetchval("SELECT count(*) FROM pg_prepared_xacts") == 0
                await node.close()

    run(main())


def test_lost_connections(world: World) -> None:
    async def main() -> None:
        async with scratch(world, HASHED) as db:
            await db.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 9) g")
            admin = await asyncpg.connect(world.dsn)
            everyone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgherd' AND pid <> pg_backend_pid()"
            for _ in range(3):
                for number in range(1, 10):  # idle connections that died are replaced without a word
                    assert await db.fetchval("SELECT v FROM t WHERE id = $1", number) == number
                await admin.execute(everyone)
            transaction = db.transaction()
            await transaction.start()
            await db.execute("UPDATE t SET v = v + 1")
            await admin.execute(everyone)
            with pytest.raises(PgherdError):
                await db.execute("UPDATE t SET v = v + 1")
            await transaction.rollback()
            assert await db.fetchval("SELECT sum(v) FROM t") == 45
            # lost before COMMIT, or while it prepares: nothing is committed, and both say so
            with pytest.raises((PgherdError, asyncpg.SerializationError)):
                async with db.transaction():
                    await db.execute("UPDATE t SET v = v + 1")
                    await admin.execute(everyone)
            assert await db.fetchval("SELECT sum(v) FROM t") == 45
            await admin.close()

    run(main())
