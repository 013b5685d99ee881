"""Links over asyncpg, bare: for tests of the transaction layer alone, without gateway, client or cluster map."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Params, Part, Row, TextRows
from pgherd.errors import GroupDown, ServerError

_ROWS = ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "FETCH", "DELETE", "UPDATE", "INSERT")
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class PlainLink:
    """One asyncpg connection. `run` cuts at every semicolon: none may stand in a literal."""

    def __init__(self, group: GroupId, connection: Any) -> None:
        self.group = group
        self.connection = connection

    @property
    def broken(self) -> bool:
        return self.connection.is_closed()

    @property
    def pid(self) -> int:
        return self.connection.get_server_pid()

    async def run(self, sql: str) -> list[Row]:
        head, _, last = sql.rpartition(";")
        try:
            if not last.lstrip(" (\n").upper().startswith(_ROWS):
                await self.connection.execute(sql)
                return []
            if head:
                await self.connection.execute(head)
            return [_texts(row) for row in await self.connection.fetch(last)]
        except asyncpg.PostgresError as error:
            raise _server_error(error) from error
        except _LOST as error:
            raise GroupDown(f"the connection to group {self.group} was lost: {error}") from error

    async def do(self, sql: str) -> None:
        await self.run(sql)

    async def open(self, sql: str) -> None:
        await self.run(sql)

    def abort(self) -> None:
        self.connection.terminate()

    async def part(self, sql: str, params: Params) -> Part:
        rows = await self.run(sql)
        return Part(rows=list[Any](rows), tag=f"SELECT {len(rows)}")

    async def texts(self, sql: str, params: Params) -> TextRows:
        rows = await self.run(sql)
        return TextRows(names=(), types=(), rows=rows, tag=f"SELECT {len(rows)}")

    async def copy_in(self, sql: str, chunks: AsyncIterator[bytes]) -> int:
        raise NotImplementedError

    async def copy_out(self, sql: str) -> AsyncGenerator[bytes]:
        raise NotImplementedError
        yield b""


class PlainLender:
    """Lends connections to the DSNs of `uris`; what is given back reusable is lent again."""

    def __init__(self, uris: Mapping[GroupId, str], *, settings: Mapping[str, str] | None = None) -> None:
        self.uris = uris
        self.settings = dict(settings or {})
        self.idle: dict[GroupId, list[PlainLink]] = {group: [] for group in uris}
        self.out: set[PlainLink] = set()

    async def lend(self, group: GroupId) -> PlainLink:
        """A connection; raises GroupDown if none can be opened within two seconds."""
        while self.idle[group]:
            link = self.idle[group].pop()
            if not link.broken:
                self.out.add(link)
                return link
        try:
            connection = await asyncpg.connect(
                self.uris[group], timeout=2, statement_cache_size=0, server_settings=self.settings
            )
        except (asyncpg.PostgresError, *_LOST) as error:
            raise GroupDown(f"group {group} is down: {error}") from error
        link = PlainLink(group, connection)
        self.out.add(link)
        return link

    def give_back(self, link: Any, *, reusable: bool) -> None:
        """Take a connection back."""
        self.out.discard(link)
        if reusable and not link.broken:
            self.idle[link.group].append(link)
        else:
            link.connection.terminate()

    async def close(self) -> None:
        """Close what is idle and what was not given back."""
        links = [link for idle in self.idle.values() for link in idle] + list(self.out)
        for idle in self.idle.values():
            idle.clear()
        for link in links:
            try:
                await link.connection.close(timeout=1)
            except (asyncpg.PostgresError, *_LOST):  # in mid-statement, or its server is gone
                link.connection.terminate()
        for _ in range(3):  # an aborted transport closes its socket in the loop's next rounds
            await asyncio.sleep(0)


def _texts(row: Sequence[Any]) -> Row:
    return tuple(None if value is None else str(value) for value in row)


def _server_error(error: asyncpg.PostgresError) -> ServerError | GroupDown:
    if isinstance(error, asyncpg.PostgresConnectionError):
        return GroupDown(str(error))
    severity = str(getattr(error, "severity_en", None) or getattr(error, "severity", "ERROR"))
    fields = {"S": severity, "V": severity, "C": str(getattr(error, "sqlstate", "XX000")), "M": str(error)}
    if (table := getattr(error, "table_name", None)) is not None:
        fields["t"] = str(table)
    return ServerError(fields)
