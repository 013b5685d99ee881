"""The connections to one node of a group: to its primary, whichever node that is, or to one of its standbys.

asyncpg's own pool resets a connection on each release, which costs a round trip. Connections here are lent as
they are: whoever changes a session's state marks it `dirty`, and it is closed instead of lent again.

A primary's pool has a door. While nobody is known to be primary, or a switchover is announced, it is shut: what is idle lies
aside, what is given back goes there too, and who asks for a connection waits in front of it, within a bound. So who finds a
connection in `idle` need not ask whether it may be used.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import asyncpg

from pgherd.catalog.model import GroupId, Node
from pgherd.client.held import Held
from pgherd.errors import GroupDown
from pgherd.topology import clock
from pgherd.topology.watch import Watch

RECONNECT_S = 0.05
Connector = Callable[[Node], Awaitable["asyncpg.Connection"]]


class NoneFree(GroupDown):
    """All connections that the pool may open are in use, for too long."""


class GroupPool:
    """At most `size` connections. `take` and `give` are plain calls where nothing must wait. Times in seconds."""

    __slots__ = (
        "_all",
        "_connect",
        "_generation",
        "_open",
        "_unreached_since",
        "_waiters",
        "_watch",
        "aside",
        "breaks",
        "closed",
        "group",
        "idle",
        "node",
        "replica",
        "shut",
        "size",
        "touched",
        "wait_max",
    )

    def __init__(
        self,
        node: Node,
        connect: Connector,
        *,
        size: int,
        wait_max: float,
        watch: Watch | None = None,
        replica: bool = False,
    ) -> None:
        self.group: GroupId = node.group
        self.node = node
        self.replica = replica
        self.size = size
        self.wait_max = wait_max
        self.shut = watch is not None  # the watch opens the door
        self._watch = watch
        self.closed = False
        self.idle: list[Held] = []
        self.aside: list[Held] = []
        self.breaks = 0  # connections that were lost
        self.touched = False  # something was done here since somebody set this to False
        self._generation = 0
        self._connect = connect
        self._all: set[Held] = set()
        self._open = 0
        self._waiters: deque[asyncio.Future[Held | None]] = deque()
        self._unreached_since = 0.0  # no connection could be made since then; 0: one could

    # ---- lending -------------------------------------------------------------------------------------------

    def take(self) -> Held | None:
        """An idle connection at once, or None: then `await wait()`."""
        return self.idle.pop() if self.idle else None

    async def wait(self) -> Held:
        """A connection: idle, new, or the next that is given back. Raises GroupDown after `wait_max` seconds, or when the
        door stays shut for too long."""
        while True:
            if self.shut:
                await self._pass()
            held = self._idle()
            if held is not None:
                return held
            found = await (self._opened() if self._open < self.size else self._next_given())
            if found is not None:
                return found

    async def overdraw(self, *, inside: bool = False) -> Held:
        """A connection at once, a new one if none is idle, even beyond `size`: for transactions, whose number is bounded.

        `inside`: for one that is under way in this group: a pause does not stop it, as it waits for just that.
        """
        while True:
            through = self.shut and inside and self.trusted
            if self.shut and not through:
                await self._pass()
            held = self._idle(self.aside if through else self.idle) or await self._opened(through=through)
            if held is not None:
                return held

    def _idle(self, idle: list[Held] | None = None) -> Held | None:
        idle = self.idle if idle is None else idle
        while idle:
            held = idle.pop()
            if not held.lost:
                return held
            self.drop(held)
        if self.closed:
            raise asyncpg.InterfaceError("the database object is closed")
        return None

    async def _opened(self, *, through: bool = False) -> Held | None:
        """A new connection; None if the door was shut, or leads elsewhere, when it was there."""
        node = self.node
        self._open += 1
        try:
            held = Held(await self._connect(node), self._generation)
        except GroupDown as error:
            self._gone()
            await self._unreached(error)
            return None
        except BaseException:
            self._gone()
            raise
        self._unreached_since = 0.0
        self._all.add(held)
        held.connection.add_log_listener(held.noticed)
        if (through or not self.shut) and node is self.node and not self.closed:
            if through:
                held.sure, held.generation = False, -1
            return held
        held.generation = -1  # of another time: `give` looks twice
        held.dirty = node is not self.node
        self.give(held)
        return None

    async def _unreached(self, error: GroupDown) -> None:
        """Wait a little where a failover may explain that no connection could be made; else raise `error`."""
        now = clock.now()
        self._unreached_since = self._unreached_since or now
        if self._watch is None or now - self._unreached_since > self._watch.settings.failover_wait_s:
            raise error
        self._watch.suspect(self.group)
        await asyncio.sleep(RECONNECT_S)

    async def _next_given(self) -> Held | None:
        waiter: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.wait_max):
                held = await waiter
        except TimeoutError:
            raise NoneFree(
                f"no connection to group {self.group} became free within {self.wait_max:g} s",
                hint="Raise max_size, or look for transactions that stay open.",
            ) from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (given := waiter.result()) is not None:
                self.give(given)
            raise
        if held is None or not (held.lost or held.dirty):
            return held
        self.drop(held)
        return None

    def give(self, held: Held) -> None:
        """Take a connection back. A dirty one is closed; a lost one is noticed when it is lent again."""
        self.touched = True
        if held.dirty or held.generation != self._generation or self.closed:
            if held.dirty or self.closed:
                self.drop(held)
                return
            if self.shut:
                self.aside.append(held)
                return
            held.generation = self._generation
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(held)
                return
        if self._open > self.size:
            self.drop(held)
        else:
            self.idle.append(held)

    def drop(self, held: Held) -> None:
        """Close a connection that must not be lent again."""
        if held.lost:
            self.breaks += 1
        held.connection.terminate()
        self._all.discard(held)
        self._gone()

    def _gone(self) -> None:
        self._open -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)  # there is room for a new connection: open it
                return

    # ---- the door ------------------------------------------------------------------------------------------

    def close_door(self) -> None:
        """Lend nothing from now on, and look at every answer that still comes: does it count?"""
        if self.shut:
            return
        self.shut = True
        self._generation += 1
        self.aside, self.idle = self.idle, []
        for held in self._all:
            held.sure = False

    def open_door(self, node: Node) -> None:
        """`node` is the primary. If it is another one than before, all connections to that one are closed, busy ones too."""
        if node != self.node:
            self.leave()
        self.node = node
        self._unreached_since = 0.0
        for held in self._all:
            held.sure = not held.dirty
        self.shut = False
        aside, self.aside = self.aside, []
        for held in aside:
            self.give(held)

    def leave(self) -> None:
        """Close all connections at once; statements on them fail."""
        for held in tuple(self._all):
            held.abort()
        self.drop_idle()

    async def _pass(self) -> None:
        """Wait in front of the door. Raises GroupDown, TooManyWaiting."""
        assert self._watch is not None
        deadline = clock.now() + self._watch.settings.failover_wait_s
        while self.shut:
            await self._watch.wait_primary(self.group, max(deadline - clock.now(), 0.0))

    @property
    def watched(self) -> bool:
        """Whether the watch says who the primary is."""
        return self._watch is not None

    @property
    def trusted(self) -> bool:
        """Whether the node is known to be the primary at this moment; with the door shut: the group is paused."""
        return self._watch is None or self._watch.trusted(self.group) == self.node

    async def stands(self, held: Held) -> bool:
        """Whether the node behind `held`, which has just answered, was the primary then; it may take a while to know.

        Raises GroupDown when nobody is known to be, for too long.
        """
        if self.shut and not held.dirty:
            if self.trusted:
                return True  # only paused: what is open goes on
            await self._pass()
        return held.sure

    # ---- the end -------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Let no connection that is open now be lent again."""
        for held in self._all:
            held.dirty = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close what is not lent."""
        while self.idle or self.aside:
            self.drop(self.idle.pop() if self.idle else self.aside.pop())

    async def close(self) -> None:
        """Close idle connections politely; lent ones close when they are given back."""
        self.closed = True
        idle, self.idle, self.aside = [*self.idle, *self.aside], [], []
        self._open -= len(idle)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for held in idle:
            try:
                await held.connection.close(timeout=2)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                held.connection.terminate()


def down(node: Node, error: BaseException) -> GroupDown:
    """The error for a node that does not answer."""
    what = str(error) or type(error).__name__
    return GroupDown(
        f"group {node.group} ({node.host}:{node.port}) does not answer: {what}",
        hint="Statements that need only other groups go on working. Try again when it is back.",
    )
