"""The client's `engine.link.Link`: one branch over asyncpg, and the parameters of a Python call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import postgast

from pgherd.catalog import keys
from pgherd.catalog.model import GroupId
from pgherd.client.held import Held
from pgherd.client.losses import ENDED, LOST, doubtful
from pgherd.client.pool import GroupPool
from pgherd.engine.link import Params, Part, Row, TextRows
from pgherd.errors import GroupDown, ServerError

T = TypeVar("T")
_FIELDS = {
    "severity": "S", "severity_en": "V", "sqlstate": "C", "message": "M", "detail": "D", "hint": "H", "position": "P",
    "internal_position": "p", "internal_query": "q", "context": "W", "schema_name": "s", "table_name": "t",
    "column_name": "c", "data_type_name": "d", "constraint_name": "n", "server_source_filename": "F",
    "server_source_line": "L", "server_source_function": "R",
}  # fmt: skip


class PythonParams:
    """A call's arguments as `engine.link.Params`."""

    __slots__ = ("args",)

    def __init__(self, args: Sequence[Any] = ()) -> None:
        self.args = args

    def key(self, number: int, key_type: str) -> Any:
        """The canonical key value of argument `number`; None for NULL."""
        try:
            value = self.args[number - 1]
        except IndexError:
            raise asyncpg.InterfaceError(
                f"the server expects at least {number} arguments for this query, {len(self.args)} were passed"
            ) from None
        return None if value is None else keys.decode_python(key_type, value)

    def select(self, numbers: Sequence[int]) -> PythonParams:
        """Only these arguments, in this order."""
        return PythonParams([self.args[number - 1] for number in numbers])


def arguments(params: Params) -> Sequence[Any]:
    """What asyncpg gets."""
    assert isinstance(params, PythonParams)
    return params.args


def server_error(error: asyncpg.PostgresError) -> ServerError:
    """asyncpg's exception as the engine's; the original stays its `__cause__`, and is what users see."""
    fields = {
        code: str(value)
        for name, code in _FIELDS.items()
        if (value := getattr(error, name, None)) is not None
    }
    fields.setdefault("M", str(error))
    found = ServerError(fields)
    found.__cause__ = error
    return found


