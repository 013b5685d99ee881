"""A small distributed world for the client's tests, and the same rows in one plain PostgreSQL (the dumb twin)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

import pgherd
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard

T = TypeVar("T")

TABLES = """
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE notes (id int PRIMARY KEY, body text);
CREATE TABLE users (
    id bigint, name text, country text, credit int NOT NULL DEFAULT 0, born date, PRIMARY KEY (id)
){users};
CREATE TABLE orders (
    user_id bigint REFERENCES users, no int, amount numeric(10, 2), placed timestamptz, PRIMARY KEY (user_id, no)
){orders};
CREATE TABLE people (last_name text, id bigint, age int, PRIMARY KEY (last_name, id)){people};
"""
CUTS = {
    "users": " PARTITION BY HASH (id)",
    "orders": " PARTITION BY HASH (user_id)",
    "people": " PARTITION BY RANGE (last_name)",
}


@dataclass(frozen=True, slots=True)
class World:
    """`dsns`: the cluster's nodes in group order. `plain`: the twin's database, with the same tables and rows."""

    dsns: tuple[str, ...]
    plain: str

    @property
    def dsn(self) -> str:
        return self.dsns[0]


def run(job: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine, bounded."""
    return asyncio.run(_bounded(job))


async def _bounded(job: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(60):
        return await job


_WORLDS: dict[str, World] = {}  # by the yard's directory: tests leave its rows as they found them


def make(yard: Yard) -> World:
    """Three groups with tables of every kind, filled, and the twin beside them: once for a test run."""
    found = _WORLDS.get(str(yard.directory))
    if found is None:
        yard.kept |= {"client", "client-twin"}
        cluster = yard.cluster("client", embedded=True, groups=3, gateway=False)
        found = World(tuple(uris(cluster)), yard.server("client-twin").uri())
        run(_fill(found))
        _WORLDS[str(yard.directory)] = found
    return found


async def _fill(world: World) -> None:
    plain = await asyncpg.connect(world.plain)
    await plain.execute(TABLES.format(users="", orders="", people=""))
    async with pgherd.connect(world.dsn) as db:
        for statement in TABLES.format(**CUTS).split(";"):
            if statement.strip():
                await db.execute(statement)
        await db.execute("CALL pgherd.reference('countries')")
        await db.execute("CALL pgherd.split('people', 'H', offline => true)")
        await db.execute("CALL pgherd.split('people', 'P', offline => true)")
        shards = await db.fetch(
            "SELECT s.id FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'people' ORDER BY s.id"
        )
        for group, row in enumerate(shards):
            await db.execute(f"CALL pgherd.move({row['id']}, {group}, offline => true)")
        for target in (db, plain):
            await fill(target)
    await plain.close()


async def fill(db: Any) -> None:
    """The rows, through whatever has execute and executemany."""
    await db.executemany(
        "INSERT INTO countries VALUES ($1, $2)", [("de", "Germany"), ("fr", "France"), ("it", "Italy")]
    )
    await db.executemany("INSERT INTO notes VALUES ($1, $2)", [(n, f"note {n}") for n in range(5)])
    await db.executemany(
        "INSERT INTO users (id, name, country, credit) VALUES ($1, $2, $3, $4)",
        [(n, f"user {n % 7}", ("de", "fr", "it", None)[n % 4], n * 10 % 70) for n in range(1, 41)],
    )
    await db.executemany(
        "INSERT INTO orders (user_id, no, amount) VALUES ($1, $2, $3::text::numeric)",
        [(n, k, f"{n * k}.50") for n in range(1, 31) for k in range(1, 1 + n % 4)],
    )
    names = ("Adams", "Baker", "Hill", "Moore", "Park", "Young", "Zorn")
    await db.executemany(
        "INSERT INTO people VALUES ($1, $2, $3)", [(name, n, 20 + n) for n in range(4) for name in names]
    )
