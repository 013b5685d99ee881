"""`db.session()`: one user's session, with its own read-your-writes, among the many that share a database object."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pgherd.client.cursor import Cursor
from pgherd.client.marks import SESSION, Marks
from pgherd.client.near import Reading
from pgherd.client.queries import Queries, Record, Want
from pgherd.client.routes import Lent
from pgherd.engine.link import Part
from pgherd.topology.freshness import Freshness, parse_freshness

if TYPE_CHECKING:
    from pgherd.client.database import Database
    from pgherd.client.transaction import Transaction

T = TypeVar("T")


class Session(Queries):
    """Its reads see its own writes, and never go back; what other sessions of the same process do does not concern it.

    Reads go to the nearest node that has replayed what the session has seen (`read` says so unless it is given otherwise).
    """

    def __init__(self, db: Database, token: str | None = None, read: str | Freshness | None = None) -> None:
        self.db = db
        self._marks = Marks(db.pools, db.follow.watch)
        if token is not None:
            self._marks.merge(token)
        freshness = SESSION if read is None else parse_freshness(read) if isinstance(read, str) else read
        self._usual = Reading(db.near, freshness, self._marks)
        self._readings: dict[str | Freshness, Reading] = {}

    async def token(self) -> str:
        """What the session has seen, as a text: a session that begins with it sees at least that. Raises GroupDown while
        a group in which it wrote has no primary."""
        return await self._marks.token()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to give back."""

    def _reading(self, read: str | Freshness | None) -> Reading:
        if read is None:
            return self._usual
        found = self._readings.get(read)
        if found is None:
            freshness = parse_freshness(read) if isinstance(read, str) else read
            found = self._readings[read] = Reading(self.db.near, freshness, self._marks)
        return found

    def _lend(self, query: str, args: Sequence[Any], reading: Reading) -> Lent | None:
        """A connection for the short way: a replica's, or the primary's for what cannot go elsewhere."""
        lent = self.db.near.lend(query, args, reading)
        if lent is not None or query in self.db.near.routes:
            return lent
        return self.db.lend(query, args)

    async def fetch(
        self, query: str, *args: Any, timeout: float | None = None, read: str | Freshness | None = None
    ) -> list[Record]:
        """All rows."""
        reading = self._reading(read)
        lent = self._lend(query, args, reading)
        if lent is not None:
            found = await self.db.near.quickly(lent, args, 0, timeout, self._marks)
            if found is not None:
                return found[0]
        return (await self.db.query(query, args, "rows", timeout, reading)).rows

    async def fetchrow(
        self, query: str, *args: Any, timeout: float | None = None, read: str | Freshness | None = None
    ) -> Record | None:
        """The first row, or None."""
        reading = self._reading(read)
        lent = self._lend(query, args, reading)
        if lent is not None:
            found = await self.db.near.quickly(lent, args, 1, timeout, self._marks)
            if found is not None:
                return found[0][0] if found[0] else None
        rows = (await self.db.query(query, args, "row", timeout, reading)).rows
        return rows[0] if rows else None

    async def fetchval(
        self,
        query: str,
        *args: Any,
        column: int = 0,
        timeout: float | None = None,
        read: str | Freshness | None = None,
    ) -> Any:
        """One value of the first row, or None if there is no row."""
        row = await self.fetchrow(query, *args, timeout=timeout, read=read)
        return None if row is None else row[column]

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The command tag. Without arguments `query` may hold several statements; they run as one transaction."""
        lent = self._lend(query, args, self._usual)
        if lent is not None:
            found = await self.db.near.quickly(lent, args, 0, timeout, self._marks)
            if found is not None:
                return "" if found[1] is None else found[1].decode()
        return await super().execute(query, *args, timeout=timeout)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        read: str | Freshness | None = None,
    ) -> AsyncGenerator[Transaction]:
        """As `Database.transaction`; what it sees and writes belongs to the session."""
        near = self._reading(read) if readonly else None
        transaction = self.db.transaction(
            isolation=isolation, readonly=readonly, deferrable=deferrable, session=near
        )
        try:
            async with transaction:
                yield transaction
        finally:
            if not transaction.near:
                self._used()

    def cursor(self, query: str, *args: Any, prefetch: int = 50) -> Cursor:
        """As `Database.cursor`."""
        return self.db.cursor(query, *args, prefetch=prefetch)

    async def _query(self, query: str, args: Sequence[Any], want: Want, timeout: float | None) -> Part:
        return await self.db.query(query, args, want, timeout, self._usual)

    async def _script(self, query: str, timeout: float | None) -> str:
        try:
            return await self.db.execute(query, timeout=timeout)
        finally:
            self._used()

    async def _many(self, query: str, args: Iterable[Sequence[Any]], timeout: float | None) -> None:
        try:
            await self.db.executemany(query, args, timeout=timeout)
        finally:
            self._used()

    async def _copy(self, job: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        try:
            return await self.db.copy(job, timeout)
        finally:
            self._used()

    def _used(self) -> None:
        self._marks.used(self.db.pools)
