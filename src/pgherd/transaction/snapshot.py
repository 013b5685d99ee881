"""Consistent snapshots over several groups, without clocks: windows through the gates.

A window holds, in every group it covers, SHARE ROW EXCLUSIVE on pgherd.gate and then SHARE on pgherd.home_gate. While it
is open no distributed transaction is between its PREPARE and its COMMIT PREPARED there, and none decides there.
Snapshots taken while it is open therefore see all of a distributed transaction or nothing of it, and windows that
share a group exclude each other, so no two readers see two commits in opposite orders.

Order matters, for no deadlock with committing transactions: those take participants' gates first and home's
gate last; a window takes all gates first and all home gates after. Windows queue up at the gate of their first
group. What still collides (windows with different first groups, transactions with several participants) meets the
short lock_timeout, backs off and tries again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.errors import GroupDown, PgherdError, ServerError, SnapshotBusy, WindowShut
from pgherd.transaction.perform import Lender

LOCK_NOT_AVAILABLE = "55P03"
LOOK_EVERY_S = 1.0  # how often what is in doubt is looked at, while gates stay shut


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """Bounds of opening and holding windows, in seconds.

    `rest`: after a window that readers shared, the process waits this many times the window's own length before its next
    one, so that many readers who come without pause leave the writers most of the time, and meet in fewer windows.
    `answer_s`: a group that does not answer so long (beyond a lock's own wait) is taken for hung: the other groups' gates
    must not stay shut for its sake. `retry_s`: how long a reader tries again when a group was hung or down, or while
    transactions in doubt keep a gate shut; a look at those takes `unstick_s` at most.
    """

    wait_s: float = 5.0
    hold_s: float = 2.0
    first_lock_s: float = 0.5
    lock_s: float = 0.02
    lock_max_s: float = 0.2
    rest: float = 2.0
    stuck_s: float = 0.3
    unstick_s: float = 3.0
    answer_s: float = 0.5
    connect_s: float = 2.0
    retry_s: float = 20.0


class Window:
    """One passage through the gates of `groups`, shared by the readers that wait for it.

    `since`: when they were first tried (None: not yet). `in_doubt`: a transaction that has to wait keeps one of them shut.
    """

    def __init__(self, groups: frozenset[GroupId], settings: GateSettings) -> None:
        self.groups = groups
        self.since: float | None = None
        self.lock_s = settings.lock_s
        self.look_s = settings.stuck_s  # after so long, look at what is in doubt
        self.in_doubt = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.inside = 0
        self.readers = 0
        self.expired = False
        self.empty = asyncio.Event()


class Passage:
    """One reader's stay in a window. `leave` as soon as all its snapshots are taken; the block's end does it otherwise."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._left = False
        window.inside += 1
        window.readers += 1

    def leave(self) -> None:
        """The snapshots are taken. Raises WindowShut if the window was shut before."""
        if self._left:
            return
        self.abandon()
        if self.window.expired:
            raise WindowShut(_BUSY, hint=_BUSY_HINT)

    def abandon(self) -> None:
        """Leave without caring for the snapshots."""
        if not self._left:
            self._left = True
            self.window.inside -= 1
            if self.window.inside == 0:
                self.window.empty.set()


# Settles what is in doubt in these groups. True: some of it has to wait, for its coordinator or for a group that is down.
Unstick = Callable[[tuple[GroupId, ...]], Awaitable[bool]]
# Waits until these groups can be expected to answer. True: one of them did not, just now, so find out.
Ready = Callable[[Iterable[GroupId], bool], Awaitable[None]]


class ForeignHabit:
    """Whether REPEATABLE READ transactions of this process should open postgres_fdw's snapshots at their start.

    Only then can they read through foreign tables later, but it costs more than all the rest. So: yes at first; no after
    `patience` transactions in a row that did not need them; yes for long when one needed them in vain (40001, once).
    """

    def __init__(self, patience: int = 50) -> None:
        self._patience = patience
        self._unused = 0

    @property
    def wanted(self) -> bool:
        return self._unused < self._patience

    def opened(self) -> None:
        """A transaction has opened them; whether for nothing shows later."""
        self._unused += 1

    def used(self) -> None:
        """They were of use."""
        self._unused = min(self._unused, 0)

    def missed(self) -> None:
        """They were missing."""
        self._unused = -100 * self._patience


class Gates:
    """The process's way through the gates: one window at a time, readers that wait share the next one.

    `lender` lends connections that nothing else uses meanwhile; they are kept until `close`. `unstick` is called when a gate
    stays shut for `stuck_s`, and again until it opens: it settles what a dead coordinator left prepared. `ready`: readers wait
    for it before they join a window, and again (then with True) when a group did not answer; without it such readers fail
    with GroupDown.
    """

    def __init__(
        self,
        lender: Lender,
        settings: GateSettings | None = None,
        unstick: Unstick | None = None,
        ready: Ready | None = None,
    ) -> None:
        self.lender = lender
        self.settings = settings or GateSettings()
        self.unstick = unstick
        self.ready = ready
        self.foreign = ForeignHabit()
        self.windows = 0  # opened so far
        self.shared = 0  # readers that found a window forming
        self._links: dict[GroupId, Link] = {}
        self._forming: list[Window] = []
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def window(self, groups: Iterable[GroupId]) -> AsyncGenerator[Passage]:
        """Hold the gates of `groups` during the block: take the snapshots in it, and nothing slow.

        Raises SnapshotBusy (40001) when the gates stay shut too long, GroupDown when a group is down.
        """
        passage = await self._enter(frozenset(groups))
        try:
            yield passage
            passage.leave()
        finally:
            passage.abandon()

    async def snapshots(
        self,
        groups: Iterable[GroupId],
        take: Callable[[], Awaitable[None]],
        undo: Callable[[], Awaitable[None]],
    ) -> None:
        """Let `take` take snapshots in a window. If it lasted too long, as when a group failed over meanwhile: `undo`, and again.

        Raises SnapshotBusy and GroupDown as `window` does, and what `take` and `undo` raise.
        """
        clock = asyncio.get_running_loop()
        covered, deadline = frozenset(groups), clock.time() + self.settings.retry_s
        while True:
            try:
                async with self.window(covered):
                    await take()
                return
            except WindowShut:
                if clock.time() > deadline:
                    raise
            await undo()

    async def _enter(self, groups: frozenset[GroupId]) -> Passage:
        """Join a window that is open then; while a group is down, and may come back, try again."""
        clock = asyncio.get_running_loop()
        begun, doubt = clock.time(), False
        while True:
            if self.ready is not None:
                await self.ready(groups, doubt)
            passage = Passage(self._join(groups))
            try:
                async with asyncio.timeout(self.settings.wait_s * 2 + self.settings.retry_s):
                    await asyncio.shield(passage.window.opened)
                return passage
            except TimeoutError:
                passage.abandon()
                raise _busy() from None
            except SnapshotBusy:
                passage.abandon()
                if clock.time() - begun > self.settings.wait_s:
                    raise  # else it joined those who had waited for long
            except GroupDown:
                passage.abandon()
                if self.ready is None or clock.time() - begun > self.settings.retry_s:
                    raise
                doubt = True
            except BaseException:
                passage.abandon()
                raise

    def _join(self, groups: frozenset[GroupId]) -> Window:
        for window in self._forming:
            if groups == window.groups or (groups <= window.groups and not window.in_doubt):
                self.shared += 1
                return window
        window = Window(groups, self.settings)
        self._forming.append(window)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="pgherd gates")
        return window

    async def _serve(self) -> None:
        clock = asyncio.get_running_loop()
        while self._forming:
            window = self._forming[0]
            begun = await self._pass(window)
            if begun is not None and window.readers > 1:
                await asyncio.sleep((clock.time() - begun) * self.settings.rest)

    async def _pass(self, window: Window) -> float | None:
        """Open one window, wait until its readers have left, shut it. Answers when the gates were shut for writers."""
        groups = tuple(sorted(window.groups))
        try:
            begun = await self._acquire(window, groups)
        except BaseException as error:
            self._forming.remove(window)
            await self._release(groups)
            if not window.opened.cancelled():
                window.opened.set_exception(error)
                window.opened.exception()  # a reader that gave up meanwhile leaves it unread
            if isinstance(error, Exception):
                return None
            raise
        self._forming.remove(window)  # who comes now waits for the next window
        if begun is None:
            self._forming.append(window)
            return None
        self.windows += 1
        window.opened.set_result(None)
        try:
            async with asyncio.timeout(self.settings.hold_s):
                await window.empty.wait()
        except TimeoutError:
            window.expired = True
        await self._release(groups)
        return begun

    async def _acquire(self, window: Window, groups: tuple[GroupId, ...]) -> float | None:
        """Shut the gates; answers when. None: what is in doubt keeps them from it, so that windows of other groups go first."""
        clock = asyncio.get_running_loop()
        window.since = window.since or clock.time()
        while True:
            begun = clock.time()
            try:
                async with asyncio.timeout(self.settings.wait_s * 2):
                    await self._try(groups, window.lock_s)
                return begun
            except TimeoutError:
                self._drop(groups)
                raise _busy() from None
            except ServerError as error:
                if error.code != LOCK_NOT_AVAILABLE:
                    raise
            await self._release(groups)
            await self._look(window, groups, clock.time() - window.since)
            await asyncio.sleep(random.uniform(0.2, 1.0) * window.lock_s)
            window.lock_s = min(window.lock_s * 1.5, self.settings.lock_max_s)
            if window.in_doubt and len(self._forming) > 1:
                return None

    async def _look(self, window: Window, groups: tuple[GroupId, ...], waited_s: float) -> None:
        """Whether to wait on for the gates. Raises SnapshotBusy beyond the bound."""
        if waited_s > (self.settings.retry_s if window.in_doubt else self.settings.wait_s):
            raise _busy()
        if self.unstick is not None and waited_s > window.look_s:
            window.in_doubt = await self._in_doubt(groups)
            window.look_s = waited_s + LOOK_EVERY_S

    async def _in_doubt(self, groups: tuple[GroupId, ...]) -> bool:
        """Settle what can be settled; whether something has to wait. A group that is down must not hold up all windows here."""
        assert self.unstick is not None
        try:
            async with asyncio.timeout(self.settings.unstick_s):
                return await self.unstick(groups)
        except (GroupDown, TimeoutError):
            return True

    async def _try(self, groups: tuple[GroupId, ...], lock_s: float) -> None:
        await _all(self._connected(group) for group in groups)
        first, *rest = groups
        await self._lock(first, self.settings.first_lock_s)
        await _all(self._lock(group, lock_s) for group in rest)
        await _all(self._lock_home_gate(group, lock_s) for group in groups)

    async def _lock(self, group: GroupId, lock_s: float) -> None:
        await self._do(
            group,
            f"BEGIN; SET LOCAL lock_timeout = {max(1, round(lock_s * 1000))}; SET LOCAL statement_timeout = 0; "
            "LOCK TABLE pgherd.gate IN SHARE ROW EXCLUSIVE MODE",
            lock_s,
        )

    async def _lock_home_gate(self, group: GroupId, lock_s: float) -> None:
        await self._do(
            group,
            f"SET LOCAL lock_timeout = {max(1, round(lock_s * 1000))}; LOCK TABLE pgherd.home_gate IN SHARE MODE",
            lock_s,
        )

    async def _do(self, group: GroupId, sql: str, lock_s: float) -> None:
        try:
            async with asyncio.timeout(lock_s + self.settings.answer_s):
                await self._links[group].do(sql)
        except TimeoutError:
            self._drop((group,))
            raise _hung(group) from None

    async def _connected(self, group: GroupId) -> None:
        link = self._links.get(group)
        if link is not None and not link.broken:
            return
        if link is not None:
            self.lender.give_back(self._links.pop(group), reusable=False)
        try:
            async with asyncio.timeout(self.settings.connect_s):
                self._links[group] = await self.lender.lend(group)
        except TimeoutError:
            raise _hung(group) from None

    async def _release(self, groups: tuple[GroupId, ...]) -> None:
        await asyncio.gather(*(self._release_one(group) for group in groups if group in self._links))

    async def _release_one(self, group: GroupId) -> None:
        link = self._links[group]
        try:
            async with asyncio.timeout(self.settings.answer_s):
                await link.do("ROLLBACK")
        except (PgherdError, OSError, TimeoutError):
            del self._links[group]
            self.lender.give_back(link, reusable=False)

    def _drop(self, groups: tuple[GroupId, ...]) -> None:
        """Links that a bound interrupted in mid-statement."""
        for group in groups:
            if (link := self._links.pop(group, None)) is not None:
                self.lender.give_back(link, reusable=False)

    async def close(self) -> None:
        """Give the gates' connections back; waiting readers fail."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for link in self._links.values():
            self.lender.give_back(link, reusable=False)
        self._links.clear()


async def _all(jobs: Iterable[Awaitable[None]]) -> None:
    """Run side by side; all end before the first error is raised, so that no link is left in mid-statement."""
    for answer in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def _hung(group: GroupId) -> GroupDown:
    return GroupDown(f"group {group} does not answer", hint="See pgherd status; other groups keep answering.")


_BUSY = "no consistent snapshot over the groups could be opened in time"
_BUSY_HINT = "Run the transaction again. SET pgherd.snapshot = off reads each group at its own moment."


def _busy() -> SnapshotBusy:
    return SnapshotBusy(_BUSY, hint=_BUSY_HINT)
