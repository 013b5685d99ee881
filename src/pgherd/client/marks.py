"""What one session has seen: the positions in each group, and the replica that it read from last.

PostgreSQL answers without saying how far it was, and asking after each read would double its cost. So a position is asked for
when it is needed: a session that stays on one replica never goes back, and for another node it first learns the primary's
position, which is beyond all that any replica has shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgherd.catalog.model import GroupId
from pgherd.client.pool import GroupPool
from pgherd.topology.choose import Choice
from pgherd.topology.freshness import EVENTUAL, SESSION
from pgherd.topology.positions import Positions
from pgherd.topology.watch import Watch


class Marks:
    """One session's. `shared`: everything that goes through the database object belongs to it."""

    def __init__(self, pools: Mapping[GroupId, GroupPool], watch: Watch, *, shared: bool = False) -> None:
        self._pools = pools
        self._watch = watch
        self._shared = shared
        self._positions = Positions()
        self._last: dict[GroupId, tuple[GroupPool, int]] = {}

    def used(self, groups: Iterable[GroupId]) -> None:
        """The session wrote in these groups, or read on their primaries. (The shared one's pools know that.)"""
        if not self._shared:
            self.saw_primaries(groups)

    def saw_primaries(self, groups: Iterable[GroupId]) -> None:
        """The session saw what these groups' primaries hold, through whatever connections."""
        for group in groups:
            self._positions.wrote(group)

    def answered(self, pool: GroupPool) -> None:
        """A replica has answered."""
        self._last[pool.group] = (pool, pool.breaks)

    def steady(self, pool: GroupPool, primary: GroupPool) -> bool:
        """Whether the replica behind `pool`, which was picked a moment ago, is still right for the next read."""
        return (
            not (self._shared and primary.touched)
            and pool.group not in self._positions.dirty
            and self._last.get(pool.group) == (pool, pool.breaks)
        )

    async def pick(self, group: GroupId) -> Choice:
        """The node for the next read. Raises GroupDown or TooManyWaiting when a position must be known and there is no primary."""
        self._catch_up(group)
        last = self._last.get(group)
        used = None if last is None else last[0].node.id
        if group in self._positions.dirty:
            nearest = self._watch.choose(group, EVENTUAL, used_before=used)
            if nearest.node is not None and nearest.role == "primary":
                return nearest  # no need to know how far it is
        choice = await self._watch.read_node(group, SESSION, self._positions, used_before=used)
        if last is None or choice.node is None or choice.role == "primary" or choice.node.id == used:
            return choice
        self._leave(group)
        return await self._watch.read_node(group, SESSION, self._positions)

    def guess(self, group: GroupId) -> Choice:
        """The node for the next read as far as it can be told without asking anybody, for explanations."""
        return self._watch.choose(group, SESSION, self._positions)

    async def token(self) -> str:
        """All of it as a text for another session. Raises GroupDown."""
        for group in {*self._pools} if self._shared else {*self._last}:
            self._catch_up(group)
            if group in self._last:
                self._leave(group)
        await self._watch.settle(self._positions)
        return self._positions.token()

    def merge(self, token: str) -> None:
        """See at least what the session that made `token` had seen. Raises BadToken."""
        self._positions.merge(token)
        for group in tuple(self._last):
            self._leave(group)

    def _catch_up(self, group: GroupId) -> None:
        pool = self._pools.get(group)
        if self._shared and pool is not None and pool.touched:
            pool.touched = False
            self._positions.wrote(group)
        last = self._last.get(group)
        if last is not None and last[0].breaks != last[1]:  # it may have begun anew, and further back
            self._leave(group)

    def _leave(self, group: GroupId) -> None:
        self._last.pop(group, None)
        self._positions.wrote(group)
