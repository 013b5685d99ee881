"""The cutover: one short distributed transaction, with the shard's tables locked where they are in use.

Its fence is the ACCESS EXCLUSIVE lock on the source's tables. Behind it the last changes reach the copy, which the stream says
when it passes a marker; then real and foreign tables change places in every group, and the epoch grows.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from pgherd.catalog.model import GroupId, physical_schema
from pgherd.catalog.text import call, literal, qualified
from pgherd.engine.link import Link
from pgherd.errors import OutcomeUnknown, PgherdError, ServerError, SnapshotBusy
from pgherd.reshard import records
from pgherd.reshard.model import Direction, pieces_text
from pgherd.reshard.passing import HINDERED
from pgherd.reshard.running import HOME, Run, no_point
from pgherd.reshard.stream import Stream, mark
from pgherd.reshard.tables import CopiedTable
from pgherd.transaction import deadlock
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.perform import nothing
from pgherd.transaction.snapshot import Gates
from pgherd.transaction.two_phase import Protocol

COMMIT_PART = 0.25  # of the budget stays for the commit
OUTER_LOCK_MS = (
    1000  # at most, for locks that make no writer wait; readers of the whole table wait behind them
)
CALM_S = 2.0


class TryLater(Exception):
    """The cutover did not fit into its budget; nothing has happened. The text says why."""


class NewGroups(TryLater):
    """Groups came or went since the map was read: what is to be done has to be done in all of them."""


class Changed(PgherdError):
    """The tables changed while they were copied."""

    sqlstate = "55006"
    hint = "The copy is made again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What one cutover does. `aside`: the side that the old tables go to; `then`: columns of the workflow to set with it."""

    direction: Direction
    aside: str
    then: dict[str, Any]
    undo: bool = False


async def cut_over(run: Run, cut: Cut) -> None:
    """Try until it fits into the budget. Raises Stopped, Changed, or what the streams failed with."""
    streams = run.start_streams(cut.direction)
    gates = Gates(run.places)
    try:
        for number in range(1, run.workflow.limits.tries + 1):
            await _calm(run, cut, streams)
            try:
                pause_ms = await _attempt(run, cut, streams, gates)
            except TryLater as reason:
                if isinstance(reason, NewGroups):
                    await run.places.refresh()
                await run.progress(now=True, tries=number, waiting_for=str(reason))
                await asyncio.sleep(pause_after(reason, number))
                continue
            await run.note(pause_ms=pause_ms)
            return
        raise TooBusy(
            f"no cutover within {run.workflow.limits.max_pause_ms} ms was possible in {run.workflow.limits.tries} tries"
        )
    finally:
        await gates.close()


def pause_after(reason: TryLater, number: int) -> float:
    """Seconds until the next try. A deadlock is soon over: a session that writes to a shard for the first time looks at the whole table as
    well, and will not again, so that as many tries may be in vain as there are sessions."""
    if isinstance(reason.__cause__, ServerError) and reason.__cause__.code == "40P01":
        return random.uniform(0.005, 0.03)
    return random.uniform(0.1, 0.3) * min(number, 10)


async def check_groups(link: Link, covered: tuple[GroupId, ...]) -> None:
    """Raise NewGroups if these are not all groups. `link` is group 0's branch, with the cluster's row locked: no group can come any more."""
    rows = await link.run("SELECT DISTINCT group_id FROM pgherd.nodes ORDER BY 1")
    if tuple(int(row[0] or 0) for row in rows) != tuple(int(group) for group in covered):
        raise NewGroups("groups were added or removed")


async def change_map(run: Run, text: str) -> None:
    """Run a text in every group, as one distributed transaction that raises the epoch. Tried until the map is free."""
    gates = Gates(run.places)
    try:
        for number in range(1, 50):
            transaction = Transaction(run.places, run.places.groups, gates=gates)
            try:
                epoch = 0
                for group in run.places.groups:
                    link = await transaction.branch(group)
                    rows = await link.run(
                        f"SET LOCAL lock_timeout = '2s'; {deadlock.yielding()}; SELECT epoch FROM pgherd.lock_cluster()"
                    )
                    epoch = max(epoch, int(rows[0][0] or 0))
                    if group == HOME:
                        await check_groups(link, run.places.groups)
                    await link.run(f"{text}; {call('set_epoch', str(epoch + 1))}")
                await transaction.commit()
                return
            except NewGroups:
                await transaction.rollback()
                await run.places.refresh()
            except ServerError as error:
                await transaction.rollback()
                if error.code not in HINDERED:
                    raise
            except BaseException:
                await transaction.rollback()
                raise
            await asyncio.sleep(min(0.05 * number, 1.0))
        raise TooBusy("the cluster map is being changed all the time")
    finally:
        await gates.close()