class AsyncpgLink:
    """One branch's connection. Statements of several tasks queue up at its lock."""

    __slots__ = ("_fresh", "_group", "_lock", "_opening", "custom", "held", "pool")

    def __init__(self, pool: GroupPool, held: Held, custom: frozenset[str] = frozenset()) -> None:
        self._group = pool.group
        self.pool = pool
        self._lock = asyncio.Lock()
        self._fresh = True
        self._opening = ""  # what begins the branch, as long as it was not sent
        self.held = held
        self.custom = custom  # names of types with codecs of the user's own

    @property
    def group(self) -> GroupId:
        return self._group

    @property
    def broken(self) -> bool:
        return self.held.lost

    @property
    def pid(self) -> int:
        """The server process behind this connection."""
        return self.held.pid

    def _error(self, error: BaseException) -> BaseException:
        if isinstance(error, asyncpg.PostgresError) and not isinstance(
            error, (asyncpg.PostgresConnectionError, *ENDED)
        ):
            return server_error(error)
        if self.held.lost or isinstance(error, (OSError, asyncpg.PostgresConnectionError, *ENDED)):
            self.held.dirty = True
            return GroupDown(f"the connection to group {self._group} was lost: {error}")
        return error

    async def run(self, sql: str) -> list[Row]:
        """Statements without parameters; the last one's rows as text."""
        head, last = _cut(sql)
        async with self._lock:
            try:
                rows = await self._first(lambda: self._run(head, last))
                if not self.held.sure:
                    await self._certain()
                return rows
            except (asyncpg.PostgresError, *LOST) as error:
                raise self._error(error) from error

    async def do(self, sql: str) -> None:
        """Statements without parameters, for their effect."""
        async with self._lock:
            try:
                if self._fresh:
                    await self._first(lambda: self._execute(sql))
                else:
                    await self._execute(sql)
            except (asyncpg.PostgresError, *LOST) as error:
                raise self._error(error) from error

    async def open(self, sql: str) -> None:
        """Begin a branch with the next statement. A prepared one goes with it in one round trip: asyncpg knows no pipeline,
        but answers of the extended protocol that come before its own statement's, and hold no rows, do not disturb it."""
        self._opening = sql

    def abort(self) -> None:
        """Give the connection up at once."""
        self.held.connection.terminate()

    async def _run(self, head: str, last: str) -> list[Row]:
        if head:
            await self._execute(head)
        return (await self._texts(last, ())).rows if last else []

    async def _first(self, job: Callable[[], Awaitable[T]]) -> T:
        """Do `job`. The first on a lent connection may find that it had died while idle: then it is done on another one.

        What comes first is a BEGIN, a read, or a step of recovery: nothing that could be done twice.
        """
        tries, self._fresh = (3 if self._fresh else 0), False
        opening = self._opening
        while True:
            try:
                return await job()
            except (*ENDED, *LOST) as error:
                if tries == 0 or not (self.held.lost or isinstance(error, ENDED)):
                    raise
            tries -= 1
            dead, self.held = self.held, await self.pool.overdraw()
            self.pool.drop(dead)
            self._opening = opening

    async def _begun(self) -> None:
        """The branch is open from here on."""
        if self._opening:
            opening, self._opening = self._opening, ""
            await self._execute_now(opening)

    async def _execute(self, sql: str) -> None:
        if self._opening:
            await self._begun()
        await self._execute_now(sql)

    async def _execute_now(self, sql: str) -> None:
        connection: Any = self.held.connection
        try:
            await connection.execute(sql)
            self._trusted_commit()
        except asyncio.CancelledError:
            # asyncpg is about to cancel on the server what is cancelled here: a cancel during a commit would make it look
            # committed. Its task has not begun yet, as this one was woken in the same turn of the loop.
            connection.terminate()
            for task in connection._cancellations:
                task.cancel()
            raise

    def _trusted_commit(self) -> None:
        """Raises OutcomeUnknown after a commit of whose replication nothing is known."""
        if self.held.doubted:
            self.held.connection.terminate()
            raise doubtful(self._group)

    async def part(self, sql: str, params: Params) -> Part:
        """One statement; rows are asyncpg's records."""
        async with self._lock:
            try:
                if self._fresh:
                    return await self._first(lambda: self._part(sql, params))
                return await self._part(sql, params)
            except (asyncpg.PostgresError, *LOST) as error:
                self.held.forget(sql)
                raise self._error(error) from error

    async def _part(self, sql: str, params: Params) -> Part:
        statement = self.held.statements.get(sql)
        opening = self._opening
        if statement is None:
            statement = await self._prepared(sql)
        elif opening and '"' not in opening:
            connection: Any = self.held.connection
            connection._transport.write(_unasked(opening))
            self._opening = ""
        elif opening:
            await self._begun()
        rows: list[Any] = await statement.fetch(*arguments(params))
        if not self.held.sure:
            await self._certain()
        return Part(rows=rows, tag=statement.get_statusmsg())

    async def _certain(self) -> None:
        """What was read counts only if its node was the primary: wait until that is known. Raises GroupDown if it was not, and
        OutcomeUnknown if something was committed that may not last."""
        self._trusted_commit()
        if not await self.pool.stands(self.held):
            raise GroupDown(f"group {self._group} has another primary")

    async def texts(self, sql: str, params: Params) -> TextRows:
        """One statement; rows and types as text."""
        async with self._lock:
            try:
                found = await self._first(lambda: self._texts(sql, arguments(params)))
                if not self.held.sure:
                    await self._certain()
                return found
            except (asyncpg.PostgresError, *LOST) as error:
                self.held.forget(sql)
                raise self._error(error) from error

    async def batches(self, sql: str, params: Params, size: int) -> AsyncIterator[list[Any]]:
        """One query's records, at most `size` at a time; between two batches the connection takes other statements."""
        await self._begun()
        connection = self.held.connection
        alone = None if connection.is_in_transaction() else connection.transaction(readonly=True)
        try:
            if alone is not None:
                await alone.start()
            cursor = await connection.cursor(sql, *arguments(params))
            while batch := await cursor.fetch(size):
                if not self.held.sure:
                    await self._certain()
                yield batch
        except (asyncpg.PostgresError, *LOST) as error:
            raise self._error(error) from error
        finally:
            if alone is not None and not self.broken:
                await alone.rollback()

    async def many(self, sql: str, lists: Sequence[Sequence[Any]]) -> None:
        """One statement for many argument lists, pipelined."""
        async with self._lock:
            try:
                await (await self._prepared(sql)).executemany(lists)
            except (asyncpg.PostgresError, *LOST) as error:
                self.held.forget(sql)
                raise self._error(error) from error

    async def records(
        self, schema: str, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]]
    ) -> None:
        """COPY Python records in, binary."""
        async with self._lock:
            try:
                await self._begun()
                await self.held.connection.copy_records_to_table(
                    table, schema_name=schema, columns=list(columns), records=records
                )
            except (asyncpg.PostgresError, *LOST) as error:
                raise self._error(error) from error

    async def _prepared(self, sql: str) -> Any:
        if self._opening:
            await self._begun()
        if (
            sql[:6] == "FETCH " or len(sql) > 10_000
        ):  # another cursor's columns each time; a text made for its values
            return await self.held.connection.prepare(sql, name="")
        return await self.held.prepared(sql)

    async def _texts(self, sql: str, args: Sequence[Any]) -> TextRows:
        statement = await self._prepared(sql)
        attributes = statement.get_attributes()
        names = tuple(attribute.name for attribute in attributes)
        types = tuple(type_name(attribute.type) for attribute in attributes)
        explains = sql.lstrip()[:7].upper() == "EXPLAIN"
        if explains or all(_exact(attribute.type, self.custom) for attribute in attributes):
            records = await statement.fetch(*args)
            return TextRows(
                names=names,
                types=types,
                rows=_text_rows(records, [attribute.type.name for attribute in attributes]),
                tag=statement.get_statusmsg(),
            )
        if sql[:6] == "FETCH ":
            records = await statement.fetch(*args)
            rows = await self._printed(records, types)
            return TextRows(names=names, types=types, rows=rows, tag=f"FETCH {len(records)}")
        wrapped = await self._prepared(_as_text(sql, [attribute.type.name for attribute in attributes]))
        records = await wrapped.fetch(*args)
        tag = wrapped.get_statusmsg()
        return TextRows(names=names, types=types, rows=[tuple(row) for row in records], tag=tag)

    async def _printed(self, records: Sequence[Any], types: Sequence[str]) -> list[Row]:
        """Values that were read already, as PostgreSQL prints them: there and back again."""
        columns: list[Sequence[str | None]] = []
        for at, kind in enumerate(types):
            values = [record[at] for record in records]
            if kind.endswith("[]"):  # unnest would flatten them
                printed = [
                    await self.held.connection.fetchval(f"SELECT $1::{kind}::text", value) for value in values
                ]
            else:
                sql = f"SELECT v::text FROM unnest($1::{kind}[]) AS t(v)"
                printed = [row[0] for row in await self.held.connection.fetch(sql, values)]
            columns.append(printed)
        return list(zip(*columns, strict=True))

    async def copy_in(self, sql: str, chunks: AsyncIterator[bytes]) -> int:
        """COPY ... FROM STDIN."""
        connection: Any = self.held.connection
        async with self._lock:
            try:
                await self._begun()
                tag: str = await connection._copy_in(sql, chunks, None)
            except (asyncpg.PostgresError, *LOST) as error:
                raise self._error(error) from error
        return int(tag.rsplit(" ", 1)[-1])

    async def copy_out(self, sql: str) -> AsyncIterator[bytes]:
        """COPY ... TO STDOUT. A slow reader holds the server back: at most a few chunks wait here."""
        connection: Any = self.held.connection
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=16)

        async def pump() -> None:
            try:
                await connection._copy_out(sql, queue.put, None)
            except Exception:
                await queue.put(None)
                raise
            await queue.put(None)

        async with self._lock:
            await self._begun()
            task = asyncio.create_task(pump())
            try:
                while (chunk := await queue.get()) is not None:
                    yield chunk
                await task
                if not self.held.sure:
                    await self._certain()
            except (asyncpg.PostgresError, *LOST) as error:
                raise self._error(error) from error
            finally:
                task.cancel()


