"""`db.prepare(query)`: a statement as an object, as in asyncpg."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pgherd.client.queries import Queries, Record
from pgherd.plan.plans import AnyPlan


class PreparedQuery:
    """A statement to run many times, in whatever transaction its caller is in."""

    def __init__(self, target: Queries, query: str, plan: AnyPlan) -> None:
        self._target = target
        self._query = query
        self._plan = plan

    def get_query(self) -> str:
        """The statement's text."""
        return self._query

    def get_route(self) -> str:
        """How it is carried out, in words."""
        return f"{type(self._plan).__name__}: {self._plan.why}"

    async def fetch(self, *args: Any, timeout: float | None = None) -> list[Record]:
        """All rows."""
        return await self._target.fetch(self._query, *args, timeout=timeout)

    async def fetchrow(self, *args: Any, timeout: float | None = None) -> Record | None:
        """The first row, or None."""
        return await self._target.fetchrow(self._query, *args, timeout=timeout)

    async def fetchval(self, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row, or None if there is no row."""
        return await self._target.fetchval(self._query, *args, column=column, timeout=timeout)

    async def executemany(self, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """The statement once for each argument list; all of them or none."""
        await self._target.executemany(self._query, args, timeout=timeout)