class TooBusy(PgherdError):
    """The shard is never quiet for long enough."""

    sqlstate = "55P03"
    hint = "Allow a longer pause (max_pause), or end long transactions on the shard."


async def _calm(run: Run, cut: Cut, streams: list[Stream]) -> None:
    """Wait a while for a good moment: little log to read, and nobody who keeps the tables locked."""
    deadline = time.monotonic() + CALM_S
    while True:
        behind = await run.behind(streams)
        holders = 0 if behind > run.workflow.limits.calm_bytes else await _holders(run, cut)
        await run.progress(lag_bytes=behind)
        if behind <= run.workflow.limits.calm_bytes and (holders == 0 or time.monotonic() > deadline):
            return
        await asyncio.sleep(0.05)


async def _holders(run: Run, cut: Cut) -> int:
    """Transactions that have used the source's tables for longer than the budget."""
    total = 0
    for group in cut.direction.source_groups:
        tables = ", ".join(
            f"to_regclass({literal(table.in_shard(piece.id))})"
            for piece in cut.direction.sources
            if piece.group == group
            for table in run.tables
        )
        rows = await run.places.ask(
            group,
            f"SELECT count(*) FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted AND l.relation IN ({tables})"
            f" AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.mode <> 'ShareUpdateExclusiveLock'"
            f" AND coalesce(a.xact_start, '-infinity') < clock_timestamp() - interval '{run.workflow.limits.max_pause_ms // 2} ms'",
        )
        total += int(rows[0][0] or 0)
    return total


async def _attempt(run: Run, cut: Cut, streams: list[Stream], gates: Gates) -> float:
    async def on_step(when: str, protocol: Protocol) -> None:
        await run.point(f"commit: {when} {protocol.phase.name.lower()}")

    transaction = Transaction(
        run.places, run.places.groups, gates=gates, on_step=nothing if run.point is no_point else on_step
    )
    attempt = Attempt(run, cut, streams, transaction)
    try:
        await attempt.prepare()
        await run.point("cutover: before the lock")
        began = time.monotonic()
        await attempt.switch(began + run.workflow.limits.max_pause_ms / 1000 * (1 - COMMIT_PART))
        await run.point("cutover: before the commit")
    except BaseException as error:
        await transaction.rollback()
        if isinstance(error, TimeoutError):
            raise TryLater("the last changes took too long") from error
        if isinstance(error, ServerError) and error.code in HINDERED:
            raise TryLater(error.message) from error
        raise
    await commit(run, transaction, cut.then["step"])
    return round((time.monotonic() - began) * 1000, 1)


async def commit(run: Run, transaction: Transaction, step: str) -> None:
    """Commit what records `step` as done. Raises TryLater if nothing of it was; waits until that is decided."""
    try:
        await transaction.commit()
    except (ServerError, SnapshotBusy) as error:
        raise TryLater(error.message) from error
    except OutcomeUnknown:
        async with run.places.link(HOME) as link:
            found = await records.load(link, run.workflow.id)
        if found.step != step:
            raise TryLater("a connection was lost during the commit") from None


