"""Reads that span groups: on which connections they run, and how all of them see one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link, Params, Part, Row, TextRows
from pgherd.errors import Refused, SnapshotBusy
from pgherd.transaction import deadlock
from pgherd.transaction.perform import Lender
from pgherd.transaction.snapshot import Passage

if TYPE_CHECKING:
    from pgherd.transaction.coordinator import Transaction

CURSOR = "pgherd_arm"


@asynccontextmanager
async def reading(tx: Transaction, groups: Sequence[GroupId]) -> AsyncGenerator[dict[GroupId, Link]]:
    """See Transaction.reading."""
    wanted = tuple(dict.fromkeys(groups))
    own = any(branch.wrote and group in wanted for group, branch in tx.branches.items())
    if tx.isolation != "read committed" or (len(wanted) == 1 and tx.explicit):
        yield {group: await tx.branch(group, write=False) for group in wanted}
    elif not own:
        async with _beside(tx, wanted, lambda _group: "SELECT 1") as links:
            yield links
    elif not tx.snapshot:
        yield {group: await tx.branch(group, write=False) for group in wanted}
    else:
        branches = {group: await tx.branch(group, write=False) for group in wanted}
        async with tx.gates.window(wanted) as passage:
            started = Started(wanted, passage)
            yield {group: Arm(link, started) for group, link in branches.items()}


@asynccontextmanager
async def federated(
    tx: Transaction, group: GroupId | Sequence[GroupId], reads: Sequence[GroupId]
) -> AsyncGenerator[Link]:
    """See Transaction.federated."""
    wished = (group,) if isinstance(group, int) else tuple(group)
    wrote = tuple(g for g, branch in tx.branches.items() if branch.wrote and g in reads)
    if len(wrote) > 1:
        raise _unseen(wrote)
    if tx.isolation != "read committed":
        yield await _federated_steady(tx, wished[0], reads, wrote)
    elif not wrote:
        others = tuple(g for g in reads if g != wished[0])
        async with _beside(tx, (wished[0],), lambda _group: probes(others), through=others) as links:
            yield links[wished[0]]
    else:
        async with _federated_among_own(tx, wrote[0], reads) as link:
            yield link


async def _federated_steady(
    tx: Transaction, wished: GroupId, reads: Sequence[GroupId], wrote: Sequence[GroupId]
) -> Link:
    """REPEATABLE READ: where the foreign snapshots were opened with the transaction's own; SERIALIZABLE: one group."""
    if tx.isolation == "serializable" and any(g != wished for g in reads):
        raise Refused(
            "a SERIALIZABLE transaction may touch one group only",
            hint="Use REPEATABLE READ, which is snapshot isolation over all groups.",
        )
    link = await tx.branch(wished, write=False)
    if all(group == wished for group in reads):
        return link
    node = tx.groups[0] if tx.snapshots_taken else wished
    if wrote and wrote[0] != node:
        raise _unseen(wrote)
    if not tx.snapshots_taken:
        return link
    if node not in tx.federated_from:
        tx.gates.foreign.missed()
        raise SnapshotBusy(
            "this transaction has no snapshot for reads through foreign tables",
            hint="Run the transaction again: from now on they are opened at its start.",
        )
    tx.gates.foreign.used()
    return tx.branches[node].link


@asynccontextmanager
async def _federated_among_own(
    tx: Transaction, node: GroupId, reads: Sequence[GroupId]
) -> AsyncGenerator[Link]:
    """READ COMMITTED, own writes in `node` only: run there. Foreign snapshots stay as they are for the whole local
    transaction, so a second such read would see foreign groups as of the first: refused."""
    others = tuple(g for g in reads if g != node)
    if node in tx.federated_from and others:
        raise Refused(
            "a second federated read in a READ COMMITTED transaction that wrote to what it reads",
            hint="Use BEGIN ISOLATION LEVEL REPEATABLE READ, or read before writing.",
        )
    link = await tx.branch(node, write=False)
    tx.federated_from.add(node)
    tx.branches[node].pinned = True  # a transaction that used postgres_fdw cannot be prepared
    if not tx.snapshot or not others:
        yield link
        return
    async with tx.gates.window((node, *others)) as passage:
        await link.run(probes(others))
        yield Arm(link, Started((node,), passage))


@asynccontextmanager
async def _beside(
    tx: Transaction,
    groups: Sequence[GroupId],
    first: Callable[[GroupId], str],
    *,
    through: Sequence[GroupId] = (),
) -> AsyncGenerator[dict[GroupId, Link]]:
    """Read-only transactions beside the user's, whose snapshots (`first` takes them) come from one window.

    `through`: groups that the window must cover as well, since foreign tables read them.
    """
    async with AsyncExitStack() as stack:
        links = {group: await stack.enter_async_context(_lent(tx.lender, group)) for group in groups}
        covered = (*groups, *through)
        if tx.snapshot and len(covered) > 1:
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            tags = _tags(tx, list(links.values()))
            texts = {group: f"{begin}{tags[group]}; {first(group)}" for group in links}
            await tx.gates.snapshots(
                covered,
                take=lambda: together(link.run(texts[group]) for group, link in links.items()),
                undo=lambda: together(link.run("ROLLBACK") for link in links.values()),
            )
            yield links
            await together(link.run("COMMIT") for link in links.values())
        else:
            yield links


