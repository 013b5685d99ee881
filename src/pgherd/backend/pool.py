"""Server connections to lend: a pool for each group and role, bounded in number and in waiting.

Of groups that Patroni manages there is one for the primary, whoever that is (`managed`), and one for each replica that is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pgherd.backend.connection import Credentials, ServerLink
from pgherd.backend.state import SessionState, state_of, switch_sql
from pgherd.catalog.model import GroupId, Node
from pgherd.errors import GroupDown

# A connection to the given node, or to the one that takes the group's statements now
Connect = Callable[[GroupId, Credentials, Node | None], Awaitable[ServerLink]]
DEFAULT_STATE = state_of(())


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """`connections` to one group for one role; `wait` seconds for one to come free; `idle` seconds before one is closed;
    `failover` seconds for a group to have a primary."""

    connections: int = 20
    wait: float = 30.0
    idle: float = 60.0
    failover: float = 20.0


class NoneFree(GroupDown):
    """All connections of a pool stayed in use."""


class Pool:
    """Connections of one role to one group. `take_nowait` is the query path's; `take` waits, connects, switches settings."""

    def __init__(
        self,
        group: GroupId,
        credentials: Credentials,
        connect: Connect,
        limits: PoolLimits,
        links: set[ServerLink],
        node: Node | None = None,
    ) -> None:
        self.group = group
        self.credentials = credentials
        self.node = node
        self.idle: list[ServerLink] = []
        self.size = 0
        self.generation = (
            0  # grows with every connection that ends: a server that was restarted has another one
        )
        self.closed = False
        self._connect = connect
        self._limits = limits
        self._links = links
        self._waiters: deque[asyncio.Future[ServerLink | None]] = deque()

    def take_nowait(self, state: SessionState) -> ServerLink | None:
        """A free connection that already has these settings, or None."""
        idle = self.idle
        if idle and idle[-1].applied is state:
            return idle.pop()
        for at in range(len(idle) - 2, -1, -1):
            if idle[at].applied is state:
                return idle.pop(at)
        return None

    async def take(self, state: SessionState, wait_s: float | None = None) -> ServerLink:
        """A connection with these settings. Raises GroupDown within the bound, or the server's refusal of a setting.

        `wait_s`: how long to wait for a managed group's primary.
        """
        link = self.take_nowait(state) or await self._any()
        if link.applied is state:
            return link
        before = link.applied
        link.applied = None
        try:
            await link.run(switch_sql(before, state))
        except BaseException:
            self.give(link)
            raise
        link.applied = state
        link.strayed = False
        return link

    async def _any(self) -> ServerLink:
        if self.size >= self._limits.connections:
            if self.idle:
                return self.idle.pop(0)
            found = await self._wait()
            if found is not None:
                return found
        elif self.idle and len(self.idle) * 2 > self._limits.connections:
            return self.idle.pop(0)
        self.size += 1
        try:
            link = await self._open()
        except BaseException:
            self.size -= 1
            self._wake(None)
            raise
        link.on_close = self._closed
        link.pool = self
        link.replica = self.node is not None
        return link

    async def _open(self) -> ServerLink:
        return await self._connect(self.group, self.credentials, self.node)

    async def _wait(self) -> ServerLink | None:
        waiter: asyncio.Future[ServerLink | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._limits.wait):
                try:
                    return await waiter
                except asyncio.CancelledError:
                    if waiter.done() and not waiter.cancelled() and (link := waiter.result()) is not None:
                        self.give(link)  # it came just as we stopped waiting
                    raise
        except TimeoutError:
            raise NoneFree(
                f"no connection to group {self.group} came free within {self._limits.wait:g} s",
                hint=f"All {self._limits.connections} are in use; end long transactions or raise pool_size.",
            ) from None

    def give(self, link: ServerLink) -> None:
        """Take a connection back. One that is broken, in a transaction or with an answer still to come is closed."""
        if link.broken:
            return
        if link.busy or link.status != 0x49:
            link.close()
            return
        link.on_parameter = link.on_notice = link.on_writable = None
        if link.cancelling:
            link.on_cancelled = self.give
            return
        if self.closed:
            link.close()
            return
        link.resume_reading()  # its last reader may have been slow
        if link.strayed:
            link.applied = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return
        link.idle_since = link.loop.time()  # asyncio's own look-up is a system call
        self.idle.append(link)

    def _closed(self, link: ServerLink) -> None:
        self.size -= 1
        self.generation += 1
        self._links.discard(link)
        if link in self.idle:
            self.idle.remove(link)
        self._wake(None)

    def _wake(self, link: ServerLink | None) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return

    def close_idle(self, before: float) -> None:
        """Close connections that have been idle since before the loop's time `before`."""
        for link in [link for link in self.idle if link.idle_since < before]:
            link.close()

    def close(self) -> None:
        """Lend nothing more: what is idle ends now, the rest when it comes back."""
        self.closed = True
        self.close_idle(float("inf"))
