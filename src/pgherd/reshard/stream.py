"""One stream: a slot's changes, transaction by transaction, into the staged tables of another place (or the same).

It goes on where the target's own record says that it stopped, so it may be killed at any moment. Whoever steers the workflow can
wait until it has passed a marker, or hold it at a position while the target is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pgherd.backend.connection import ServerLink
from pgherd.catalog.model import GroupId
from pgherd.catalog.text import literal
from pgherd.errors import GroupDown, PgherdError, Refused
from pgherd.reshard import pgoutput
from pgherd.reshard.applying import Applier, Target
from pgherd.reshard.passing import Patience
from pgherd.reshard.places import Places
from pgherd.reshard.replication import Streaming, confirm, start, timeline_of
from pgherd.reshard.tables import CopiedTable

BATCH = 5_000
MARK = "pgherd"
IDLE_S = 0.5
PAUSE_MAX_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where a stream runs. `tables`: by the source's schema and name, the table and the root it goes to; `conditions`, `elsewhere`: see `Target`."""

    name: str
    slot: str
    publication: str
    source: GroupId
    target: GroupId
    tables: Mapping[tuple[str, str], tuple[CopiedTable, str]]
    conditions: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    elsewhere: bool = False
    timeline: int | None = None  # of the source when the slot was made; None: not known


class SourceReplaced(PgherdError):
    """The source's primary is another one than the slot was made on. What the stream has read may never have reached the new one."""

    sqlstate = "55006"
    hint = "Before the cutover the copy is made again; after it the workflow cannot be undone any more."


