"""`async for row in db.cursor(...)`, and `await db.cursor(...)` for fetch and forward: inside a transaction, as in asyncpg."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from typing import TYPE_CHECKING, Any

from pgherd.client.link import AsyncpgLink, PythonParams
from pgherd.client.queries import Record
from pgherd.engine.gather import arm_params
from pgherd.engine.link import Link, Params
from pgherd.engine.route import locate_slowly
from pgherd.plan.plans import Federated, Gather, OneGroup, Single

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
    """Between two batches the transaction is free for other statements."""
    batches = _batches(transaction, query, args, prefetch)
    try:
        while True:
            async with transaction.stepping():
                batch = await anext(batches, None)
            if batch is None:
                return
            for row in batch:
                yield row
    finally:
        await batches.aclose()


async def _batches(
    transaction: Transaction, query: str, args: Sequence[Any], prefetch: int
) -> AsyncGenerator[list[Record], None]:
    plan = await transaction.planned(query)
    work = await transaction.work(args)
    params = PythonParams(args)
    match plan:
        case Single():
            shard = await locate_slowly(plan, params, work.map.keyspaces[plan.keyspace], work)
            link = await work.tx.branch(shard.group, write=plan.write)
            sources = [(link, plan.text.for_shard(shard.id))]
        case OneGroup(reads=()):
            group = work.somewhere if plan.group is None else plan.group
            sources = [(await work.tx.branch(group, write=plan.write), plan.sql)]
        case Gather(combine=None):
            own = arm_params(plan, params)
            async with work.tx.reading(plan.groups) as links:
                for group in plan.groups:
                    async for batch in _read(links[group], plan.arm_on(group), own, prefetch):
                        yield batch
            return
        case Federated():
            async with work.tx.federated(plan.groups, plan.reads) as link:
                async for batch in _read(link, plan.sql, params, prefetch):
                    yield batch
            return
        case _:
            yield (await transaction.step(plan, args)).rows
            return
    for link, sql in sources:
        async for batch in _read(link, sql, params, prefetch):
            yield batch


async def _read(link: Link, sql: str, params: Params, prefetch: int) -> AsyncIterator[list[Record]]:
    if not isinstance(link, AsyncpgLink):  # it has a cursor of its own
        yield (await link.part(sql, params)).rows
        return
    async for batch in link.batches(sql, params, prefetch):
        yield batch
