"""`async for row in db.cursor(...)`, and `await db.cursor(...)` for fetch and forward: inside a transaction, as in asyncpg."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from typing import TYPE_CHECKING, Any

from pgherd.client.link import AsyncpgLink, PythonParams, arguments
from pgherd.client.queries import Record
from pgherd.engine.link import Link, Params
from pgherd.engine.route import locate_slowly
from pgherd.engine.work import Work
from pgherd.plan.plans import AnyPlan, Federated, Gather, OneGroup, Single

if TYPE_CHECKING:
    from pgherd.client.transaction import Transaction


class Cursor:
    """Rows as they come, at most `prefetch` at a time."""

    def __init__(self, transaction: Transaction, query: str, args: Sequence[Any], prefetch: int) -> None:
        self._rows = _rows(transaction, query, args, prefetch)

    def __aiter__(self) -> AsyncIterator[Record]:
        return self._rows

    def __await__(self) -> Generator[Any, None, Cursor]:
        return self._ready().__await__()

    async def _ready(self) -> Cursor:
        return self

    async def fetch(self, n: int) -> list[Record]:
        """The next `n` rows, fewer at the end."""
        found: list[Record] = []
        while len(found) < n and (row := await anext(self._rows, None)) is not None:
            found.append(row)
        return found

    async def fetchrow(self) -> Record | None:
        """The next row, None at the end."""
        return await anext(self._rows, None)

    async def forward(self, n: int) -> int:
        """Skip `n` rows; how many there were."""
        return len(await self.fetch(n))

    async def close(self) -> None:
        """Stop reading."""
        await self._rows.aclose()


async def _rows(
    transaction: Transaction, query: str, args: Sequence[Any], prefetch: int
) -> AsyncGenerator[Record, None]:
    async with transaction.stepping():
        plan = await transaction.planned(query)
        work = await transaction.work(args)
        params = PythonParams(args)
        source = _source(plan, params, work, prefetch)
        if source is None:
            part = await transaction.step(plan, args)
            for row in part.rows:
                yield row
            return
        async for row in source:
            yield row


def _source(plan: AnyPlan, params: Params, work: Work, prefetch: int) -> AsyncIterator[Record] | None:
    """The rows of a plan that can be read bit by bit; None: it answers all at once."""
    match plan:
        case Single() | OneGroup():
            return _one(plan, params, work, prefetch)
        case Gather(combine=None):
            return _gathered(plan, params, work, prefetch)
        case Federated():
            return _federated(plan, params, work, prefetch)
        case _:
            return None


async def _one(plan: Single | OneGroup, params: Params, work: Work, prefetch: int) -> AsyncIterator[Record]:
    if isinstance(plan, Single):
        shard = await locate_slowly(plan, params, work.map.keyspaces[plan.keyspace], work)
        group, sql = shard.group, plan.text.for_shard(shard.id)
    else:
        group, sql = (work.somewhere if plan.group is None else plan.group), plan.sql
    async for row in _read(await work.tx.branch(group, write=plan.write), sql, params, prefetch):
        yield row


async def _gathered(plan: Gather, params: Params, work: Work, prefetch: int) -> AsyncIterator[Record]:
    async with work.tx.reading(plan.groups) as links:
        for group in plan.groups:
            async for row in _read(links[group], plan.arm, params, prefetch):
                yield row


async def _federated(plan: Federated, params: Params, work: Work, prefetch: int) -> AsyncIterator[Record]:
    async with work.tx.federated(plan.groups, plan.reads) as link:
        async for row in _read(link, plan.sql, params, prefetch):
            yield row


async def _read(link: Link, sql: str, params: Params, prefetch: int) -> AsyncIterator[Record]:
    if not isinstance(link, AsyncpgLink):  # it has a cursor of its own
        for row in (await link.part(sql, params)).rows:
            yield row
        return
    connection = link.held.connection
    if not connection.is_in_transaction():  # a link of its own, for one statement
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(sql, *arguments(params), prefetch=prefetch):
                yield row
        return
    async for row in connection.cursor(sql, *arguments(params), prefetch=prefetch):
        yield row
