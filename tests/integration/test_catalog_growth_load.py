"""A group joins and leaves while gateways and clients write, read and define: nobody notices, and no row is lost or doubled."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from test_catalog_growth import Grown, placed

import pgherd
from pgherd.catalog import growth
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy.local import LocalCluster
from pgherd.testing.plugin import nodes
from pgherd.testing.servers import Yard

TABLES = """
CREATE TABLE countries (code text PRIMARY KEY, name text, n int DEFAULT 0);
CREATE TABLE tags (id int PRIMARY KEY, country text REFERENCES countries, tag text);
CALL pgherd.reference('countries');
CALL pgherd.reference('tags');
CREATE TABLE users (id bigint PRIMARY KEY, country text REFERENCES countries) PARTITION BY HASH (id);
CREATE TABLE notes (id int PRIMARY KEY);
INSERT INTO countries SELECT 'c' || i, 'name' FROM generate_series(1, 50) i;
"""


@pytest.fixture
def cluster(yard: Yard) -> Iterator[tuple[LocalCluster, str]]:
    """A cluster of its own (it gets groups that no state file knows), and its gateway."""
    found = yard.cluster("growing", embedded=True, groups=2)
    yield found, found.dsn(found.existing())
    found.kill()


@dataclass
class Load:
    """Jobs that go on until `stop`; `done` counts rounds. The first error ends the test."""

    stop: bool = False
    done: dict[str, int] = field(default_factory=dict[str, int])
    acknowledged: set[str] = field(default_factory=set[str])

    async def repeat(self, name: str, job: Callable[[str], Awaitable[Any]]) -> None:
        number = 0
        while not self.stop:
            number += 1
            await job(f"{name}{number}")
            self.done[name] = number

    async def rounds(self, more: int = 3) -> None:
        """Wait until every job has done some more rounds."""
        start = dict(self.done)
        async with asyncio.timeout(60):
            while any(self.done[name] < start.get(name, 0) + more for name in self.names):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    names: tuple[str, ...] = ()


async def contents(places: list[Node], table: str) -> list[str]:
    """A digest of a reference table's rows in each group."""
    found = []
    for node in places:
        link = await asyncpg.connect(host=node.host, port=node.port, database=node.database, user="postgres")
        rows = await link.fetch(f"SELECT t::text FROM public.{table} t ORDER BY 1")
        found.append(hashlib.sha256("\n".join(row[0] for row in rows).encode()).hexdigest())
        await link.close()
    return found


async def alone(load: Load, link: asyncpg.Connection, key: str) -> None:
    await link.execute(f"INSERT INTO countries VALUES ('{key}', 'x')")
    load.acknowledged.add(key)
    await link.execute("UPDATE countries SET n = n + 1 WHERE code = 'c1'")


async def inside(load: Load, link: asyncpg.Connection, key: str) -> None:
    async with link.transaction():
        await link.fetchval("SELECT count(*) FROM users")
        await link.execute("INSERT INTO users VALUES ($1, 'c2')", int(key.removeprefix("inside")))
        await link.execute("INSERT INTO countries VALUES ($1, 'y')", key)
    load.acknowledged.add(key)


async def copied(load: Load, link: asyncpg.Connection, key: str) -> None:
    await link.copy_records_to_table("countries", records=[(key, "z", 1)])
    load.acknowledged.add(key)


async def emptied(load: Load, link: asyncpg.Connection, key: str) -> None:
    await link.execute("TRUNCATE tags")
    await link.execute(f"INSERT INTO tags VALUES (1, 'c1', '{key}')")


async def reading(load: Load, link: asyncpg.Connection, key: str) -> None:
    assert await link.fetchval("SELECT count(*) FROM countries WHERE code LIKE 'c%' AND name = 'name'") == 50
    await link.fetchval("SELECT count(*) FROM users u JOIN countries c ON c.code = u.country")
    await link.fetchval(
        "SELECT count(*) FROM users a JOIN users b ON a.country = b.country JOIN notes n ON n.id = a.id"
    )


async def defining(load: Load, link: asyncpg.Connection, key: str) -> None:
    async with link.transaction():
        await link.execute(f"CREATE TABLE {key} (id bigint PRIMARY KEY, c text) PARTITION BY HASH (id)")
        await link.execute(f"INSERT INTO {key} VALUES (1, 'c1')")
    await link.execute(f"DROP TABLE {key}")


async def client(load: Load, db: Any, key: str) -> None:
    await db.execute(f"INSERT INTO countries VALUES ('{key}', 'x')")
    load.acknowledged.add(key)
    async with db.transaction() as tx:
        await tx.execute("UPDATE countries SET n = n + 1 WHERE code = 'c2'")
        await tx.execute("UPDATE users SET country = 'c3' WHERE id = 1")


JOBS = {
    "alone": alone,
    "inside": inside,
    "copied": copied,
    "emptied": emptied,
    "reading": reading,
    "defining": defining,
}


async def all_alike(load: Load, places: list[Node], link: asyncpg.Connection) -> None:
    """What was acknowledged is there, once, and every group has the same rows of reference tables."""
    for table in ("countries", "tags"):
        assert len(set(await contents(places, table))) == 1, table
    rows = {row[0] for row in await link.fetch("SELECT code FROM countries WHERE name <> 'name'")}
    assert rows == load.acknowledged
    assert await link.fetchval("SELECT n FROM countries WHERE code = 'c1'") == load.done["alone"]
    assert await link.fetchval("SELECT n FROM countries WHERE code = 'c2'") == load.done["client"]


def test_groups_come_and_go_under_load_and_nobody_notices(
    cluster: tuple[LocalCluster, str], yard: Yard
) -> None:
    local, dsn = cluster
    first = nodes(local)
    server = local.servers(local.existing())[0]
    names = ["growing_2", "growing_3"]
    yard.databases(server, names)
    new = [placed(server, 2 + number, name) for number, name in enumerate(names)]
    load = Load()

    async def connected(stack: AsyncExitStack) -> asyncpg.Connection:
        link = await asyncpg.connect(dsn)
        stack.callback(link.terminate)
        return link

    async def job() -> None:
        async with AsyncExitStack() as stack:
            setup = await connected(stack)
            for statement in TABLES.strip().split("\n"):
                await setup.execute(statement)
            load.names = (*JOBS, "client")
            load.done = dict.fromkeys(load.names, 0)
            lender = Grown([*first, *new])
            async with pgherd.connect(dsn) as db, asyncio.TaskGroup() as group:
                for name, work in JOBS.items():
                    link = await connected(stack)
                    group.create_task(
                        load.repeat(name, lambda key, work=work, link=link: work(load, link, key))
                    )
                group.create_task(load.repeat("client", lambda key: client(load, db, key)))
                await load.rounds()
                for node in new:
                    assert await growth.add_group(lender, [node], dump=lender.dump)
                    await load.rounds()
                assert await growth.remove_group(lender, GroupId(3))
                await load.rounds()
                load.stop = True
            await all_alike(load, [*first, new[0]], setup)

    asyncio.run(asyncio.wait_for(job(), 170))
