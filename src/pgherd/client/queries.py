"""The query methods that a database and a transaction share, in asyncpg's shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pgherd.engine.link import Part
from pgherd.errors import PgherdError, ServerError

Want = Literal["rows", "row", "tag"]
Record = Any  # asyncpg.Record


class Queries(ABC):
    """fetch, fetchrow, fetchval, execute, executemany: as in asyncpg."""

    __slots__ = ()

    @abstractmethod
    async def _query(self, query: str, args: Sequence[Any], want: Want, timeout: float | None) -> Part:
        """Carry out one statement."""

    @abstractmethod
    async def _script(self, query: str, timeout: float | None) -> str:
        """Carry out statements without arguments; the last one's command tag."""

    @abstractmethod
    async def _many(self, query: str, args: Iterable[Sequence[Any]], timeout: float | None) -> None:
        """Carry out one statement for many argument lists, all or none."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]:
        """All rows."""
        return (await self._query(query, args, "rows", timeout)).rows

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None:
        """The first row, or None."""
        rows = (await self._query(query, args, "row", timeout)).rows
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row, or None if there is no row."""
        rows = (await self._query(query, args, "row", timeout)).rows
        return rows[0][column] if rows else None

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The command tag ("INSERT 0 1"). Without arguments `query` may hold several statements; they run as one transaction."""
        if not args:
            return await self._script(query, timeout)
        return (await self._query(query, args, "tag", timeout)).tag

    async def executemany(
        self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None:
        """The statement once for each argument list; all of them or none."""
        await self._many(command, args, timeout)


def users_error(error: PgherdError) -> BaseException:
    """What the caller sees: errors of servers as asyncpg's own classes."""
    return error.__cause__ if isinstance(error, ServerError) and error.__cause__ is not None else error
