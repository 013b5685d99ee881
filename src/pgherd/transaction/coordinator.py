"""A distributed transaction: its branches, savepoints, snapshots and its end.

Gateway and client make one `Transaction` for each BEGIN ... COMMIT, and one for each statement outside of a transaction
that spans groups. All coordinator state is here, in memory, and may be lost at any moment: recovery needs none of it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.errors import (
    ConnectionLost,
    GroupDown,
    OutcomeUnknown,
    PgherdError,
    Refused,
    ServerError,
)
from pgherd.transaction import deadlock, reads, two_phase
from pgherd.transaction.ending import aborted, ended, unhindered
from pgherd.transaction.perform import Bounds, Lender, OnStep, Performer, drive, is_lost, nothing
from pgherd.transaction.reads import together
from pgherd.transaction.savepoints import Savepoints
from pgherd.transaction.snapshot import Gates
from pgherd.transaction.two_phase import Phase

T = TypeVar("T")


@dataclass(slots=True)
class Branch:
    """The part of a transaction inside one group. `pinned`: it cannot be prepared (temporary tables, NOTIFY), so it must be home."""

    link: Link
    wrote: bool
    pinned: bool = False


class Transaction:
    """One distributed transaction; used by one task at a time, but for `branch`, `reading` and their kin of different groups.

    `isolation`: "read committed", "repeatable read" or "serializable". `modes`: the text after BEGIN, if the user gave any.
    `failed` is the caller's: set it when a statement failed, as PostgreSQL aborts the transaction; `rollback_to` clears it.
    `explicit`: False for the transaction of a single statement (reads then need no branch).
    """

    def __init__(
        self,
        lender: Lender,
        groups: tuple[GroupId, ...],
        *,
        gates: Gates,
        isolation: str = "read committed",
        modes: str = "",
        read_only: bool = False,
        snapshot: bool = True,
        explicit: bool = True,
        notice: Callable[[str], None] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        bounds: Bounds | None = None,
        on_step: OnStep = nothing,
    ) -> None:
        self.branches: dict[GroupId, Branch] = {}
        self.failed = False
        self.committing = False  # from now on no cancel request may be sent to a branch's server
        self.beside = False  # a read of several groups ran on connections beside the branches
        self.cancel_asked = False  # the gateway's: the user sent a cancel request
        self.lender, self.gates = lender, gates
        self.isolation, self.modes, self.read_only = isolation, modes, read_only
        self.snapshot, self.explicit = snapshot, explicit
        self.on_step, self.bounds = on_step, bounds or Bounds()
        self._groups = groups
        self._notice, self._progress = notice, progress
        self._savepoints = Savepoints()
        self._id: str | None = None
        self.announced = False
        self._anchor: asyncio.Future[Link] | None = (
            None  # the first branch's link: later branches name its process
        )
        self.snapshots_taken = False
        self._ending: asyncio.Future[None] | None = None
        self.guarded: tuple[GroupId, ...] = ()
        self.held: set[int] = set()  # shards that stay where they are until the end
        self.federated_from: set[GroupId] = set()  # branches whose foreign snapshots are open, and stay

    # ---- identity ------------------------------------------------------------------------------------------

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """All groups, ascending."""
        return self._groups

    @property
    def id(self) -> str:
        """Cluster-unique; names home's group, which this fixes. Use `announce` for an id that can be asked about."""
        if self._id is None:
            noise = secrets.randbits(64)
            self._id = two_phase.make_id(self._choose_home(), int(time.time()), noise)
        return self._id

    async def announce(self) -> str:
        """The id, for `SELECT pgherd.transaction_id()`: from now on its outcome can be asked, however the transaction ends.

        Costs a decision row at commit even if only one group is written.
        """
        self.announced = True
        home = two_phase.home_of(self.id)
        assert home is not None
        link = await self.branch(home, write=True)
        await link.run(f"SELECT pg_advisory_xact_lock_shared({two_phase.running_key(self.id)})")
        return self.id

    def _choose_home(self) -> GroupId:
        """A writing branch that cannot be prepared, else the first that wrote, else any open one, else the first group.

        Home is not prepared, so the group that wrote first (likely most) saves the most work.
        """
        branches = self.branches
        ranks = {group: (b.wrote and b.pinned, b.wrote, b.pinned) for group, b in branches.items()}
        if ranks:
            return max(ranks, key=lambda group: ranks[group])  # of equals, max takes the first opened
        return self._groups[0]

    # ---- branches ------------------------------------------------------------------------------------------

    @property
    def needs_window(self) -> bool:
        """Whether the first branch must be opened by `branch` (all groups' snapshots at once) and not by `opening`."""
        return (
            self.isolation == "repeatable read"
            and self.snapshot
            and not self.snapshots_taken
            and len(self._groups) > 1
        )

    async def branch(self, group: GroupId, *, write: bool = True) -> Link:
        """The open branch in `group`: BEGIN and the savepoints so far are sent when it is first touched.

        Raises GroupDown; Refused when a SERIALIZABLE transaction touches a second group.
        """
        known = self.branches.get(group)
        if known is None and self.needs_window:
            await self._open_everywhere()
            known = self.branches[group]
        if known is not None:
            known.wrote |= write
            return known.link
        self.check(group)
        link = await self._lend(group)
        try:
            await link.open(self.opening(group))
        except BaseException:
            self.lender.give_back(link, reusable=False)
            raise
        self.opened(group, link, write=write)
        return link

    async def forget(self, groups: Iterable[GroupId]) -> bool:
        """Roll back branches in which nothing but a statement with an old map has run; answers whether that could be done.

        They are opened again when they are touched again. READ COMMITTED only: elsewhere a branch holds the snapshot.
        """
        wanted = [group for group in groups if group in self.branches]
        if any(self.branches[group].pinned for group in wanted) or self._ending is not None:
            return False
        links = [self.branches[group].link for group in wanted]
        await asyncio.gather(*(self._end(group, "ROLLBACK", self.bounds.undo_s) for group in wanted))
        self._weigh(links)
        return True

    def discard(self, group: GroupId) -> Link:
        """The same for one branch, at once: the caller is to close its link, which ends it on the server."""
        link = self.branches.pop(group).link
        self._weigh([link])
        return link

    def _weigh(self, gone: Sequence[Link]) -> None:
        """Without its link there is no anchor: the next branch to open becomes it."""
        anchor = self._anchor
        if anchor is not None and anchor.done() and (self._failed_anchor() or anchor.result() in gone):
            self._anchor = None

    def check(self, group: GroupId) -> None:
        """Whether `group` may be touched: SERIALIZABLE holds within one group only."""
        if self.isolation == "serializable" and self.branches and group not in self.branches:
            raise Refused(
                "a SERIALIZABLE transaction may touch one group only",
                hint="Use REPEATABLE READ, which is snapshot isolation over all groups.",
            )

    async def _lend(self, group: GroupId) -> Link:
        """Lend a link; the first becomes the anchor, and the others wait until it is there."""
        if self._anchor is not None and not self._failed_anchor():
            if not self._anchor.done():
                await asyncio.shield(self._anchor)
            return await self.lender.lend(group)
        self._anchor = anchor = asyncio.get_running_loop().create_future()
        try:
            link = await self.lender.lend(group)
        except BaseException as error:
            anchor.set_exception(error if isinstance(error, Exception) else GroupDown("cancelled"))
            anchor.exception()
            raise
        anchor.set_result(link)
        return link

    def _failed_anchor(self) -> bool:
        return self._anchor is not None and self._anchor.done() and self._anchor.exception() is not None

    def opening(self, group: GroupId) -> str:
        """What opens a branch in `group`: send it in front of (or before) the first statement, then call `opened`.

        A later branch says which process the first one is, as the key of a shared advisory lock that pg_locks shows: from
        that, deadlock detection knows the branches of one transaction.
        """
        begin = (
            f"BEGIN {self.modes}"
            if self.modes
            else "BEGIN"
            if self.isolation == "read committed"
            else f"BEGIN ISOLATION LEVEL {self.isolation.upper()}"
        )
        if self.read_only and "READ ONLY" not in begin.upper():
            begin += " READ ONLY"
        return begin + self.tag(but=group) + "".join(f"; {text}" for text in self._savepoints.opening())

    def tag(self, but: GroupId | None = None) -> str:
        """What a further connection of this transaction runs after BEGIN: it names the first branch's process.

        `but`: nothing if the first branch is in this group: then it is the first branch itself that opens.
        """
        anchor = self._anchor
        if anchor is None or not anchor.done() or anchor.exception() is not None:
            return ""
        link = anchor.result()
        return "" if link.group == but else deadlock.same_as(link)

    def opened(self, group: GroupId, link: Link, *, write: bool) -> None:
        """Say that `opening(group)` was sent on `link`; or, if the branch is known, that it writes from now on."""
        known = self.branches.get(group)
        if known is not None:
            known.wrote |= write
            return
        if self._anchor is None:
            self._anchor = asyncio.get_running_loop().create_future()
            self._anchor.set_result(link)
        self.branches[group] = Branch(link, write)

    # ---- the Workspace's other duties ----------------------------------------------------------------------

    def notice(self, text: str) -> None:
        """A NOTICE for the user."""
        if self._notice is not None:
            self._notice(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Progress of long work."""
        if self._progress is not None:
            self._progress(what, done, total)

    # ---- savepoints ----------------------------------------------------------------------------------------

    async def savepoint(self, name: str) -> None:
        """SAVEPOINT in every open branch, and in those that open later."""
        await self._everywhere(Savepoints.sql_savepoint(name))
        self._savepoints.add(name)

    async def release(self, name: str) -> None:
        """RELEASE SAVEPOINT. Raises ServerError 3B001 for an unknown name."""
        self._savepoints.check(name)
        await self._everywhere(Savepoints.sql_release(name))
        self._savepoints.release(name)

    async def rollback_to(self, name: str) -> None:
        """ROLLBACK TO SAVEPOINT; the transaction is no longer failed. Raises ServerError 3B001 for an unknown name."""
        self._savepoints.check(name)
        await self._everywhere(Savepoints.sql_rollback_to(name))
        self._savepoints.rollback_to(name)
        self.failed = False

    async def _everywhere(self, sql: str) -> None:
        try:
            await together(branch.link.run(sql) for branch in self.branches.values())
        except BaseException:
            self.failed = True
            raise

    # ---- reads -----------------------------------------------------------------------------------------

    async def _open_everywhere(self) -> None:
        """REPEATABLE READ: one window over all groups, one snapshot in each, for the whole transaction.

        The lowest group's branch opens its foreign servers' snapshots too: federated reads run there.
        """
        lowest, *others = self._groups
        foreign = self.gates.foreign.wanted
        links: dict[GroupId, Link] = {}

        def first(group: GroupId) -> str:
            return reads.probes(others) if foreign and group == lowest else "SELECT 1"

        try:
            for group in self._groups:
                links[group] = await self._lend(group)
            texts = {group: f"{self.opening(group)}; {first(group)}" for group in links}
            await self.gates.snapshots(
                self._groups,
                take=lambda: together(link.do(texts[group]) for group, link in links.items()),
                undo=lambda: together(link.do("ROLLBACK") for link in links.values()),
            )
        except BaseException:
            for link in links.values():
                self.lender.give_back(link, reusable=False)
            raise
        for group, link in links.items():
            self.opened(group, link, write=False)
        self.snapshots_taken = True
        if foreign:
            self.gates.foreign.opened()
            self.federated_from.add(lowest)
            self.branches[lowest].pinned = True  # it used postgres_fdw, so it cannot be prepared

    def reading(self, groups: Sequence[GroupId]) -> AbstractAsyncContextManager[dict[GroupId, Link]]:
        """Links to `groups` that see one snapshot, for ONE statement: run each group's arm on its link in the block.

        They are the transaction's own branches where it must see its own writes, else read-only ones beside it.
        Raises SnapshotBusy, GroupDown.
        """
        return reads.reading(self, groups)

    def federated(
        self, group: GroupId | Sequence[GroupId], reads_: Sequence[GroupId]
    ) -> AbstractAsyncContextManager[Link]:
        """A link where ONE federated read may run: its own group and, through postgres_fdw, `reads_` on one snapshot.

        `group`: where the caller would run it (or several such groups, best first); it may be given another one.
        Raises Refused (0A000) when the transaction's own uncommitted writes could not be seen from one group.
        """
        return reads.federated(self, group, reads_)

    def told(self, fields: Mapping[str, str]) -> dict[str, str]:
        """An error's fields as the user should see them: a cancel that the user did not ask for, in a transaction over
        several groups, is deadlock detection's, and becomes 40P01."""
        asked = self.cancel_asked or "timeout" in fields.get("M", "")
        if fields.get("C") != "57014" or asked or (len(self.branches) < 2 and not self.beside):
            return dict(fields)
        return {**fields, **deadlock.FIELDS}

    # ---- the end -------------------------------------------------------------------------------------------

    async def commit(self) -> str:
        """Commit everywhere; answers "COMMIT", or "ROLLBACK" if the transaction had failed.

        Raises ServerError (nothing was committed) and OutcomeUnknown (with the id). Cancelling the caller's task does not
        interrupt it: it ends, within its bounds, and then the cancellation goes on.
        """
        if self.failed or any(branch.link.broken for branch in self.branches.values() if branch.wrote):
            broken = not self.failed
            watched = any(
                getattr(branch.link, "watched", False)
                for branch in self.branches.values()
                if branch.link.broken
            )
            await self.rollback()
            if broken:
                lost = ConnectionLost("a group's connection was lost, so the transaction was rolled back")
                lost.watched = watched
                raise lost
            return "ROLLBACK"
        self.committing = True
        return await unhindered(self._commit())

    async def _commit(self) -> str:
        writers = tuple(group for group, branch in self.branches.items() if branch.wrote)
        if len(writers) <= 1 and not self.announced:
            await self._commit_plainly(writers)
        else:
            await self._commit_in_two_phases(writers)
        return "COMMIT"

    async def _commit_plainly(self, writers: tuple[GroupId, ...]) -> None:
        """One writing branch: PostgreSQL's own COMMIT is all there is; reading branches just end."""
        error: BaseException | None = None
        for group in writers:
            error = await self._end(group, "COMMIT", self.bounds.decide_s)
        verb = "COMMIT" if error is None else "ROLLBACK"
        await asyncio.gather(*(self._end(group, verb, self.bounds.undo_s) for group in tuple(self.branches)))
        if error is None:
            return
        if is_lost(error):
            why = (
                error.message
                if isinstance(error, OutcomeUnknown)
                else "the connection was lost during COMMIT"
            )
            raise OutcomeUnknown(
                f"{why}; transaction {self.id} may or may not have committed",
                hint="Only transactions that asked for pgherd.transaction_id(), or wrote in several groups, can be asked about.",
            ) from error
        raise error

    async def _end(self, group: GroupId, sql: str, bound_s: float) -> BaseException | None:
        """End one branch and give its link back; answers the error instead of raising it."""
        branch = self.branches.pop(group)
        alarm = asyncio.get_running_loop().call_later(bound_s, branch.link.abort)
        try:
            await branch.link.do(sql)
        except (PgherdError, OSError, TimeoutError) as error:
            clean = isinstance(error, ServerError) and not branch.link.broken and not is_lost(error)
            self.lender.give_back(branch.link, reusable=clean)
            return error
        finally:
            alarm.cancel()
        self.lender.give_back(branch.link, reusable=not branch.link.broken)
        return None

    async def _commit_in_two_phases(self, writers: tuple[GroupId, ...]) -> None:
        pinned = [group for group in writers if self.branches[group].pinned]
        home = two_phase.home_of(self.id)
        assert home is not None
        if any(group != home for group in pinned):
            await self.rollback()
            raise Refused(
                "a transaction over several groups used temporary tables, NOTIFY, WITH HOLD cursors or federated reads in more than one",
                hint="Commit before and after using them.",
            )
        try:
            home_link = await self.branch(home, write=True)
        except BaseException:  # the group that the id names is down: nothing is decided yet
            await self.rollback()
            raise
        participants = tuple(group for group in writers if group != home)
        links = {group: self.branches[group].link for group in (home, *participants)}
        performer = Performer(self.lender, links, self.bounds)
        readers = tuple(group for group in self.branches if group not in links)
        protocol = two_phase.begin(self.id, home, home_link.pid, participants)
        try:
            if readers:
                await asyncio.gather(*(self._end(group, "COMMIT", self.bounds.undo_s) for group in readers))
            ended = await drive(protocol, performer, self.on_step)
        except BaseException:
            self._give_back_all(performer.lost | set(links))
            raise
        self._give_back_all(performer.lost)
        self._answer(ended, performer)

    def _give_back_all(self, lost: set[GroupId]) -> None:
        for group, branch in self.branches.items():
            self.lender.give_back(branch.link, reusable=group not in lost and not branch.link.broken)
        self.branches.clear()

    def _answer(self, ended: two_phase.Protocol, performer: Performer) -> None:
        errors = performer.errors
        match ended.phase:
            case Phase.COMMITTED:
                return
            case Phase.ABORTED:
                raise aborted(self.id, performer.reasons, explicit=self.explicit)
            case Phase.PENDING:
                raise OutcomeUnknown(
                    f"transaction {self.id} is decided, but a group that is down does not show it yet",
                    hint=f"It becomes visible there without your doing. Ask: SELECT * FROM pgherd.transaction_status('{self.id}').",
                ) from errors[-1]
            case _:
                raise OutcomeUnknown(
                    f"the connection was lost during COMMIT; transaction {self.id} may or may not have committed",
                    hint=f"Ask: SELECT * FROM pgherd.transaction_status('{self.id}').",
                ) from (errors[-1] if errors else None)

    def fail(self) -> None:
        """A statement failed: nothing but a rollback can follow. Without savepoints the locks go at once, as in PostgreSQL.

        Call it when no branch runs a statement any more.
        """
        self.failed = True
        if not self._savepoints.names and self.branches and self._ending is None:
            self._ending = asyncio.ensure_future(self._rollback())

    async def rollback(self) -> None:
        """Roll everything back; bounded, never raises. What a lost connection leaves, its server rolls back by itself."""
        if self._ending is not None:
            await unhindered(ended(self._ending))
        await unhindered(self._rollback())

    async def _rollback(self) -> None:
        await asyncio.gather(
            *(self._end(group, "ROLLBACK", self.bounds.undo_s) for group in tuple(self.branches))
        )
