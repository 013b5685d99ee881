"""What one session has seen, for reads on replicas that never go back behind it.

Asking a replica how far it is after each read would double the read's cost. So positions are asked for when they are needed: a
session that stays on one replica never goes back; before it goes to another one, it learns the primary's position, which
is beyond all that any replica can have shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgherd.backend.connection import ServerLink
from pgherd.backend.pool import Pool
from pgherd.catalog.model import GroupId, Node
from pgherd.topology import clock
from pgherd.topology.choose import Choice
from pgherd.topology.freshness import EVENTUAL, KEPT_S, SESSION
from pgherd.topology.positions import Positions
from pgherd.topology.watch import Watch


class Seen:
    """One session's. A group's last reader is a replica's pool, with the generation of its connections at that time."""

    __slots__ = ("_kept", "_last", "_watch", "positions")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.positions = Positions()
        self._last: dict[GroupId, tuple[Pool, Node, int]] = {}
        self._kept: dict[
            GroupId, tuple[Choice, float]
        ] = {}  # the choice of a replica, and until when it holds

    def used(self, link: ServerLink) -> None:
        """The session did something on this connection."""
        if link.replica and isinstance(link.pool, Pool):
            self.replica(link.pool, link.node)
        else:
            self.positions.wrote(link.group)

    def primary(self, groups: Iterable[GroupId]) -> None:
        """The session wrote in these groups, or read on their primaries."""
        for group in groups:
            self.positions.wrote(group)

    def replica(self, pool: Pool, node: Node) -> None:
        """The session reads on a replica."""
        self._last[pool.group] = (pool, node, pool.generation)

    def quick(self, group: GroupId) -> Choice | None:
        """The node for the next read, if it can be told without asking anybody."""
        if group in self.positions.dirty:
            return None
        last = self._last.get(group)
        if last is None:
            return self._watch.choose(group, SESSION, self.positions)
        pool, node, generation = last
        if pool.generation != generation:
            return None  # the server may have begun anew, further back
        kept, now = self._kept.get(group), clock.now()
        if kept is not None and now < kept[1]:
            return kept[0]
        choice = self._watch.choose(group, SESSION, self.positions, used_before=node.id)
        if choice.node is not None and choice.role == "replica":
            if choice.node.id != node.id:
                return None
            self._kept[group] = (choice, now + KEPT_S)
        return choice

    async def pick(self, group: GroupId) -> Choice:
        """The node for the next read. Raises GroupDown or TooManyWaiting where a position must be known and nobody can tell it."""
        choice = self.quick(group)
        if choice is not None and choice.role == "replica":
            return choice
        last = self._last.get(group)
        used = None if last is None else last[1].id
        if choice is None and group in self.positions.dirty:
            nearest = self._watch.choose(group, EVENTUAL, used_before=used)
            if nearest.node is not None and nearest.role == "primary":
                return nearest  # no need to know how far it is
        elif choice is None:  # it cannot stay where it was: all that was seen there, the primary has
            self._leave(group)
            used = None
        return await self._watch.read_node(group, SESSION, self.positions, used_before=used)

    async def token(self, groups: Iterable[GroupId]) -> str:
        """All of it as a text for another session; whatever was done in `groups` is in it. Raises GroupDown, TooManyWaiting."""
        for group in {*self._last, *groups}:
            self._leave(group)
        await self._watch.settle(self.positions)
        return self.positions.token()

    def merge(self, token: str) -> None:
        """See at least what the session that made `token` had seen. Raises BadToken."""
        self.positions.merge(token)
        for group in list(self._last):
            self._leave(group)

    def _leave(self, group: GroupId) -> None:
        self._last.pop(group, None)
        self._kept.pop(group, None)
        self.positions.wrote(group)
