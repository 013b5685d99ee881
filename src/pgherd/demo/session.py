"""The demonstration's hands: statements that are shown, sent through the gateway with asyncpg, timed, and answered."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from pgherd.client.database import Database
from pgherd.demo.people import Crowd
from pgherd.demo.place import Place
from pgherd.demo.screen import Screen, duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connection to the gateway, pgherd's own client, a screen, the data, and the cluster."""

    connection: asyncpg.Connection
    client: Database
    screen: Screen
    crowd: Crowd
    place: Place

    async def define(self, *statements: str) -> None:
        """Show statements and carry them out, one after another."""
        self.screen.sql(";\n".join(statement.strip() for statement in statements) + ";")
        started = time.monotonic()
        for statement in statements:
            await self.connection.execute(statement)
        self.screen.note(f"done in {duration(time.monotonic() - started)}")

    async def query(self, sql: str, *, show_route: bool = False) -> Sequence[Any]:
        """Show a query, carry it out and show its rows and its time; with the route, how it was carried out."""
        self.screen.sql(sql + ";")
        started = time.monotonic()
        rows = await self.connection.fetch(sql)
        seconds = time.monotonic() - started
        if rows:
            self.screen.rows(list(rows[0].keys()), [tuple(row.values()) for row in rows])
        self.screen.note(f"{len(rows)} row{'' if len(rows) == 1 else 's'} in {duration(seconds)}")
        if show_route:
            self.screen.note(await self.route(sql))
        return rows

    async def route(self, sql: str) -> str:
        """How the statement goes, in EXPLAIN's words."""
        told: Any = await self.connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}")
        return json.loads(told)[0]["Route"]

    async def explain(self, sql: str) -> Sequence[str]:
        """Show EXPLAIN of a statement."""
        sql = f"EXPLAIN (COSTS OFF)\n{sql}"
        self.screen.sql(sql + ";")
        lines = [row[0] for row in await self.connection.fetch(sql)]
        self.screen.lines(lines)
        return lines

    async def load(self, table: str, columns: str, chunks: Iterator[tuple[int, bytes]], total: int) -> float:
        """COPY rows into a table, with a progress bar, and tell how fast it went. Answers the seconds."""
        self.screen.sql(f"COPY {table} ({columns}) FROM STDIN;")
        started = time.monotonic()
        with self.screen.progress(table, total) as advance:

            async def source() -> AsyncGenerator[bytes]:
                for count, data in chunks:
                    yield data
                    advance(count)

            await self.connection.copy_to_table(
                table, source=source(), columns=columns.split(", "), format="text"
            )
        seconds = time.monotonic() - started
        self.screen.note(f"{total:,} rows in {duration(seconds)}: {total / seconds:,.0f} rows per second")
        return seconds