class Attempt:
    """One try. The locks are taken from those that hinder least to those that hinder most."""

    def __init__(self, run: Run, cut: Cut, streams: list[Stream], transaction: Transaction) -> None:
        self.run, self.cut, self.streams, self.transaction = run, cut, streams, transaction
        self.links: dict[GroupId, Link] = {}
        direction = cut.direction
        self.inner = tuple(sorted({*direction.source_groups, *direction.target_groups}))
        self.outer = tuple(group for group in run.places.groups if group not in self.inner)
        self.epoch = 0
        self.outer_ms = min(OUTER_LOCK_MS, run.workflow.limits.max_pause_ms)

    async def prepare(self) -> None:
        """Everything that makes no writer wait: the map, the other groups, the whole tables."""
        for group in self.run.places.groups:
            self.links[group] = link = await self.transaction.branch(group)
            rows = await link.run(
                f"SET LOCAL lock_timeout = {self.outer_ms}; SET LOCAL deadlock_timeout = '20ms'; SET LOCAL session_replication_role = origin; "
                f"{deadlock.yielding()}; SELECT epoch FROM pgherd.lock_cluster()"
            )
            self.epoch = max(self.epoch, int(rows[0][0] or 0))
        await self._check()
        lock = self._whole()
        await self._each(self.outer, lambda group: f"{lock}; {self._swap(group)}")
        if self.hashed:
            return
        targets = tuple(group for group in self.inner if group not in self.cut.direction.source_groups)
        for groups in (targets, self.cut.direction.source_groups):
            await self._each(groups, lambda group: f"{lock}; {self._views()}")

    def _whole(self) -> str:
        parents = ", ".join(f"ONLY {_in('global', table)}" for table in self.run.tables)
        return f"LOCK TABLE {parents} IN ACCESS EXCLUSIVE MODE"

    def _views(self) -> str:
        """Readers lock a view before the tables behind it, so here the views go first as well; the swap makes them again."""
        views = ", ".join(_in("here", table) for table in self.run.tables)
        return f"DROP VIEW IF EXISTS {views} CASCADE"

    async def _check(self) -> None:
        await check_groups(self.links[HOME], self.run.places.groups)
        wanted = {(int(piece.id), int(piece.group)) for piece in self.cut.direction.sources}
        rows = await self.links[HOME].run(
            f"SELECT id, group_id, pgherd.shape_of(keyspace) FROM pgherd.shards WHERE keyspace = {self.run.keyspace}"
        )
        have = {(int(row[0] or 0), int(row[1] or 0)) for row in rows}
        shape = self.run.workflow.memory.get("shape")
        if not wanted <= have or any(row[2] != shape for row in rows):
            raise Changed(f"the tables of keyspace {self.run.workflow.keyspace} were changed meanwhile")

    async def switch(self, deadline: float) -> None:
        """From here on writers wait. Raises TimeoutError when `deadline` passes."""
        direction = self.cut.direction
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
            await self._each(direction.source_groups, lambda group: self._fence(group, deadline))
            await self.run.point("cutover: locked")
            token = f"{direction.side} {random.getrandbits(48):x}"
            for stream in self.streams:
                stream.expect(token)
            await asyncio.gather(
                *(mark(self.run.places, group, token) for group in direction.source_groups),
                *(stream.passed(token) for stream in self.streams),
            )
            if self.hashed:
                # a reader of the whole table in one group may be about to read a shard of another: first no such readers, then no readers at all
                await self._each(self.inner, lambda group: self._close(group, deadline))
                await self._each(self.cut.direction.source_groups, self._last)
            await self._each(self.inner, self._swap)
            await self.links[HOME].run(records.update(self.run.workflow.id, **self.cut.then))

    @property
    def hashed(self) -> bool:
        """Whoever writes to a shard of a hash keyspace locks the whole table as well, after the shard: the condition of a hash part asks it
        (satisfies_hash_partition); so do the copies. There the whole tables are locked last, when the last changes have arrived."""
        return any(piece.strategy == "hash" for piece in self.cut.direction.sources)

    def _sources(self, group: GroupId) -> str:
        return ", ".join(
            f"ONLY {table.in_shard(piece.id)}"
            for piece in self.cut.direction.sources
            if piece.group == group
            for table in self.run.tables
        )

    def _fence(self, group: GroupId, deadline: float) -> str:
        mode = "EXCLUSIVE" if self.hashed else "ACCESS EXCLUSIVE"
        left = max(int((deadline - time.monotonic()) * 500), 1)
        return f"SET LOCAL lock_timeout = {left}; LOCK TABLE {self._sources(group)} IN {mode} MODE; SET LOCAL lock_timeout = {self.outer_ms}"

    def _close(self, group: GroupId, deadline: float) -> str:
        """Writers have gone; now readers of the whole table wait as well."""
        del group
        left = max(int((deadline - time.monotonic()) * 1000), 1)
        return f"SET LOCAL lock_timeout = {left}; {self._whole()}; {self._views()}"

    def _last(self, group: GroupId) -> str:
        return f"LOCK TABLE {self._sources(group)} IN ACCESS EXCLUSIVE MODE"

    def _swap(self, group: GroupId) -> str:
        direction, keyspace = self.cut.direction, self.run.keyspace
        old = f"ARRAY[{', '.join(str(piece.id) for piece in direction.sources)}]::int[]"
        new = pieces_text(direction.targets)
        texts = [
            call("cut_out", literal(self.cut.aside), keyspace, old),
            call("cut_map", keyspace, old, new),
            call("cut_in", literal(direction.side), keyspace, old, new),
        ]
        texts += self._publications(group)
        return "; ".join([*texts, call("set_epoch", str(self.epoch + 1))])

    def _publications(self, group: GroupId) -> list[str]:
        direction = self.cut.direction
        texts: list[str] = []
        if group in direction.source_groups:
            texts.append(f"DROP PUBLICATION IF EXISTS {direction.side}")
        if group in direction.target_groups and not self.cut.undo:
            names = ", ".join(
                table.in_shard(piece.id) for piece in direction.targets_in(group) for table in self.run.tables
            )
            texts.append(f"ALTER PUBLICATION {self.run.workflow.back.side} ADD TABLE {names}")
        return texts

    async def _each(self, groups: tuple[GroupId, ...], text: Any) -> None:
        """A text in each of the groups, side by side; all end before this returns."""
        results = await asyncio.gather(
            *(self.links[group].run(text(group)) for group in groups), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _in(prefix: str, table: CopiedTable) -> str:
    return qualified(physical_schema(prefix, table.schema), table.name)