class Stream:
    """Run `run` as a task. `behind` and `rows` are its progress; `failure`: why it cannot go on."""

    def __init__(self, places: Places, course: Course) -> None:
        self.places, self.course = places, course
        self.rows = 0
        self.seen = 0
        self.applied = 0
        self.failure: PgherdError | None = None
        self._marks: dict[bytes, asyncio.Future[None]] = {}
        self._hold_at: int | None = None
        self._held = asyncio.Event()
        self._go = asyncio.Event()
        self._in_transaction = False
        self._lsn = 0  # of the transaction under way
        self._complete = 0  # the last whole transaction in the batch
        self._end = 0  # the position after it
        self._skip = False

    # ---- for who steers ----------------------------------------------------------------------------------

    async def passed(self, mark: str) -> None:
        """Wait until everything that the source committed before the message `mark` is applied. Raises the stream's failure."""
        if self.failure is not None:  # nobody reads any more
            raise self.failure
        future = self._marks.setdefault(mark.encode(), asyncio.get_running_loop().create_future())
        try:
            await future
        finally:
            self._marks.pop(mark.encode(), None)

    def expect(self, mark: str) -> None:
        """Say that `passed(mark)` will be asked: the message may come at once."""
        self._marks[mark.encode()] = asyncio.get_running_loop().create_future()

    def hold(self, lsn: int) -> None:
        """Stop before the first transaction that commits at `lsn` or later. 0: at once; then `hold` again with the position."""
        if self.failure is None:  # else nobody would ever say that it has stopped
            self._held.clear()
        self._hold_at = lsn
        self._go.set()  # who stands already looks again

    async def held(self) -> None:
        """Wait until it has stopped there."""
        await self._held.wait()
        if self.failure is not None:
            raise self.failure

    def release(self) -> None:
        """Go on."""
        self._hold_at = None
        self._go.set()

    # ---- the work ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled, or until it fails for good; lost connections are made again."""
        patience = Patience(random.random)
        try:
            while True:
                try:
                    await self._session()
                except (PgherdError, OSError, TimeoutError) as error:
                    pause_s = patience.pause_s(str(self.applied), error)
                    if isinstance(error, Refused | SourceReplaced) or not patience.has(error):
                        self.failure = cast("PgherdError", error)
                        return
                    await asyncio.sleep(min(pause_s, PAUSE_MAX_S))
        finally:
            self._wake(self.failure or GroupDown("the stream was ended"))

    def _wake(self, error: PgherdError) -> None:
        self.failure = self.failure or error
        self._held.set()
        for future in self._marks.values():
            if not future.done():
                future.set_exception(self.failure)
                future.exception()

    async def _session(self) -> None:
        target = await self.places.open(self.course.target)
        source: ServerLink | None = None
        try:
            source = await self.places.open(self.course.source, replication=True)
            await self._same_source(source)
            applier, self.applied = await Applier.begin(target, self.course.name)
            await source.do("SET synchronous_commit = local; SET wal_sender_timeout = '30s'")
            unit = await start(source, self.course.slot, self.course.publication, self.applied)
            self._complete = self._end = 0
            self._in_transaction = False
            await self._read(source, unit, applier)
        finally:
            target.close()
            if source is not None:
                source.close()

    async def _same_source(self, source: ServerLink) -> None:
        """Positions of another timeline mean nothing here, and its slot is gone, or may have been read beyond what the new primary has."""
        expected = self.course.timeline
        if expected is not None and (found := await timeline_of(source)) != expected:
            raise SourceReplaced(
                f"group {self.course.source} has a new primary since the copy began (timeline {found}, was {expected})"
            )

    async def _read(self, source: ServerLink, unit: Streaming, applier: Applier) -> None:
        confirmed = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await unit.came.wait()
            for payload in unit.take(source):
                await self._change(pgoutput.read(payload), applier)
            await self._commit(applier)
            idle = not self._in_transaction and applier.size == 0
            self.seen = max(self.seen, unit.seen)
            now = time.monotonic()
            if unit.asked or now - confirmed > IDLE_S:
                unit.asked = False
                confirmed = now
                confirm(source, max(self._end, unit.seen if idle and not unit.waiting else 0))

    async def _commit(self, applier: Applier) -> None:
        """Write the whole transactions that wait."""
        if self._complete and not self._in_transaction:
            await applier.flush(self._complete)
            self.applied, self._complete = self._complete, 0
            self.rows = applier.rows

    async def _change(self, change: pgoutput.Change, applier: Applier) -> None:
        match change:
            case pgoutput.Begin(lsn):
                await self._begin(lsn, applier)
            case pgoutput.Commit(end):
                self._in_transaction = False
                if not self._skip:
                    self._complete, self._end = self._lsn, end
                if applier.size >= BATCH:
                    await self._commit(applier)
            case pgoutput.Relation():
                await self._relation(change, applier)
            case pgoutput.Message(prefix, content):
                if prefix == MARK and (future := self._marks.get(content)) is not None:
                    self._in_transaction = False
                    await self._commit(applier)
                    self._in_transaction = True
                    if not future.done():
                        future.set_result(None)
            case None:
                pass
            case _:
                if not self._skip:
                    await self._row(change, applier)

    async def _begin(self, lsn: int, applier: Applier) -> None:
        while self._hold_at is not None and lsn >= self._hold_at:
            await self._commit(applier)
            self._go.clear()
            self._held.set()
            await self._go.wait()
        self._in_transaction = True
        self._lsn = lsn
        self._skip = lsn <= self.applied

    async def _row(
        self,
        change: pgoutput.Insert | pgoutput.Update | pgoutput.Delete | pgoutput.Truncate,
        applier: Applier,
    ) -> None:
        if isinstance(change, pgoutput.Truncate):
            await self._before(applier)
            await applier.truncate(change.relations)
            return
        target = applier.targets.get(change.relation)
        if target is None:
            return
        match change:
            case pgoutput.Insert(_, row):
                target.batch.insert(row)
            case pgoutput.Update(_, old, row):
                target.batch.update(old, row)
            case pgoutput.Delete(_, old):
                target.batch.delete(old)
        if applier.size >= 2 * BATCH:  # a transaction too large to keep
            await applier.flush(None)

    async def _before(self, applier: Applier) -> None:
        """Commit what precedes this transaction's special change, so that it is applied in order."""
        if applier.size:
            await applier.flush(None)

    async def _relation(self, relation: pgoutput.Relation, applier: Applier) -> None:
        name = (relation.schema, relation.name)
        known = self.course.tables.get(name)
        if known is None:
            return
        old = applier.targets.get(relation.id)
        if old is not None and old.relation == relation:
            return
        if old is not None and not old.batch.empty:
            await applier.flush(None)
        table, root = known
        applier.targets[relation.id] = Target(
            relation, table, root, condition=self.course.conditions.get(name), elsewhere=self.course.elsewhere
        )


async def mark(places: Places, group: GroupId, text: str) -> None:
    """Write a message into a group's log, which streams from there will meet."""
    async with places.link(group) as link:
        await link.do(
            f"SET synchronous_commit = local; SELECT pg_logical_emit_message(true, {literal(MARK)}, {literal(text)}); RESET synchronous_commit"
        )