# ---- rows as text -----------------------------------------------------------------------------------------

# Types whose Python value prints as text that PostgreSQL reads back as the same value.
_EXACT = frozenset(
    {
        "int2",
        "int4",
        "int8",
        "oid",
        "bool",
        "text",
        "varchar",
        "name",
        "uuid",
        "float8",
        "numeric",
        "json",
        "jsonb",
        "xml",
        "void",
    }
)
_TEXTS = frozenset({"text", "varchar", "name", "xml"})
_NUMBERS = frozenset({"int2", "int4", "int8", "oid", "float8", "numeric"})
_ROWS = ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN", "FETCH", "CALL", "(")


def _exact(kind: Any, custom: frozenset[str]) -> bool:
    return kind.schema == "pg_catalog" and kind.name in _EXACT and kind.name not in custom


def type_name(kind: Any) -> str:
    """An asyncpg type as SQL; arrays end in `[]`."""
    name: str = kind.name
    array = name.endswith("[]")
    base = name[:-2] if array else name
    quoted = f'"{kind.schema}"."' + base.replace('"', '""') + '"'
    return quoted + "[]" if array else quoted


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _text_rows(records: Sequence[Any], types: Sequence[str]) -> list[Row]:
    """Records as text, column by column: most need no look at each value's type."""
    columns = [
        values
        if kind in _TEXTS
        else [None if value is None else str(value) for value in values]
        if kind in _NUMBERS
        else list(map(_text, values))
        for kind, values in zip(types, zip(*records, strict=True), strict=False)
    ]
    return list(zip(*columns, strict=True)) if columns else [()] * len(records)


def _as_text(sql: str, types: Sequence[str]) -> str:
    """A statement that answers `sql`'s rows as text; also for DELETE ... RETURNING and its kin."""
    names = [f"c{number}" for number in range(1, len(types) + 1)]
    casts = ", ".join(
        f"CASE WHEN {name} THEN 't' WHEN NOT {name} THEN 'f' END" if kind == "bool" else f"{name}::text"
        for name, kind in zip(names, types, strict=True)
    )
    return f"WITH pgherd_rows({', '.join(names)}) AS ({sql}\n) SELECT {casts} FROM pgherd_rows"


@lru_cache(maxsize=1000)
def _unasked(sql: str) -> bytes:
    """Parse, Bind and Execute of statements without parameters, results or quotes; no Sync."""
    frames = b""
    for text in sql.split(";"):
        parse = b"\0" + text.strip().encode() + b"\0\0\0"
        frames += b"P" + (4 + len(parse)).to_bytes(4, "big") + parse + _BIND_AND_EXECUTE
    return frames


_BIND_AND_EXECUTE = b"B\x00\x00\x00\x0c" + bytes(8) + b"E\x00\x00\x00\x09" + bytes(5)


@lru_cache(maxsize=1000)
def _cut(sql: str) -> tuple[str, str]:
    """(statements run for their effect, the last one if it answers rows)."""
    at = _last_semicolon(sql)
    if at is None:
        statements = [text for text in postgast.split(sql) if text.strip()]
        if not statements:
            return "", ""
        head, last = ";".join(statements[:-1]), statements[-1]
    else:
        head, last = sql[: max(at, 0)], sql[at + 1 :]
    last = last.strip().rstrip(";")
    if not last.upper().startswith(_ROWS) and "RETURNING" not in last.upper():
        return sql, ""
    return head, last


def _last_semicolon(sql: str) -> int | None:
    """Where the last statement begins, less one (-1: there is one only), if that is plain to see. The parser costs 100 µs."""
    text = sql.rstrip().rstrip(";")
    at = text.rfind(";")
    if at < 0:
        return at
    tail = text[at:]
    doubtful = "--" in sql or "/*" in sql or "\\" in sql or '"' in tail or "$" in tail
    # a semicolon inside a string or inside parentheses leaves an odd quote or a lone bracket behind it
    if doubtful or tail.count("'") % 2 or tail.count("(") != tail.count(")") or not tail.strip("; \t\n"):
        return None
    return at