def _tags(tx: Transaction, links: Sequence[Link]) -> dict[GroupId, str]:
    """What says of each connection to which transaction it belongs: the user's, or else the first of the connections."""
    tx.beside |= len(links) > 1
    if own := tx.tag():
        return {link.group: own for link in links}
    first, *others = links
    return {first.group: "", **{link.group: deadlock.same_as(first) for link in others}}


@asynccontextmanager
async def _lent(lender: Lender, group: GroupId) -> AsyncGenerator[Link]:
    link = await lender.lend(group)
    reusable = False
    try:
        yield link
        reusable = not link.broken
    except Exception:
        reusable = await _cleaned(link)
        raise
    finally:
        lender.give_back(link, reusable=reusable)


async def _cleaned(link: Link) -> bool:
    """End what an error left open; whether the link may be used again."""
    try:
        async with asyncio.timeout(1.0):
            await link.run("ROLLBACK")
    except Exception:
        return False
    return not link.broken


class Started:
    """Counts the arms that have taken their snapshots; with the last one the reader leaves the window."""

    def __init__(self, groups: Iterable[GroupId], passage: Passage) -> None:
        self._waiting = set(groups)
        self._passage = passage

    def has(self, group: GroupId) -> None:
        """The arm of `group` has its snapshot. Raises WindowShut if the window was shut too early."""
        self._waiting.discard(group)
        if not self._waiting:
            self._passage.leave()


class Arm:
    """A READ COMMITTED branch on which one query runs under a window: as a cursor, since DECLARE takes the snapshot and
    returns at once, so that the window need not stay open while the query runs. A `Link` for one statement."""

    def __init__(self, link: Link, started: Started) -> None:
        self._link = link
        self._started = started

    @property
    def group(self) -> GroupId:
        return self._link.group

    @property
    def broken(self) -> bool:
        return self._link.broken

    @property
    def pid(self) -> int:
        return self._link.pid

    async def part(self, sql: str, params: Params) -> Part:
        """The query's rows; the tag says SELECT, as if no cursor were there."""
        if not declarable(sql):
            return await self._link.part(sql, params)
        await self._link.part(f"DECLARE {CURSOR} NO SCROLL CURSOR FOR {sql}", params)
        self._started.has(self.group)
        found = await self._link.part(f"FETCH ALL FROM {CURSOR}", params.select(()))
        await self._link.run(f"CLOSE {CURSOR}")
        return Part(rows=found.rows, tag=found.tag.replace("FETCH", "SELECT"), columns=found.columns)

    async def texts(self, sql: str, params: Params) -> TextRows:
        """The query's rows as text."""
        if not declarable(sql):
            return await self._link.texts(sql, params)
        await self._link.part(f"DECLARE {CURSOR} NO SCROLL CURSOR FOR {sql}", params)
        self._started.has(self.group)
        found = await self._link.texts(f"FETCH ALL FROM {CURSOR}", params.select(()))
        await self._link.run(f"CLOSE {CURSOR}")
        return TextRows(
            names=found.names, types=found.types, rows=found.rows, tag=found.tag.replace("FETCH", "SELECT")
        )

    async def run(self, sql: str) -> list[Row]:
        """One query without parameters."""
        if not declarable(sql):
            return await self._link.run(sql)
        await self._link.run(f"DECLARE {CURSOR} NO SCROLL CURSOR FOR {sql}")
        self._started.has(self.group)
        rows = await self._link.run(f"FETCH ALL FROM {CURSOR}")
        await self._link.run(f"CLOSE {CURSOR}")
        return rows

    async def do(self, sql: str) -> None:
        """No read; handed through."""
        await self._link.do(sql)

    async def open(self, sql: str) -> None:
        """Its branch is open."""
        await self._link.do(sql)

    def abort(self) -> None:
        """Give the connection up."""
        self._link.abort()

    async def copy_in(self, sql: str, chunks: AsyncIterator[bytes]) -> int:
        """No read; handed through."""
        return await self._link.copy_in(sql, chunks)

    async def copy_out(self, sql: str) -> AsyncGenerator[bytes]:
        """COPY (...) TO STDOUT: its first chunk says that the snapshot is taken."""
        async for chunk in self._link.copy_out(sql):
            self._started.has(self.group)
            yield chunk


def declarable(sql: str) -> bool:
    """Whether DECLARE CURSOR takes this text."""
    return sql.lstrip(" \t\r\n(")[:6].upper().startswith(("SELECT", "WITH", "VALUES", "TABLE"))


def probes(groups: Sequence[GroupId]) -> str:
    """A query that makes postgres_fdw open its transactions, and so their snapshots, in `groups`."""
    return " UNION ALL ".join(f"SELECT 1 FROM pgherd.probe_{group}" for group in groups) or "SELECT 1"


async def together(jobs: Iterable[Awaitable[Any]]) -> None:
    """Run side by side; all end before the first error is raised, so that no link is left in mid-statement."""
    for answer in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def _unseen(wrote: Sequence[GroupId]) -> Refused:
    listed = ", ".join(str(group) for group in wrote)
    return Refused(
        f"this query would not see what its own transaction wrote in group {listed}",
        hint="Run it before writing, or after COMMIT; or give it the shard keys.",
    )
