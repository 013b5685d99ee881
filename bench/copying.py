"""COPY of many rows through gateway and client, against the rate of one server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

import pgherd
from bench.contest import Contestant, Terms, Turn, contest, once
from bench.figures import Aim, Figure
from bench.ground import Ground, Place

PLACE = "grouped"
NOTE = "text format from a file, one stream, a primary key, durable; tables emptied and a checkpoint before each turn"
_COLUMNS = "id bigint NOT NULL, name text NOT NULL, city text NOT NULL, credit numeric(12,2) NOT NULL"
KEYS = {"hash": ("id", "HASH (id)"), "range": ("city, id", "RANGE (city)")}  # primary key, and how it is cut
HALF = "city 5"  # cities from here on are in the second range


async def run(ground: Ground) -> list[Figure]:
    """Rows a second, CPU per row; for a table by hash of a number (4 shards in each group), and by ranges of a text (one)."""
    straight = await asyncpg.connect(ground.grouped.straight)
    path = await _file(ground, straight)
    await straight.close()
    figures = [await _copied(ground, path, strategy) for strategy in KEYS]
    path.unlink()
    return figures


async def _copied(ground: Ground, path: Path, strategy: str) -> Figure:
    place, effort = ground.grouped, ground.effort
    terms = Terms(rounds=effort.copy_rounds, seconds=0, watch=place.watch)
    gateway = await asyncpg.connect(place.dsn)
    straight = await asyncpg.connect(place.straight)
    await _table(gateway, straight, strategy)
    aims = [Aim(against="one server", least=1.2)]
    load = partial(_load, place=place, path=path, rows=effort.rows, table=f"loaded_{strategy}")
    async with pgherd.connect(place.dsn) as db:
        contestants = [
            Contestant("pgherd gateway", load(gateway), ("client", "gateway", "server")),
            Contestant("one server", load(straight)),
            Contestant("pgherd client", load(db)),
        ]
        name = f"COPY of {effort.rows:,} rows, by {strategy}"
        figure = await contest("copying", name, contestants, terms, aims, NOTE)
    await gateway.close()
    await straight.close()
    return figure


async def _table(gateway: asyncpg.Connection, straight: asyncpg.Connection, strategy: str) -> None:
    primary, cut = KEYS[strategy]
    ddl = f"CREATE TABLE loaded_{strategy} ({_COLUMNS}, PRIMARY KEY ({primary}))"
    await straight.execute(ddl)
    await gateway.execute(f"{ddl} PARTITION BY {cut}")
    if strategy == "range":
        await gateway.execute(f"CALL pgherd.split('loaded_{strategy}', '{HALF}')")
        homes = await gateway.fetch(
            "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = $1 ORDER BY 1",
            f"loaded_{strategy}",
        )
        if len({home["group_id"] for home in homes}) == 1:  # a half for each group
            await gateway.execute(f"CALL pgherd.move({homes[-1]['id']}, {1 - homes[-1]['group_id']})")


async def _file(ground: Ground, straight: asyncpg.Connection) -> Path:
    path = ground.directory / "loaded.copy"
    source = (
        f"SELECT g, 'person ' || g, 'city ' || g * 7919 % 1000, (g * 48271 % 2147483647 % 10000000) / 100.0 "
        f"FROM generate_series(1, {ground.effort.rows}::bigint) g"
    )
    await straight.copy_from_query(source, output=str(path))
    return path


def _load(
    connection: Any, *, place: Place, path: Path, rows: int, table: str
) -> Callable[[float], Awaitable[Turn]]:
    async def turn(seconds: float) -> Turn:
        del seconds  # it takes what it takes
        await connection.execute(f"TRUNCATE {table}")
        await _checkpoint(place)
        done = await once(lambda: connection.copy_to_table(table, source=str(path)))
        return Turn(count=rows, seconds=done.seconds)

    return turn


async def _checkpoint(place: Place) -> None:
    for uri in (*place.nodes, place.straight):
        connection = await asyncpg.connect(uri)
        await connection.execute("CHECKPOINT")
        await connection.close()
