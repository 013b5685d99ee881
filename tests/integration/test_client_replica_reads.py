"""Reads on replicas through the client: which go there, how fresh they are, and what happens when a replica cannot answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tests.integration.client_world import run
from tests.integration.replica_world import Herd, kill, make_herd

import pgherd
from pgherd.client import Database, Session
from pgherd.errors import BadSetting, BadToken
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard

WHERE = "SELECT inet_server_port() FROM t WHERE id = $1"
READ = "SELECT v FROM t WHERE id = $1"
WRITE = "UPDATE t SET v = $2 WHERE id = $1"
LEVELS = ("eventual", "bounded 5s", "session")


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[Herd]:
    """Two groups; each commit waits for its standby to have it (but not for it to show it)."""
    herd = make_herd(yard, "cr")
    run(fill(herd))
    yield herd
    herd.close()


async def fill(herd: Herd) -> None:
    async with pgherd.connect(herd.server(herd.names[0][0]).uri("pgherd")) as db:
        await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v int) PARTITION BY HASH (id)")
        await db.executemany("INSERT INTO t VALUES ($1, 0)", [(number,) for number in range(100)])


@asynccontextmanager
async def client(herd: Herd, **options: Any) -> AsyncIterator[Database]:
    """In the zone of the standbys, all of which show all there is."""
    where = {"region": "here", "zone": "b", **options}
    async with pgherd.connect(herd.server(herd.names[0][1]).uri("pgherd"), **where) as db:
        await db.execute("UPDATE t SET v = 0")
        for group in range(len(herd.groups)):
            await asyncio.to_thread(herd.caught_up, group)
        yield db


def key_in(db: Database, group: int) -> int:
    (keyspace,) = db.map.keyspaces.values()
    return next(key for key in range(100) if (shard := keyspace.locate((key,))) and shard.group == group)


def ports(herd: Herd, group: int = 0) -> tuple[int, int]:
    first, second = herd.names[group]
    return herd.server(first).port, herd.server(second).port


async def until(what: Any, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_the_nearest_replica_answers(herd: Herd, level: str) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, (primary, replica) = key_in(db, 0), ports(herd)

            async def from_replica() -> bool:
                return await db.fetchval(WHERE, key, read=level) == replica

            assert await db.fetchval(WHERE, key) == primary
            await until(from_replica)
            for _ in range(5):  # the short way now
                assert await db.fetchval(WHERE, key, read=level) == replica
                assert (await db.fetchrow(WHERE, key, read=level))[0] == replica
                assert (await db.fetch(WHERE, key, read=level))[0][0] == replica
            # what may do more than read, and writes, stay on the primary
            assert await db.fetchval(WHERE + " FOR UPDATE", key, read=level) == primary
            assert await db.fetchval(WHERE + " AND random() < 2", key, read=level) == primary
            assert await db.fetchval(WRITE + " RETURNING inet_server_port()", key, 0, read=level) == primary
            assert await db.fetchval(WHERE, key) == primary

    run(main())


@pytest.mark.parametrize("level", LEVELS)
def test_the_usual_level_is_an_option_of_the_dsn(herd: Herd, level: str) -> None:
    async def main() -> None:
        key, (primary, replica) = 5, ports(herd)
        dsn = herd.server(herd.names[0][1]).uri("pgherd")
        async with pgherd.connect(f"{dsn}?pgherd.read={level}&pgherd.region=here&pgherd.zone=b") as db:
            key = key_in(db, 0)

            async def from_replica() -> bool:
                return await db.fetchval(WHERE, key) == replica

            await until(from_replica)
            assert [await db.fetchval(WHERE, key) for _ in range(5)] == [replica] * 5
            assert await db.fetchval(WHERE, key, read="strong") == primary
            assert await db.execute(WRITE, key, 0) == "UPDATE 1"
            assert await db.execute(WRITE, key, 0) == "UPDATE 1"
            async with db.transaction():
                assert await db.fetchval(WHERE, key) == primary
        with pytest.raises(BadSetting, match=r"pgherd\.red"):
            await pgherd.connect(f"{dsn}?pgherd.red=session")
        with pytest.raises(BadSetting, match="sometimes"):
            await pgherd.connect(dsn, read="sometimes")

    run(main())


def test_a_session_sees_its_own_writes_and_never_goes_back(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db, client(herd) as other:
            key, (_, replica) = key_in(db, 0), ports(herd)
            await until(lambda: reads_from(db.session(), key, replica))
            with herd.paused(0):
                for number in range(1, 20):
                    await db.execute(WRITE, key, number)
                    assert await db.fetchval(READ, key, read="session") == number
                    async with other.session() as session:
                        await session.execute(WRITE, key, number + 100)
                        assert await session.fetchval(READ, key) == number + 100
                        assert await session.fetchval(READ, key, read="strong") == number + 100
                        assert await session.fetchval(READ, key, read="session") == number + 100
                async with other.session() as session:  # one that has seen nothing may see what is old
                    assert await session.fetchval(READ, key) == 0
                    async with session.transaction():
                        await session.execute(WRITE, key, 7)
                    assert await session.fetchval(READ, key) == 7
                    assert await session.fetchval("SELECT sum(v) FROM t") == 7
            await asyncio.to_thread(herd.caught_up, 0)
            await until(lambda: reads_from(db, key, replica))
            assert await db.fetchval(READ, key, read="session") == 7

    run(main())


async def reads_from(target: Database | Session, key: int, port: int) -> bool:
    return await target.fetchval(WHERE, key, read="session") == port


def test_a_token_takes_what_was_seen_to_another_session(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as one, client(herd) as two:
            key = key_in(one, 0)
            with herd.paused(0):
                async with one.session() as session:
                    await session.execute(WRITE, key, 5)
                    token = await session.token()
                async with two.session() as stranger:
                    assert await stranger.fetchval(READ, key) == 0
                async with two.session(token) as follower:
                    assert await follower.fetchval(READ, key) == 5
                    onward = await follower.token()
                async with one.session(onward) as third:
                    assert await third.fetchval(READ, key) == 5
                await two.execute(WRITE, key, 6)
                for token in (
                    await two.session_token(),
                    await two.fetchval("SELECT pgherd.session_token()"),
                ):
                    assert await one.session(token).fetchval(READ, key) == 6
            with pytest.raises(BadToken):
                one.session("pgherd1.nonsense")

    run(main())


def test_a_bound_is_never_overstated(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, (primary, replica) = key_in(db, 0), ports(herd)

            async def bounded(seconds: float) -> int:
                return await db.fetchval(WHERE, key, read=f"bounded {seconds}s")

            async def fresh() -> bool:
                return await bounded(2) == replica

            await until(fresh)
            await asyncio.sleep(2.5)  # an idle primary does not make its replica look late
            await until(fresh, 1.0)
            with herd.paused(0):
                await db.execute(WRITE, key, 1)
                done = begun = asyncio.get_running_loop().time()
                while await db.fetchval(READ, key, read="bounded 2s") == 0:
                    assert begun - done < 2.0
                    begun = asyncio.get_running_loop().time()
                assert await bounded(2) == primary
                assert await bounded(60) == replica
                assert await db.fetchval(READ, key, read="bounded 60s") == 0

    run(main())


@pytest.mark.parametrize("level", LEVELS)
def test_reads_over_groups_use_replicas_too(herd: Herd, level: str) -> None:
    async def main() -> None:
        async with client(herd) as db:
            both = {ports(herd, 0)[1], ports(herd, 1)[1]}
            spread = "SELECT count(*), array_agg(DISTINCT inet_server_port()) FROM t"
            ranked = "SELECT v FROM t a WHERE v = (SELECT max(v) FROM t b WHERE b.v >= a.v) LIMIT 3"

            async def from_replicas() -> bool:
                rows = await db.fetch("SELECT DISTINCT inet_server_port() AS port FROM t", read=level)
                return {row["port"] for row in rows} == both

            await until(from_replicas)
            assert (await db.fetchrow(spread, read=level))[0] == 100
            for _ in range(3):
                assert [row["v"] for row in await db.fetch(ranked, read=level)] == [0, 0, 0]
            assert await db.fetchval("SELECT sum(v) FROM t", read=level) == 0

    run(main())


def test_read_only_transactions(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, (primary, replica) = key_in(db, 0), ports(herd)
            await until(lambda: reads_from(db, key, replica))
            for isolation in (None, "repeatable_read"):
                async with db.transaction(readonly=True, read="eventual", isolation=isolation):
                    assert await db.fetchval(WHERE, key) == replica
                    assert await db.fetchval(WHERE, key, read="strong") == replica  # it is where it is
                    assert await db.fetchval("SELECT count(*) FROM t") == 100
                    assert len([row async for row in db.cursor("SELECT * FROM t")]) == 100
                    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                        async with db.transaction():
                            await db.execute(WRITE, key, 1)
            async with db.transaction(readonly=True):
                assert await db.fetchval(WHERE, key) == primary
            with pytest.raises(ValueError, match="readonly"):
                db.transaction(read="eventual")

    run(main())


def test_what_a_replica_does_not_know_yet_the_primary_answers(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            with herd.paused(0):
                await db.execute("CREATE TABLE new (id int, v int)")
                assert await db.fetchval("SELECT count(*) FROM new", read="eventual") == 0
            await db.execute("DROP TABLE new")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await db.fetchval("SELECT 1 / v FROM t WHERE id = 1", read="eventual")
            with pytest.raises(asyncpg.UndefinedColumnError):
                await db.fetchval("SELECT w FROM t WHERE id = 1", read="eventual")

    run(main())


def test_replicas_that_hang_or_die_are_not_noticed(yard: Yard) -> None:
    herd = make_herd(yard, "cx", groups=1, sync=False)
    standby = herd.server("cxb0")

    async def main() -> None:
        await fill(herd)
        async with client(herd) as db:
            key, (primary, replica) = key_in(db, 0), ports(herd)
            await until(lambda: reads_from(db, key, replica))

            async def read_on(level: str) -> set[int]:
                return {await db.fetchval(WHERE, key, read=level) for _ in range(50)}

            with herd.frozen("cxb0"):
                async with asyncio.timeout(15):
                    assert replica not in await read_on("session")
                    assert await read_on("eventual") == {primary}
                    assert await db.fetchval("SELECT count(*) FROM t", read="eventual") == 100
            await until(lambda: reads_from(db, key, replica))
            readers = [asyncio.create_task(read_on("eventual")) for _ in range(4)]
            await asyncio.to_thread(kill, standby)
            for reader in readers:
                assert await reader <= {primary, replica}
            standby.start()  # by this thread: it dies with the one that started it
            await until(lambda: reads_from(db, key, replica))

    run(main())
    herd.close()


def test_without_a_primary_replicas_answer_at_once(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, (_, replica) = key_in(db, 0), ports(herd)
            await until(lambda: reads_from(db, key, replica))
            herd.end_lease(0, at_once=True)
            try:
                async with asyncio.timeout(5):
                    while not db.pools[0].shut:  # noqa: ASYNC110  # type: ignore[index]
                        await asyncio.sleep(0.02)
                    for level in ("eventual", "session", "bounded 60s"):
                        assert await db.fetchval(WHERE, key, read=level) == replica
                        assert await db.fetchval("SELECT count(*) FROM t", read=level) == 100
            finally:
                herd.primary[0] = "cra0"
            async with asyncio.timeout(15):
                assert await db.fetchval(READ, key) == 0

    run(main())


def test_explain_says_which_node_and_why(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            await until(lambda: reads_from(db, key_in(db, 0), ports(herd)[1]))
            text = await db.explain(READ, key_in(db, 0), read="eventual")
            assert "crb0 (replica" in text
            assert "nearest of 2" in text
            assert "cra0 (primary" in await db.explain(READ, key_in(db, 0))
            text = await db.explain(WRITE, key_in(db, 0), 1, read="eventual")
            assert "cra0 (primary" in text
            assert "crb1 (replica" in await db.explain("SELECT sum(v) FROM t", read="bounded 10s")

    run(main())


def test_a_cluster_of_single_nodes_takes_the_same_calls(yard: Yard) -> None:
    cluster = yard.cluster("client-near", embedded=True, groups=1, gateway=False)

    async def main() -> None:
        async with pgherd.connect(uris(cluster)[0], read="session") as db:
            await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v int) PARTITION BY HASH (id)")
            async with db.session() as session:
                for number in range(5):
                    await session.execute("INSERT INTO t VALUES ($1, $2)", number, number)
                    assert await session.fetchval(READ, number) == number
                    assert await db.fetchval(READ, number, read="eventual") == number
                again = db.session(await session.token())
                assert await again.fetchval("SELECT sum(v) FROM t") == 10
            async with db.transaction(readonly=True, read="bounded 1s"):
                assert await db.fetchval("SELECT count(*) FROM t") == 5

    run(main())
