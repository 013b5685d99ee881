"""Accounts in two groups and on one server, and the ways to move money from one to another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import asyncpg

import pgherd
from bench.contest import Step
from bench.ground import Ground, Place, close, connections, fill, settle, shard_tables

TAKE = "UPDATE accounts SET balance = balance - $1 WHERE id = $2"
GIVE = "UPDATE accounts SET balance = balance + $1 WHERE id = $2"
TOTAL = "SELECT sum(balance) FROM accounts"
_DDL = "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)"
_made: dict[int, Accounts] = {}
_names = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """`homes`: for each group, (shard's table, ids). Money always goes from group 0 to group 1, so nothing deadlocks."""

    place: Place
    homes: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]
    total: int

    def ids(self, group: int) -> list[int]:
        return [key for _, keys in self.homes[group] for key in keys]


async def accounts(ground: Ground) -> Accounts:
    """Make them once for a run."""
    if id(ground) not in _made:
        place, rows = ground.grouped, ground.effort.accounts
        source = f"SELECT g, 1000 FROM generate_series(1, {rows}) g"
        await fill(
            place,
            (f"{_DDL} PARTITION BY HASH (id)", _DDL),
            "accounts",
            source,
            ground.directory / "accounts.copy",
        )
        await settle(place)
        homes = tuple([await _home(uri) for uri in place.nodes])
        _made[id(ground)] = Accounts(place=place, homes=homes, total=rows * 1000)
    return _made[id(ground)]


async def _home(uri: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    connection = await asyncpg.connect(uri)
    found = [
        (table, tuple(row[0] for row in await connection.fetch(f"SELECT id FROM {table}")))
        for table in await shard_tables(uri, "accounts")
    ]
    await connection.close()
    return tuple(found)


def _chooser(ids: list[int], seed: int) -> Callable[[], int]:
    number, size = random.Random(seed).random, len(ids)
    return lambda: ids[int(number() * size)]


def through_client(made: Accounts, db: pgherd.client.Database) -> Step:
    """A transfer with pgherd.connect."""
    giver, taker = _chooser(made.ids(0), 1), _chooser(made.ids(1), 2)

    async def step() -> None:
        async with db.transaction():
            await db.execute(TAKE, 1, giver())
            await db.execute(GIVE, 1, taker())

    return step


def through_asyncpg(made: Accounts, connection: asyncpg.Connection) -> Step:
    """A transfer over one connection: the gateway's, or the one server's."""
    giver, taker = _chooser(made.ids(0), 3), _chooser(made.ids(1), 4)

    async def step() -> None:
        async with connection.transaction():
            await connection.execute(TAKE, 1, giver())
            await connection.execute(GIVE, 1, taker())

    return step


async def by_hand(made: Accounts, left: asyncpg.Connection, right: asyncpg.Connection) -> Step:
    """Bare two-phase commit: no decision is kept, nobody could recover it."""
    sides = [
        [
            (await connection.prepare(sql.replace("accounts", table)), key)
            for table, keys in home
            for key in keys
        ]
        for connection, home, sql in ((left, made.homes[0], TAKE), (right, made.homes[1], GIVE))
    ]
    number = random.Random(5).random

    async def step() -> None:
        name = f"bare_{next(_names)}"
        for connection, side in ((left, sides[0]), (right, sides[1])):
            await connection.execute("BEGIN")
            statement, key = side[int(number() * len(side))]
            await statement.fetch(1, key)
        for verb in ("PREPARE TRANSACTION", "COMMIT PREPARED"):
            await asyncio.gather(left.execute(f"{verb} '{name}'"), right.execute(f"{verb} '{name}'"))

    return step


async def hands(made: Accounts, clients: int) -> tuple[list[Step], list[asyncpg.Connection]]:
    """Bare two-phase commit for so many tasks, two connections each."""
    lefts, rights = [await connections(uri, clients) for uri in made.place.nodes]
    steps = [await by_hand(made, left, right) for left, right in zip(lefts, rights, strict=True)]
    return steps, [*lefts, *rights]


__all__ = ["TOTAL", "Accounts", "accounts", "by_hand", "close", "hands", "through_asyncpg", "through_client"]
