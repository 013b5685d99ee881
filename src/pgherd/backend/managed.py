"""Connections to the primary of a managed group, whoever that is: they wait for it, and never outlive its reign."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pgherd.backend.connection import ServerLink
from pgherd.backend.pool import NoneFree, Pool
from pgherd.backend.state import SessionState
from pgherd.catalog.model import GroupId, Node
from pgherd.errors import GroupDown
from pgherd.topology.watch import Watch

_AGAIN_S = 0.05


class PrimaryPool(Pool):
    """Idle connections are lent only while their node is the trusted primary and not paused; `take` waits for that.

    `Backends.lead` ends those to another node.
    """

    def __init__(self, *args: Any, watch: Watch, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._watch = watch
        self._led: Node | None = None  # the newest primary that we were told of
        self._connecting: set[asyncio.Task[ServerLink]] = set()

    def take_nowait(self, state: SessionState) -> ServerLink | None:
        if self._watch.primary(self.group) is None:
            return None
        return super().take_nowait(state)

    async def take(self, state: SessionState, wait_s: float | None = None) -> ServerLink:
        """As `Pool.take`, from the primary there is within `wait_s` (the limits' `failover`). Raises GroupDown, TooManyWaiting."""
        return await self._take(state, wait_s, self._watch.primary)

    async def take_under_way(self, state: SessionState) -> ServerLink:
        """As `take`, for a transaction that is open in the group: an announced pause waits for it, and so does not stop it."""
        return await self._take(state, None, self._watch.trusted)

    async def _take(
        self, state: SessionState, wait_s: float | None, who: Callable[[GroupId], Node | None]
    ) -> ServerLink:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + (self._limits.failover if wait_s is None else wait_s)
        while True:
            if who(self.group) is None:
                await self._watch.wait_primary(self.group, max(deadline - clock.time(), 0.0))
            try:
                link = await super().take(state)
            except NoneFree:
                raise
            except GroupDown:
                self._watch.suspect(self.group)
                if clock.time() >= deadline:
                    raise
                await asyncio.sleep(_AGAIN_S)
                continue
            if self._led is not None and not same_place(self._led, link.node):
                link.abort()
            elif who(self.group) is not None and not link.broken:
                return link
            self.give(link)

    async def _open(self) -> ServerLink:
        """Make a connection, unless another node becomes the primary meanwhile: the old one may never answer."""
        task = asyncio.ensure_future(super()._open())
        self._connecting.add(task)
        try:
            link = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise GroupDown(f"group {self.group} has another primary now") from None
            task.add_done_callback(_close)
            raise
        finally:
            self._connecting.discard(task)
        link.watched = True
        return link

    def lead(self, node: Node) -> None:
        """`node` is the primary: connections that are being made to another one are not wanted."""
        if self._led is None or not same_place(self._led, node):
            for task in self._connecting:
                task.cancel()
        self._led = node


def same_place(one: Node, other: Node) -> bool:
    """Whether two values describe one node at one address."""
    return one is other or (one.id, one.host, one.port) == (other.id, other.host, other.port)


def _close(task: asyncio.Task[ServerLink]) -> None:
    """Nobody waits for this connection any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
