"""Reads of whole tables over two groups, against one PostgreSQL that holds all rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

import pgherd
from bench.contest import Contestant, Terms, Turn, contest, once
from bench.figures import Aim, Figure
from bench.ground import Ground, fill, settle

PLACE = "grouped"
NOTE = (
    "one connection; two groups (4 shards each, by hash) and the one server have the same settings; all on this machine. "
    "Citus, on the machine of the design's figures: 0.7, 1.2, 0.8, 0.33"
)
QUERIES = {
    "count and avg": "SELECT count(*), avg(credit) FROM person",
    "group by": "SELECT city, count(*), sum(credit) FROM person GROUP BY city ORDER BY 2 DESC, 1",
    "top 10": "SELECT person, name, credit FROM person ORDER BY credit DESC, person LIMIT 10",
    "colocated join": "SELECT p.city, count(*), sum(o.amount) FROM person p JOIN purchase o ON o.person = p.person "
    "GROUP BY p.city ORDER BY 3 DESC, 1 LIMIT 10",
}
PERSON = "CREATE TABLE person (person bigint PRIMARY KEY, name text NOT NULL, city text NOT NULL, credit numeric(12,2) NOT NULL)"
PURCHASE = "CREATE TABLE purchase (person bigint, id bigint, amount numeric(12,2) NOT NULL, PRIMARY KEY (person, id))"


async def run(ground: Ground) -> list[Figure]:
    """Four queries through gateway and client; the answers must be the same as the one server's."""
    await _tables(ground)
    place, effort = ground.grouped, ground.effort
    terms = Terms(rounds=effort.rounds, seconds=effort.seconds, watch=place.watch, unit="ms")
    gateway = await asyncpg.connect(place.dsn)
    straight = await asyncpg.connect(place.straight)
    figures: list[Figure] = []
    async with pgherd.connect(place.dsn) as db:
        for name, sql in QUERIES.items():
            expected = [tuple(row) for row in await straight.fetch(sql)]
            for answer in (await gateway.fetch(sql), await db.fetch(sql)):
                if [tuple(row) for row in answer] != expected:
                    raise RuntimeError(f"{name}: the cluster answers something else than one PostgreSQL")
            contestants = [
                Contestant("pgherd gateway", _query(gateway, sql), ("client", "gateway", "server")),
                Contestant("one server", _query(straight, sql)),
                Contestant("pgherd client", _query(db, sql)),
            ]
            aims = [Aim(against="one server", most=1.0)]
            figures.append(await contest("federated", name, contestants, terms, aims, NOTE))
    await gateway.close()
    await straight.close()
    return figures


def _query(connection: Any, sql: str) -> Callable[[float], Awaitable[Turn]]:
    async def turn(seconds: float) -> Turn:
        del seconds  # a statement takes what it takes
        return await once(lambda: connection.fetch(sql))

    return turn


async def _tables(ground: Ground) -> None:
    place, rows = ground.grouped, ground.effort.rows
    people = (
        f"SELECT g, 'person ' || g, 'city ' || g * 7919 % 1000, (g * 48271 % 2147483647 % 10000000) / 100.0 "
        f"FROM generate_series(1, {rows}::bigint) g"
    )
    purchases = (
        f"SELECT 1 + g * 16807 % {rows}, g, (g * 69621 % 2147483647 % 100000) / 100.0 "
        f"FROM generate_series(1, {rows}::bigint) g"
    )
    by_hash = " PARTITION BY HASH (person)"
    for ddl, table, source in ((PERSON, "person", people), (PURCHASE, "purchase", purchases)):
        path = ground.directory / f"{table}.copy"
        await fill(place, (ddl + by_hash, ddl), table, source, path)
        path.unlink()
    await settle(place)
