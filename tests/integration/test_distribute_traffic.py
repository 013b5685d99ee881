"""A table becomes distributed, and single again, under traffic, through a gateway that learns late too: nobody meets an error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from late_gateway import late
from traffic_world import ACCOUNTS, START, Traffic

import pgherd
from pgherd.deploy.local import LocalCluster
from pgherd.testing import coverage
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def late_gateway(yard: Yard, grouped_cluster: LocalCluster, grouped_gateway: str) -> Iterator[str]:
    del grouped_gateway
    with late(yard, grouped_cluster) as dsn:
        yield dsn


ONE = ("SELECT id, balance >= -1000000 FROM busy_bank WHERE id = 7", (7, True))


def test_nobody_notices_that_a_table_is_distributed_and_single_again(
    grouped_cluster: LocalCluster, grouped_gateway: str, late_gateway: str
) -> None:
    traffic = Traffic("busy", pause_s=0.002)

    async def story() -> None:
        admin = await asyncpg.connect(grouped_gateway)
        await admin.execute(
            "CREATE TABLE busy_set (id bigint PRIMARY KEY); CREATE TABLE busy_bank (id int PRIMARY KEY, balance int)"
        )
        await admin.execute(
            f"INSERT INTO busy_bank SELECT i, {START} FROM generate_series(0, {ACCOUNTS - 1}) i"
        )
        late = [await asyncpg.connect(late_gateway) for _ in range(3)]
        early = [await asyncpg.connect(grouped_gateway) for _ in range(3)]
        async with pgherd.connect(uris(grouped_cluster)[0]) as db:
            jobs: dict[str, Callable[[], Awaitable[None]]] = {}
            for name, doors in {"gateway": early, "late gateway": late, "client": [db] * 3}.items():
                jobs[f"set, {name}"] = traffic.add(
                    doors[0], "INSERT INTO busy_set VALUES ($1)", lambda number: (number,)
                )
                jobs[f"bank, {name}"] = traffic.transfer(doors[1], random.Random(len(jobs)), int)
                jobs[f"all, {name}"] = traffic.look(doors[2], *traffic.all)
                jobs[f"one, {name}"] = traffic.look(doors[2], *ONE)
            merged = _one_at_a_time(jobs)
            tasks = [asyncio.create_task(traffic.forever(name, job)) for name, job in merged.items()]
            try:
                await asyncio.sleep(0.3)
                for table in ("busy_bank", "busy_set"):
                    await admin.execute(
                        f"CALL pgherd.distribute('{table}', 'hash', 'id', 4, max_pause => '2 s', keep_for => '0 s', offline => false)"
                    )
                    assert await _kind(admin, table) == "distributed"
                for table in ("busy_bank", "busy_set"):
                    await admin.execute(
                        f"CALL pgherd.undistribute('{table}', max_pause => '2 s', offline => false)"
                    )
                    assert await _kind(admin, table) == "single"
            finally:
                traffic.stop = True
                await asyncio.gather(*tasks)
                for door in (*late, *early):
                    await door.close()
        found = [row[0] for row in await admin.fetch("SELECT id FROM busy_set")]
        assert traffic.wrong == []
        assert sorted(found) == sorted(traffic.acknowledged)
        assert tuple(await admin.fetchrow(traffic.all[0])) == traffic.all[1]
        await admin.execute("DROP TABLE busy_set; DROP TABLE busy_bank")
        await admin.close()

    asyncio.run(asyncio.wait_for(story(), 150))
    assert all(traffic.counts.values())
    coverage.covered("statements beside distribute and undistribute", traffic.counts)


def _one_at_a_time(
    jobs: dict[str, Callable[[], Awaitable[None]]],
) -> dict[str, Callable[[], Awaitable[None]]]:
    """The two looks of a gateway share a connection: they take turns."""
    locks: dict[str, asyncio.Lock] = {}

    def guarded(name: str, job: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        kind, _, door = name.partition(", ")
        lock = locks.setdefault(door if kind in ("all", "one") else name, asyncio.Lock())

        async def run_() -> None:
            async with lock:
                await job()

        return run_

    return {name: guarded(name, job) for name, job in jobs.items()}


async def _kind(admin: Any, table: str) -> str:
    return await admin.fetchval("SELECT kind FROM pgherd.tables WHERE name = $1", table)
