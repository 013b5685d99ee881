"""Keeps the gateway's cluster map current: loads it, polls the epoch, refreshes on request.

Refreshes are shared: whoever asks while one is under way waits for the next one, which starts after the question.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pgherd.backend.backends import Backends
from pgherd.backend.connection import Credentials, ServerLink
from pgherd.backend.pool import DEFAULT_STATE
from pgherd.backend.types import TYPES_SQL, TypeMap
from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.errors import GroupDown, PgherdError

T = TypeVar("T")
_ANSWER_S = 2.0  # a group that hangs is passed over so soon
_TRIES, _AGAIN_S = 100, 0.2
_RARELY = 10  # the watcher of a managed group tells of a new epoch: polling is a second line only
log = logging.getLogger("pgherd.gateway")


class MapKeeper:
    """`map` is the newest known map; `on_change` runs after it was replaced. `types[group]` translates type OIDs."""

    def __init__(self, backends: Backends, credentials: Credentials, first: ClusterMap) -> None:
        self.map = first
        self.types: dict[GroupId, TypeMap | None] = {}
        self.on_change: list[Callable[[], None]] = []
        self._backends = backends
        self._credentials = credentials
        self._running: asyncio.Task[None] | None = None
        self._queued: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Load the map anew; it is at least as new as the moment of this call. Raises GroupDown."""
        if self._running is not None and not self._running.done():
            if self._queued is None or self._queued.done():
                self._queued = asyncio.create_task(self._after(self._running))
            await asyncio.shield(self._queued)
            return
        self._running = asyncio.create_task(self._load())
        await asyncio.shield(self._running)

    async def _after(self, running: asyncio.Task[None]) -> None:
        with contextlib.suppress(PgherdError):
            await asyncio.shield(running)
        self._running = asyncio.current_task()
        await self._load()

    async def check(self) -> bool:
        """Whether the map had changed; if so it has been refreshed. One round trip if it had not."""
        epoch = await self._somewhere(store.epoch)
        if epoch == self.map.epoch:
            return False
        await self.refresh()
        return True

    async def renew(self) -> None:
        """As `check`, tried until it is done: there is known to be a newer map."""
        for _ in range(_TRIES):
            try:
                if await self.check():
                    return
            except PgherdError:
                pass
            await asyncio.sleep(_AGAIN_S)

    async def poll(self, every: float) -> None:
        """Check the epoch for ever, every `every` seconds. Groups that are down are somebody else's news."""
        while True:
            await asyncio.sleep(every if self._unwatched else every * _RARELY)
            with contextlib.suppress(PgherdError):
                await self.check()

    @property
    def _unwatched(self) -> bool:
        """Whether no managed group's watcher tells of new epochs."""
        return not any(group.managed for group in self.map.groups.values())

    async def _load(self) -> None:
        loaded = await self._somewhere(store.load)
        types = await self._load_types(loaded)
        changed = loaded.epoch != self.map.epoch
        self.map, self.types = loaded, types
        self._backends.retype(types)
        if changed:
            log.info("cluster map is at epoch %s", loaded.epoch)
        for callback in self.on_change:
            callback()

    async def _load_types(self, loaded: ClusterMap) -> dict[GroupId, TypeMap | None]:
        first = GroupId(0)
        by_group: dict[GroupId, dict[str, int]] = {}

        async def read(group: GroupId) -> None:
            with contextlib.suppress(PgherdError):
                by_group[group] = await self._on(group, _read_types)

        async with asyncio.TaskGroup() as tasks:  # one that hangs does not add its bound to the others'
            for group in loaded.groups:
                tasks.create_task(read(group))
        home = by_group.get(first, {})
        found: dict[GroupId, TypeMap | None] = {
            group: TypeMap(names, home) for group, names in by_group.items() if group != first and names
        }
        for group in loaded.groups:  # a group that is down keeps what was known of it
            if group not in by_group and (known := self.types.get(group)) is not None:
                found[group] = known
        return found

    async def _somewhere(self, job: Callable[[ServerLink], Awaitable[T]]) -> T:
        """Run on group 0, or where it does not answer on the next group that does."""
        failure: PgherdError = GroupDown("the cluster map names no group")
        for group in sorted(self.map.groups):
            try:
                return await self._on(group, job)
            except GroupDown as error:
                failure = error
        raise failure

    async def _on(self, group: GroupId, job: Callable[[ServerLink], Awaitable[T]]) -> T:
        pool = self._backends.pool(group, self._credentials)
        link = await pool.take(DEFAULT_STATE, 0.0)
        try:
            async with asyncio.timeout(_ANSWER_S if len(self.map.groups) > 1 else None):
                return await job(link)
        except TimeoutError:
            link.abort()
            raise GroupDown(f"group {group} did not answer within {_ANSWER_S:g} s") from None
        finally:
            pool.give(link)


async def _read_types(link: ServerLink) -> dict[str, int]:
    return {name or "": int(oid or 0) for name, oid in await link.run(TYPES_SQL)}
