"""Transactions over groups as applications have them: through a gateway, and when that gateway is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator

import asyncpg
import pytest

from pgherd.catalog.model import GroupId
from pgherd.deploy.local import LocalCluster
from pgherd.testing.coverage import covered
from pgherd.testing.lender import PlainLender
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard
from pgherd.transaction import recovery

ROWS = 30


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[LocalCluster]:
    cluster = yard.cluster("transactions-gateway", embedded=True, groups=3)

    async def fill() -> None:
        db = await asyncpg.connect(cluster.dsn(cluster.existing()))
        await db.execute("CREATE TABLE money (id bigint PRIMARY KEY, v int NOT NULL) PARTITION BY HASH (id)")
        await db.execute(f"INSERT INTO money SELECT n, 100 FROM generate_series(1, {ROWS}) n")
        await db.execute(
            "CREATE TABLE ledger (number bigint, side int, PRIMARY KEY (number, side)) PARTITION BY HASH (number, side)"
        )
        await db.close()

    asyncio.run(fill())
    yield cluster
    cluster.kill()


async def apart(herd: LocalCluster) -> tuple[int, int]:
    """Two ids that lie in different groups."""
    found: list[int] = []
    for uri in uris(herd)[:2]:
        db = await asyncpg.connect(uri)
        found.append(await db.fetchval("SELECT min(id) FROM here.money"))
        await db.close()
    return found[0], found[1]


async def connect(herd: LocalCluster) -> asyncpg.Connection:
    return await asyncpg.connect(herd.dsn(herd.existing()), timeout=10)


def test_a_deadlock_across_groups_is_40P01_within_two_seconds(herd: LocalCluster) -> None:
    async def story() -> None:
        a, b = await apart(herd)
        one, two = await connect(herd), await connect(herd)
        clock = asyncio.get_running_loop()
        for db, mine in ((one, a), (two, b)):
            await db.execute("BEGIN")
            await db.execute(f"UPDATE money SET v = v WHERE id = {mine}")
        start = clock.time()
        ends = await asyncio.gather(
            one.execute(f"UPDATE money SET v = v WHERE id = {b}"),
            two.execute(f"UPDATE money SET v = v WHERE id = {a}"),
            return_exceptions=True,
        )
        assert clock.time() - start < 4  # two seconds, and as much for a busy machine
        assert ends[0] == "UPDATE 1"
        assert isinstance(ends[1], asyncpg.DeadlockDetectedError)
        assert await one.execute("COMMIT") == "COMMIT"
        assert await two.execute("COMMIT") == "ROLLBACK"
        for db in (one, two):
            await db.close()
        covered("deadlocks across groups", {"broken through a gateway": 1})

    asyncio.run(story())


def test_the_outcome_can_be_asked_for(herd: LocalCluster) -> None:
    async def story() -> None:
        a, b = await apart(herd)
        db = await connect(herd)
        ids: list[str] = []
        for end in ("COMMIT", "ROLLBACK"):
            await db.execute("BEGIN")
            await db.execute(f"UPDATE money SET v = v WHERE id = {a}")
            ids.append(await db.fetchval("SELECT pgherd.transaction_id()"))
            await db.execute(f"UPDATE money SET v = v WHERE id = {b}")
            await db.execute(end)
        said = [await db.fetchval(f"SELECT * FROM pgherd.transaction_status('{id_}')") for id_ in ids]
        assert said == ["committed", "aborted"]
        await db.close()

    asyncio.run(story())


class Traffic:
    """Transfers through the gateway by several connections, and looks at the total; both end when the gateway does."""

    def __init__(self, herd: LocalCluster) -> None:
        self.herd = herd
        self.acknowledged: list[int] = []
        self.looks = 0
        self.numbers = iter(range(1_000_000))
        self.wrong: list[int] = []

    async def transfer(self, seed: int) -> None:
        chance = random.Random(seed)
        db = await connect(self.herd)
        while True:
            number = next(self.numbers)
            one, two = sorted(chance.sample(range(1, ROWS + 1), 2))
            try:
                async with db.transaction():
                    await db.execute(f"INSERT INTO ledger VALUES ({number}, 0), ({number}, 1), ({number}, 2)")
                    await db.execute(f"UPDATE money SET v = v - 1 WHERE id = {one}")
                    await db.execute(f"UPDATE money SET v = v + 1 WHERE id = {two}")
                self.acknowledged.append(number)
            except asyncpg.DeadlockDetectedError:
                continue

    async def look(self, sql: str) -> None:
        db = await connect(self.herd)
        while True:
            try:
                total = await db.fetchval(sql)
            except asyncpg.SerializationError:
                continue
            self.looks += 1
            if total != ROWS * 100:
                self.wrong.append(total)


def test_a_gateway_killed_under_load_loses_and_halves_nothing(herd: LocalCluster) -> None:
    groups = tuple(GroupId(number) for number in range(3))

    async def load(traffic: Traffic) -> None:
        tasks = [asyncio.create_task(traffic.transfer(seed)) for seed in range(4)]
        tasks.append(asyncio.create_task(traffic.look("SELECT sum(v) FROM money")))
        tasks.append(
            asyncio.create_task(traffic.look("SELECT sum(x.v) FROM (SELECT v FROM money OFFSET 0) x"))
        )
        await asyncio.sleep(2.5)
        pid = herd.gateway.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            isinstance(end, asyncpg.PostgresConnectionError | asyncpg.InterfaceError | OSError)
            for end in ends
        ), ends

    async def after(traffic: Traffic) -> None:
        lender = PlainLender(dict(zip(groups, uris(herd), strict=True)))
        async with asyncio.timeout(15):
            while await recovery.in_doubt(lender, groups):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await lender.close()
        db = await connect(herd)
        assert await db.fetchval("SELECT sum(v) FROM money") == ROWS * 100
        sides = {
            row[0]: row[1] for row in await db.fetch("SELECT number, count(*) FROM ledger GROUP BY number")
        }
        await db.close()
        assert set(sides.values()) == {3}
        assert set(traffic.acknowledged) <= set(sides)

    traffic = Traffic(herd)
    asyncio.run(load(traffic))
    assert traffic.wrong == []
    herd.up()  # the next gateway; its controller settles what the dead one left
    asyncio.run(after(traffic))
    covered(
        "through a gateway that was killed", {"transfers": len(traffic.acknowledged), "looks": traffic.looks}
    )
    assert traffic.acknowledged and traffic.looks
