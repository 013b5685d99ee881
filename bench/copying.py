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
TABLE = "CREATE TABLE loaded (id bigint PRIMARY KEY, name text NOT NULL, city text NOT NULL, credit numeric(12,2) NOT NULL)"


async def run(ground: Ground) -> list[Figure]:
    """Rows a second; CPU per row."""
    place, effort = ground.grouped, ground.effort
    terms = Terms(rounds=effort.copy_rounds, seconds=0, watch=place.watch)
    gateway = await asyncpg.connect(place.dsn)
    straight = await asyncpg.connect(place.straight)
    await gateway.execute(TABLE + " PARTITION BY HASH (id)")
    await straight.execute(TABLE)
    path = await _file(ground, straight)
    aims = [Aim(against="one server", least=1.2)]
    load = partial(_load, place=place, path=path, rows=effort.rows)
    async with pgherd.connect(place.dsn) as db:
        contestants = [
            Contestant("pgherd gateway", load(gateway), ("client", "gateway", "server")),
            Contestant("one server", load(straight)),
            Contestant("pgherd client", load(db)),
        ]
        figure = await contest("copying", f"COPY of {effort.rows:,} rows", contestants, terms, aims, NOTE)
    await gateway.close()
    await straight.close()
    path.unlink()
    return [figure]


async def _file(ground: Ground, straight: asyncpg.Connection) -> Path:
    path = ground.directory / "loaded.copy"
    source = (
        f"SELECT g, 'person ' || g, 'city ' || g * 7919 % 1000, (g * 48271 % 2147483647 % 10000000) / 100.0 "
        f"FROM generate_series(1, {ground.effort.rows}::bigint) g"
    )
    await straight.copy_from_query(source, output=str(path))
    return path


def _load(connection: Any, *, place: Place, path: Path, rows: int) -> Callable[[float], Awaitable[Turn]]:
    async def turn(seconds: float) -> Turn:
        del seconds  # it takes what it takes
        await connection.execute("TRUNCATE loaded")
        await _checkpoint(place)
        done = await once(lambda: connection.copy_to_table("loaded", source=str(path)))
        return Turn(count=rows, seconds=done.seconds)

    return turn


async def _checkpoint(place: Place) -> None:
    for uri in (*place.nodes, place.straight):
        connection = await asyncpg.connect(uri)
        await connection.execute("CHECKPOINT")
        await connection.close()
