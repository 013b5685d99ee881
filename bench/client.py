"""Point reads and updates through the client, against asyncpg straight to the owner."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

import pgherd
from bench import points
from bench.contest import Contestant, Step, Terms, Turn, contest, side_by_side
from bench.figures import Aim, Figure
from bench.ground import Ground, close, connections, shard_tables

PLACE = "embedded"
NOTE = (
    "8 tasks, uvloop; asyncpg: held connections that know each key's owner, "
    "prepared statements (prepared) or its cached statements (fetchrow)"
)


async def run(ground: Ground) -> list[Figure]:
    """Client and asyncpg with the same number of tasks, on the same server, on the same shard tables."""
    await points.people(ground)
    place, effort = ground.embedded, ground.effort
    terms = Terms(rounds=effort.rounds, seconds=effort.seconds, watch=place.watch)
    figures: list[Figure] = []
    held = [
        (group, connection)
        for group, uri in enumerate(place.nodes)
        for connection in await connections(uri, effort.clients // len(place.nodes))
    ]
    homes = [await _owned(uri) for uri in place.nodes]
    async with pgherd.connect(place.dsn, max_size=effort.clients) as db:
        for name, sql in (("point read", points.READ), ("point update", points.UPDATE)):
            contestants = [
                Contestant("pgherd client", _ours(db, sql, effort.points, effort.clients)),
                Contestant("asyncpg prepared", await _prepared(held, homes, sql)),
                Contestant("asyncpg fetchrow", _cached(held, homes, sql)),
            ]
            aims = [Aim(against="asyncpg prepared", least=0.95)]
            figures.append(await contest("client", name, contestants, terms, aims, NOTE))
    await close([connection for _, connection in held])
    return figures


Run = Callable[[float], Awaitable[Turn]]
Homes = list[tuple[str, list[int]]]  # a shard's table and the ids in it
Held = list[tuple[int, asyncpg.Connection]]


async def _owned(uri: str) -> Homes:
    connection = await asyncpg.connect(uri)
    found = [
        (table, [row[0] for row in await connection.fetch(f"SELECT id FROM {table}")])
        for table in await shard_tables(uri, "people")
    ]
    await connection.close()
    return found


def _ours(db: pgherd.client.Database, sql: str, rows: int, clients: int) -> Run:
    number = random.Random(1).random

    async def step() -> None:
        await db.fetchrow(sql, int(number() * rows) + 1)

    return _turns([step] * clients)


async def _prepared(held: Held, homes: list[Homes], sql: str) -> Run:
    number = random.Random(2).random

    async def one(group: int, connection: asyncpg.Connection) -> Step:
        choices: list[tuple[PreparedStatement, int]] = []
        for table, ids in homes[group]:
            statement = await connection.prepare(sql.replace("people", table))
            choices += [(statement, key) for key in ids]
        count = len(choices)

        async def step() -> None:
            statement, key = choices[int(number() * count)]
            await statement.fetchrow(key)

        return step

    return _turns([await one(group, connection) for group, connection in held])


def _cached(held: Held, homes: list[Homes], sql: str) -> Run:
    number = random.Random(3).random

    def one(group: int, connection: asyncpg.Connection) -> Step:
        choices = [(sql.replace("people", table), key) for table, ids in homes[group] for key in ids]
        count = len(choices)

        async def step() -> None:
            text, key = choices[int(number() * count)]
            await connection.fetchrow(text, key)

        return step

    return _turns([one(group, connection) for group, connection in held])


def _turns(steps: list[Step]) -> Run:
    async def turn(seconds: float) -> Turn:
        return await side_by_side(steps, seconds)

    return turn
