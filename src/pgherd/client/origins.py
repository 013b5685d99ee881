"""The source of generated ids: its origin is leased from group 0 once."""

from __future__ import annotations

from collections.abc import Callable

from pgherd.catalog.model import GroupId
from pgherd.client.link import AsyncpgLink
from pgherd.client.pool import GroupPool
from pgherd.engine.ids import IdSource
from pgherd.errors import GroupDown


class NoIds:
    """Stands in for the id source while group 0, which leases origins, is down: only who needs an id notices."""

    def __init__(self, error: GroupDown) -> None:
        self._error = error

    def next(self) -> int:
        """Raises GroupDown."""
        raise self._error


class Origins:
    """Answers the id source; leases an origin when it is first asked."""

    def __init__(self, pool: Callable[[], GroupPool]) -> None:
        self._pool = pool
        self._ids: IdSource | None = None

    async def source(self) -> IdSource | NoIds:
        """The source. While group 0 is down there are no ids."""
        if self._ids is None:
            pool = self._pool()
            if pool.shut:  # most statements need no id: they shall not wait for group 0
                return NoIds(
                    GroupDown(f"group {pool.group}, which leases the origins of ids, has no primary")
                )
            try:
                self._ids = await self._lease(pool)
            except GroupDown as error:
                return NoIds(error)
        return self._ids

    async def _lease(self, pool: GroupPool) -> IdSource:
        link = AsyncpgLink(pool, await pool.overdraw())  # a transaction that asks may hold the last one
        try:
            rows = await link.run("SELECT nextval('pgherd.origins')")
        finally:
            pool.give(link.held)  # another connection may have taken the first one's place
        return IdSource(int(rows[0][0] or 0))


def zero(pools: dict[GroupId, GroupPool]) -> Callable[[], GroupPool]:
    """Group 0's pool, whenever it is asked for."""
    return lambda: pools[GroupId(0)]
