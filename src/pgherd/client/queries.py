"""The query methods that a database and a transaction share, in asyncpg's shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from pgherd.client import files, many
from pgherd.engine.link import Part
from pgherd.errors import PgherdError, ServerError

if TYPE_CHECKING:
    from pgherd.client.cursor import Cursor
    from pgherd.client.transaction import Transaction

T = TypeVar("T")
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

    @abstractmethod
    def cursor(self, query: str, *args: Any, prefetch: int = 50) -> Cursor:
        """Rows as they come: `async for row in db.cursor(...)`, or `await` it for fetch(n). Inside a transaction only."""

    @abstractmethod
    async def _copy(self, job: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        """Run a COPY in this transaction, or in one of its own."""

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: many.Records,
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """COPY Python records (an iterable or async iterable of tuples) into a table, divided by shard. The command tag."""
        target = many.Target(
            table=table_name, schema=schema_name, columns=None if columns is None else tuple(columns)
        )
        count = await self._copy(lambda transaction: many.copy_records(transaction, target, records), timeout)
        return f"COPY {count}"

    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: Any,
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> str:
        """COPY a file (a path, a binary file, bytes, an async iterable of bytes) into a table. The command tag.

        `options` are COPY's: format, delimiter, null, header, quote, escape, encoding ...
        """
        where = files.table_text(table_name, schema_name, columns)
        sql = f"COPY {where} FROM STDIN{files.options_text(options)}"
        return await self._copy(lambda transaction: files.copy_to(transaction, sql, source), timeout)

    async def copy_from_table(
        self,
        table_name: str,
        *,
        output: Any,
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> str:
        """COPY a table to a path, a binary file or a (coroutine) function that takes bytes."""
        where = files.table_text(table_name, schema_name, columns)
        sql = f"COPY {where} TO STDOUT{files.options_text(options)}"
        return await self._copy(lambda transaction: files.copy_from(transaction, sql, output), timeout)

    async def copy_from_query(
        self, query: str, *, output: Any, timeout: float | None = None, **options: Any
    ) -> str:
        """COPY a query's rows to a path, a binary file or a (coroutine) function that takes bytes."""
        sql = f"COPY ({query}) TO STDOUT{files.options_text(options)}"
        return await self._copy(lambda transaction: files.copy_from(transaction, sql, output), timeout)

    async def executemany(
        self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None:
        """The statement once for each argument list; all of them or none."""
        await self._many(command, args, timeout)


def raise_for_user(error: PgherdError) -> NoReturn:
    """Raise what the caller should see: errors of servers as asyncpg's own classes."""
    if isinstance(error, ServerError) and error.__cause__ is not None:
        raise error.__cause__ from None
    raise error
