"""Keeps a client's cluster map current: loads it, compares epochs, replaces it for everybody at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.client.link import AsyncpgLink
from pgherd.client.pool import GroupPool
from pgherd.errors import GroupDown, PgherdError

T = TypeVar("T")
POLL_S = 1.0


class MapKeeper:
    """Refreshes are shared: who asks while one runs waits for the next, which starts after the question."""

    def __init__(self, pools: dict[GroupId, GroupPool], changed: Callable[[ClusterMap], None]) -> None:
        self._pools = pools
        self._changed = changed
        self._lock = asyncio.Lock()
        self._asked = 0
        self._loaded = 0
        self._news = asyncio.Event()

    async def refresh(self) -> None:
        """Load the map; it is at least as new as this call. Raises GroupDown if no group answers."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._loaded >= mine:
                return
            until = self._asked
            loaded = await self._somewhere(store.load)
            self._loaded = until
            self._changed(loaded)

    async def check(self, epoch: int) -> bool:
        """Whether the map is newer than `epoch`; then it has been refreshed. One round trip otherwise."""
        if await self._somewhere(store.epoch) == epoch:
            return False
        await self.refresh()
        return True

    async def poll(self, epoch: Callable[[], int], every_s: float = POLL_S) -> None:
        """Check for ever. A table that becomes distributed or a reference table looks single in an old map, and no server
        can tell: this bounds how long anybody works with one."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._news.wait()
            self._news.clear()
            with contextlib.suppress(PgherdError, asyncpg.PostgresError, OSError):
                await self.check(epoch())

    def heard(self, _epoch: int) -> None:
        """Somebody saw a newer epoch: look at once."""
        self._news.set()

    async def _somewhere(self, job: Callable[[AsyncpgLink], Awaitable[T]]) -> T:
        """Ask group 0, or where it does not answer the next group that does."""
        failure = GroupDown("the cluster map names no group")
        for pool in sorted(self._pools.values(), key=lambda pool: (pool.shut, pool.group)):
            try:
                held = await pool.wait()
            except GroupDown as error:
                failure = error
                continue
            link = AsyncpgLink(pool, held)
            try:
                return await job(link)
            except GroupDown as error:
                failure = error
            finally:
                pool.give(link.held)  # it may have taken another one's place
        raise failure
