"""The client while primaries die, hang, hand over or lose their leases: who waits, what is sent again, what is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from tests.integration.client_world import run
from tests.integration.replica_world import Herd, kill, make_herd, wait_until

import pgherd
from pgherd.catalog.model import GroupId
from pgherd.client import Database
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.switchover import switchover
from pgherd.errors import GroupDown, OutcomeUnknown, Refused
from pgherd.testing import nodes
from pgherd.testing.servers import Yard

READ = "SELECT v FROM t WHERE id = $1"
WRITE = "UPDATE t SET v = $2 WHERE id = $1"
ADD = "INSERT INTO t VALUES ($1, $2)"


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[Herd]:
    """Five groups: a test that gives one a new primary has it for itself."""
    herd = make_herd(yard, "cf", groups=5)

    async def fill() -> None:
        async with pgherd.connect(door(herd)) as db:
            await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v bigint) PARTITION BY HASH (id)")
            await db.executemany(ADD, [(number, 0) for number in range(1000)])

    run(fill())
    yield herd
    herd.close()


def door(herd: Herd, group: int = 0) -> str:
    """The DSN of a standby: any node is a door."""
    return herd.server(f"cfb{group}").uri("pgherd")


@asynccontextmanager
async def client(herd: Herd, **options: Any) -> AsyncIterator[Database]:
    async with pgherd.connect(door(herd, 4), **options) as db:
        for group in range(5):  # every group has idle connections with the statements prepared on them
            key = key_in(db, group)
            for _ in range(2):
                await asyncio.gather(*(db.fetchval(READ, key) for _ in range(3)))
                await asyncio.gather(*(db.execute(WRITE, key, 0) for _ in range(3)))
        yield db


def key_in(db: Database, group: int, skip: int = 0) -> int:
    """A key whose shard lies in `group`."""
    (keyspace,) = db.map.keyspaces.values()
    found = (key for key in range(1000) if (shard := keyspace.locate((key,))) and shard.group == group)
    for _ in range(skip):
        next(found)
    return next(found)


async def until(what: Any, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def aside(job: Any, *args: Any) -> Any:
    return await asyncio.to_thread(job, *args)


def test_a_primary_without_a_lease_is_not_asked(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, pool = key_in(db, 0), db.pools[GroupId(0)]
            herd.end_lease(0, at_once=True)
            await until(lambda: pool.shut)
            assert not pool.idle
            waiting = [
                asyncio.create_task(db.fetchval(READ, key)),
                asyncio.create_task(db.execute(WRITE, key, 7)),
            ]
            with pytest.raises(TimeoutError):
                await db.fetchval(READ, key, timeout=0.3)
            with pytest.raises(TimeoutError):
                async with db.transaction(), asyncio.timeout(0.3):
                    await db.fetchval(READ, key)
            assert await db.fetchval(READ, key, read="eventual") == 0
            assert await db.fetchval(READ, key_in(db, 1)) == 0  # others do not notice
            assert not any(task.done() for task in waiting)
            herd.primary[0] = "cfa0"
            async with asyncio.timeout(15):
                assert await waiting[1] == "UPDATE 1"
                await waiting[0]
            await db.execute(WRITE, key, 0)

    run(main())


def test_an_answer_that_comes_after_the_lease_has_ended_waits_for_a_new_one(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, pool = key_in(db, 0), db.pools[GroupId(0)]
            slow = "SELECT v FROM t, pg_sleep(0.7) WHERE id = $1"
            reads = [asyncio.create_task(db.fetchval(slow, key))]
            async with db.transaction():
                await db.execute(WRITE, key, 3)
                inside = asyncio.create_task(db.fetchval(slow, key))
                await asyncio.sleep(0.1)
                herd.end_lease(0, at_once=True)
                await until(lambda: pool.shut)
                await asyncio.sleep(1.0)
                assert not reads[0].done()
                assert not inside.done()
                herd.primary[0] = "cfa0"
                async with asyncio.timeout(15):
                    assert await reads[0] == 0
                    assert await inside == 3
                await db.execute(WRITE, key, 0)

    run(main())


def test_a_pause_holds_what_is_new_and_lets_open_transactions_end(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, pool = key_in(db, 1), db.pools[GroupId(1)]
            async with db.transaction():
                assert await db.fetchval(READ, key) == 0
                pause = herd.ask("cfa1", "SELECT pgherd.announce_pause(0, 20000)")
                await until(lambda: pool.shut)
                new = asyncio.create_task(_outside(db, key_in(db, 1, skip=1)))
                async with asyncio.timeout(5):
                    assert await db.fetchval("SELECT count(*) FROM t") == 1000
                    await db.execute(WRITE, key, 1)
                    assert await db.fetchval(READ, key) == 1
                    assert await db.fetchval("SELECT count(*) FROM t") == 1000
                    await db.execute(WRITE, key, 0)
            await asyncio.sleep(0.2)
            assert not new.done()
            assert not pool.idle
            herd.run("cfa1", f"SELECT pgherd.take_back_pause({pause})")
            async with asyncio.timeout(10):
                assert await new == "UPDATE 1"

    run(main())


async def _outside(db: Database, key: int) -> str:
    """In no transaction, though it was started in one."""
    db.current.set(None)
    return await db.execute(WRITE, key, 0)


def test_a_killed_primary_costs_no_acknowledged_write_and_no_reader_an_error(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            done: list[int] = []
            unknown: list[int] = []
            stop = asyncio.Event()

            async def write(first: int) -> None:
                number = first
                while not stop.is_set():
                    number += 10
                    try:
                        await db.execute(ADD, number, 1)
                        done.append(number)
                    except OutcomeUnknown:
                        unknown.append(number)

            async def read() -> None:
                while not stop.is_set():
                    assert await db.fetchval(READ, 5) == 0
                    assert await db.fetchval("SELECT count(*) FROM t WHERE id < 1000") == 1000

            async def transfer(at: int) -> int:
                again = 0
                while not stop.is_set():
                    try:
                        async with db.transaction():
                            await db.execute(WRITE, at, 1)
                            await db.execute(WRITE, at, 0)
                    except asyncpg.SerializationError:
                        again += 1
                    except OutcomeUnknown:
                        pass
                return again

            async with asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(write(10_000 + number))
                group.create_task(read())
                group.create_task(transfer(key_in(db, 2)))
                await asyncio.sleep(0.5)
                before = len(done)
                herd.end_lease(2)
                await aside(kill, herd.server("cfa2"))
                await aside(herd.promote, 2, "cfb2")
                pool = db.pools[GroupId(2)]
                await until(lambda: not pool.shut and pool.node.name == "cfb2")
                await asyncio.sleep(0.5)
                stop.set()
            assert len(done) > before
            found = {row["id"] for row in await db.fetch("SELECT id FROM t WHERE id >= 10000")}
            assert set(done) <= found
            assert found <= set(done) | set(unknown)
            await db.execute("DELETE FROM t WHERE id >= 10000")

    run(main())


def test_a_hung_primary_is_left_and_what_was_open_on_it_ends(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, other, pool = key_in(db, 3), key_in(db, 3, skip=1), db.pools[GroupId(3)]
            transaction = db.transaction()
            await transaction.start()
            await db.execute(WRITE, other, 9)
            herd.end_lease(3)
            with herd.frozen("cfa3"):
                inside = asyncio.create_task(db.fetchval(READ, other))
                read = asyncio.create_task(_read_outside(db, key))
                write = asyncio.create_task(_outside(db, key))
                await until(lambda: pool.shut)
                await aside(herd.promote, 3, "cfb3")
                async with asyncio.timeout(15):
                    assert await read == 0
                    with pytest.raises(OutcomeUnknown):
                        await write
                    with pytest.raises(asyncpg.SerializationError):
                        await inside
                await transaction.rollback()
            for _ in range(50):  # the old one runs again, and still takes itself for the primary
                assert await db.fetchval(READ, other) == 0
            assert herd.ask("cfa3", "SELECT pg_is_in_recovery()") == "False"
            assert pool.node.name == "cfb3"

    run(main())


async def _read_outside(db: Database, key: int) -> Any:
    db.current.set(None)
    return await db.fetchval(READ, key)


def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_unknown(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            key, pool = key_in(db, 1), db.pools[GroupId(1)]

            async def committing() -> None:
                async with db.transaction():
                    await db.execute(WRITE, key, 1)

            with herd.frozen("cfb1"):
                for job in (
                    db.execute(WRITE, key, 1),
                    db.fetchval(WRITE + " RETURNING v", key, 1),
                    db.execute(f"UPDATE t SET v = 1 WHERE id = {key}"),
                    committing(),
                ):
                    task = asyncio.create_task(_unknown(job))
                    await aside(wait_until, lambda: herd.ask("cfa1", WAITS) != "0")
                    while not task.done():
                        herd.ask("cfa1", CANCEL)
                        await asyncio.sleep(0.02)
                    await task
            assert pool.node.name == "cfa1"
            async with asyncio.timeout(15):
                await db.execute("UPDATE t SET v = 0")

    run(main())


WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def _unknown(job: Any) -> None:
    with suppress(OutcomeUnknown):
        await job
        pytest.fail("it looked done")


def test_no_setting_lets_a_distributed_commit_go_ahead_of_its_standby(herd: Herd) -> None:
    async def main() -> None:
        async with client(herd) as db:
            one, two = key_in(db, 0), key_in(db, 1)

            async def both() -> None:
                async with db.transaction():
                    await db.execute("SET LOCAL synchronous_commit = off")
                    await db.execute(WRITE, one, 0)
                    await db.execute(WRITE, two, 0)

            with herd.frozen("cfb1"):
                task = asyncio.create_task(both())
                await aside(wait_until, lambda: herd.ask("cfa1", WAITS) != "0")
                await asyncio.sleep(0.2)
                assert not task.done()
            async with asyncio.timeout(15):
                await task
            with pytest.raises(Refused):
                async with db.transaction():
                    await db.execute("SET LOCAL client_min_messages = error")

    run(main())


def test_any_host_of_a_dsn_is_a_door(herd: Herd) -> None:
    async def main() -> None:
        hosts = f"127.0.0.1:1,127.0.0.1:{herd.server('cfb1').port},127.0.0.1:{herd.server('cfb0').port}"
        with herd.frozen("cfb1"):
            async with pgherd.connect(f"postgresql://postgres@{hosts}/pgherd", connect_timeout=1.0) as db:
                assert await db.fetchval("SELECT count(*) FROM t") == 1000

    run(main())


def test_waiting_is_bounded_and_ends_with_the_database(herd: Herd) -> None:
    async def main() -> None:
        db = await pgherd.connect(door(herd), failover_wait=0.5)
        short = await pgherd.connect(door(herd))
        try:
            key, pool = key_in(db, 0), db.pools[GroupId(0)]
            herd.end_lease(0, at_once=True)
            await until(lambda: pool.shut and short.pools[GroupId(0)].shut)
            with pytest.raises(GroupDown):
                await db.fetchval(READ, key)
            with pytest.raises(GroupDown):
                await db.execute(WRITE, key, 0)
            waiting = [asyncio.create_task(short.fetchval(READ, key)) for _ in range(3)]
            await asyncio.sleep(0.1)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
            await short.close()
            for task in waiting[1:]:
                with pytest.raises((GroupDown, asyncpg.InterfaceError)):
                    await task
        finally:
            herd.primary[0] = "cfa0"
            await short.close()
            await db.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_switchover_under_load_shows_nobody_an_error(replicated_cluster: LocalCluster) -> None:
    async def main() -> None:
        cluster = replicated_cluster
        await aside(nodes.wait_healthy, cluster)
        current = cluster.existing()
        config = cluster.replicated(current).config(current.nodes[0])
        async with pgherd.connect(dsns(cluster)) as db:
            await db.execute("CREATE TABLE load (id bigint PRIMARY KEY, v bigint) PARTITION BY HASH (id)")
            await db.executemany("INSERT INTO load VALUES ($1, 0)", [(number,) for number in range(100)])
            stop, counts = asyncio.Event(), [0, 0, 0]

            async def write(number: int) -> None:
                while not stop.is_set():
                    await db.execute("UPDATE load SET v = v + 1 WHERE id = $1", number)
                    counts[0] += 1

            async def read() -> None:
                while not stop.is_set():
                    assert await db.fetchval("SELECT count(*) FROM load") == 100
                    counts[1] += 1

            async def both(one: int, two: int) -> None:
                while not stop.is_set():
                    async with db.transaction():
                        await db.execute("UPDATE load SET v = v + 1 WHERE id = $1", one)
                        await db.execute("UPDATE load SET v = v + 1 WHERE id = $1", two)
                    counts[2] += 1

            async with asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(write(number))
                group.create_task(read())
                group.create_task(both(10, 11))
                group.create_task(both(12, 13))
                await asyncio.sleep(0.5)
                before = db.pools[GroupId(1)].node
                switched = await switchover(config, 1, None, lambda _text: None)
                await until(lambda: db.pools[GroupId(1)].node != before, 20)
                await asyncio.sleep(0.5)
                stop.set()
            assert switched.new == db.pools[GroupId(1)].node.name
            assert min(counts) > 0
            assert await db.fetchval("SELECT sum(v) FROM load") == counts[0] + 2 * counts[2]
            await db.execute("DROP TABLE load")

    run(main())


def dsns(cluster: LocalCluster) -> str:
    """One DSN with all nodes of the cluster."""
    found = cluster.all_nodes(cluster.existing())
    hosts = ",".join(f"{node.host}:{node.port}" for node in found)
    return f"postgresql://postgres@{hosts}/{found[0].database}"


def crash(victim: nodes.NodeFaults) -> None:
    victim.kill("postgres")


def burn(victim: nodes.NodeFaults) -> None:
    victim.burn()


@pytest.mark.parametrize("fault", [crash, burn])
def test_a_lost_primary_is_followed(
    replicated_cluster: LocalCluster, fault: Callable[[nodes.NodeFaults], None]
) -> None:
    """The whole stack: no acknowledged write is lost, no reader and no writer meets an error but the known ones."""
    cluster = replicated_cluster

    async def main() -> None:
        async with pgherd.connect(dsns(cluster)) as db:
            await db.execute("DROP TABLE IF EXISTS adds")
            await db.execute("CREATE TABLE adds (id bigint PRIMARY KEY, v bigint) PARTITION BY HASH (id)")
            pool, load = db.pools[GroupId(1)], Load(db)
            victim = nodes.NodeFaults(cluster, pool.node.name)
            async with asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(load.add(number))
                group.create_task(load.look())
                group.create_task(load.pair())
                await asyncio.sleep(0.5)
                try:
                    await aside(fault, victim)
                    await until(lambda: pool.shut, 20)
                    await until(lambda: not pool.shut, 30)
                    known = len(load.done)
                    await until(lambda: len(load.done) > known + 10)
                finally:
                    load.stop.set()
            found = {row["id"] for row in await db.fetch("SELECT id FROM adds")}
            assert load.done <= found <= load.done | load.unknown
            await db.execute("DROP TABLE adds")

    nodes.wait_healthy(cluster)
    run(main())
    nodes.wait_healthy(cluster)


class Load:
    """Writers and readers of table adds: what was acknowledged, and what may have been done."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.stop = asyncio.Event()
        self.done: set[int] = set()
        self.unknown: set[int] = set()

    async def add(self, number: int) -> None:
        while not self.stop.is_set():
            number += 10
            try:
                await self.db.execute("INSERT INTO adds VALUES ($1, 1)", number)
                self.done.add(number)
            except OutcomeUnknown:
                self.unknown.add(number)

    async def look(self) -> None:
        while not self.stop.is_set():
            known = len(self.done)
            assert await self.db.fetchval("SELECT count(*) FROM adds") >= known

    async def pair(self) -> None:
        number = 1_000_000
        while not self.stop.is_set():
            number += 2
            both = {number, number + 1}
            try:
                async with self.db.transaction():
                    for each in both:
                        await self.db.execute("INSERT INTO adds VALUES ($1, 2)", each)
                self.done |= both
            except OutcomeUnknown:
                self.unknown |= both
            except asyncpg.SerializationError:
                pass
