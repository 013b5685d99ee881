"""Watches the nodes of managed groups: who is primary now, which node answers a read, who has to wait.

Gateway and client have one `Watch` each. Groups that are not managed have one node; nothing is watched and nothing costs anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from pgherd.catalog.model import ClusterMap, Group, GroupId, Node
from pgherd.errors import GroupDown, PgherdError
from pgherd.topology import clock
from pgherd.topology.choose import Choice, Place
from pgherd.topology.freshness import STRONG, Freshness
from pgherd.topology.group import GroupWatch, OnPrimary
from pgherd.topology.node import Ask, Asker, WatchSettings
from pgherd.topology.positions import Position, Positions
from pgherd.topology.views import NodeView

__all__ = ["Ask", "Asker", "Watch", "WatchSettings"]
_START = Position(0, 0)
_AGAIN_S = 0.05
_CATCHING_UP_S = 0.002


class Watch:
    """All methods belong to one event loop. Call `follow` with each new map, also with the first.

    `on_primary(group, node)`: send new statements there now; None: to nobody (no trusted primary, or paused), hold them.
    It is called within the loop, between two statements, and always with None before another node or another timeline.
    `on_epoch(epoch)`: a node knows a newer cluster map than the one followed; once for each epoch.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        place: Place | None = None,
        settings: WatchSettings | None = None,
        on_primary: OnPrimary | None = None,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        self.place = place or Place()
        self.settings = settings or WatchSettings()
        self._ask = ask
        self._on_primary = on_primary or _ignore
        self._on_epoch = on_epoch
        self._epoch = 0  # the newest map that anybody is known to have
        self._followed = 0  # the newest that we have
        self._managed: dict[GroupId, GroupWatch] = {}
        self._single: dict[GroupId, Node] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def follow(self, map: ClusterMap) -> None:
        """Watch the nodes of the managed groups of `map`, and nothing else. Needs the running loop."""
        self._followed = max(self._followed, map.epoch)
        self._epoch = max(self._epoch, map.epoch)
        before, self._single = (
            self._single,
            {group.id: group.nodes[0] for group in map.groups.values() if not group.managed},
        )
        for group in map.groups.values():
            if group.managed:
                self._watch(group)
                if group.id in before:  # from now on its node has to prove itself
                    self._on_primary(group.id, None)
        for key in [key for key in self._managed if key not in map.groups or key in self._single]:
            task = asyncio.create_task(self._managed.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._on_primary(key, self._single.get(key))

    def _watch(self, group: Group) -> None:
        known = self._managed.get(group.id)
        if known is None:
            self._managed[group.id] = GroupWatch(
                group,
                self._ask,
                self.place,
                self.settings,
                self._on_primary,
                self._heard_epoch,
                self._followed,
            )
        else:
            known.follow(group, self._followed)

    def _heard_epoch(self, epoch: int) -> None:
        if epoch > self._epoch:
            self._epoch = epoch
            if self._on_epoch is not None:
                self._on_epoch(epoch)

    # ---- the primary -----------------------------------------------------------------------------------

    def primary(self, group: GroupId) -> Node | None:
        """The node that takes this group's statements at this moment: trusted and not paused. The only node of one not managed."""
        watch = self._managed.get(group)
        return watch.primary() if watch is not None else self._single.get(group)

    def trusted(self, group: GroupId) -> Node | None:
        """The primary whose answers count at this moment, also while the group is paused: open transactions go on then."""
        watch = self._managed.get(group)
        return watch.trusted() if watch is not None else self._single.get(group)

    def managed(self, group: GroupId) -> bool:
        """Whether the group's primary can change."""
        return group in self._managed

    async def wait_primary(self, group: GroupId, wait_s: float | None = None) -> Node:
        """As `primary`, waiting `wait_s` (`failover_wait_s`) at most. Raises GroupDown, or TooManyWaiting at once."""
        watch = self._managed.get(group)
        if watch is None:
            node = self._single.get(group)
            if node is None:
                raise GroupDown(f"the cluster map has no group {group}")
            return node
        return await watch.wait_primary(self.settings.failover_wait_s if wait_s is None else wait_s)

    def suspect(self, group: GroupId) -> None:
        """Something happened that a failover would explain (a lost connection, 25006, 57P01, 57P03): look at once, and often for a while."""
        watch = self._managed.get(group)
        if watch is not None:
            watch.suspect()

    def reason(self, group: GroupId) -> str:
        """Why the group has no primary to send to, for a message."""
        watch = self._managed.get(group)
        return watch.reason() if watch is not None else f"the cluster map has no group {group}"

    def views(self, group: GroupId) -> tuple[NodeView, ...]:
        """What is known of each node of a managed group; nothing of others."""
        watch = self._managed.get(group)
        return watch.views if watch is not None else ()

    # ---- reads -----------------------------------------------------------------------------------------

    def choose(
        self,
        group: GroupId,
        freshness: Freshness = STRONG,
        positions: Positions | None = None,
        *,
        used_before: int | None = None,
    ) -> Choice:
        """The node for one read, from what is known without asking. `node` None: `wait_primary`.

        `used_before` (a node's id): the one that this session used last, which it keeps while none is clearly nearer;
        None: the one that anybody used. For level session a dirty group goes to the primary; `read_node` does better.
        """
        watch = self._managed.get(group)
        if watch is None:
            node = self._single.get(group)
            return Choice(node=node, role="primary", freshness=freshness, qualified=1, only=node is not None)
        if freshness.level == "session" and positions is not None and self._unsure(group, positions):
            return watch.choose(STRONG, None, used_before)
        position = positions.get(group) if positions is not None else None
        return watch.choose(freshness, position, used_before)

    def _unsure(self, group: GroupId, positions: Positions) -> bool:
        """Whether replicas of `group` cannot be told from the session's positions: only a primary says that a shard has moved away."""
        if positions.epoch > self._followed:
            self._heard_epoch(positions.epoch)
            return True
        return group in positions.dirty

    async def read_node(
        self,
        group: GroupId,
        freshness: Freshness,
        positions: Positions | None = None,
        *,
        used_before: int | None = None,
    ) -> Choice:
        """As `choose`, asking what has to be asked: the position of a dirty group, and a near replica whether it has it by now.

        Raises GroupDown or TooManyWaiting. For every level but session it answers at once.
        """
        watch = self._managed.get(group)
        if watch is None or freshness.level != "session" or positions is None:
            return self.choose(group, freshness, positions, used_before=used_before)
        if group in positions.dirty:
            await self.settle(positions, (group,))
        choice = self.choose(group, freshness, positions, used_before=used_before)
        position = positions.get(group)
        if choice.role == "replica" or position is None or self._unsure(group, positions):
            return choice
        nearest = watch.nearest_replica()
        if nearest is None or not watch.as_near_as_primary(nearest):
            return choice
        if await self.caught_up(nearest, position, self.settings.catch_up_s):
            return self.choose(group, freshness, positions, used_before=used_before)
        return choice

    async def settle(self, positions: Positions, groups: Iterable[GroupId] | None = None) -> None:
        """Ask the primaries of the dirty groups (of `groups`, or all) for their positions. Raises GroupDown or TooManyWaiting."""
        positions.epoch = max(positions.epoch, self._followed)
        wanted = sorted(positions.dirty if groups is None else positions.dirty.intersection(groups))
        asked: list[GroupId] = []
        for group in wanted:
            if group in self._managed:
                asked.append(group)
            else:
                positions.forget(group)
        found = await asyncio.gather(*map(self.position, asked), return_exceptions=True)
        for group, position in zip(asked, found, strict=True):
            if isinstance(position, BaseException):
                raise position
            positions.settled(group, position)

    async def position(self, group: GroupId) -> Position:
        """The primary's insert position, asked after this call; who asks meanwhile shares the question.

        Raises GroupDown after `failover_wait_s`, or TooManyWaiting.
        """
        deadline = clock.now() + self.settings.failover_wait_s
        while True:
            watch = self._managed.get(group)
            if watch is None:
                return _START
            node = watch.trusted() or await watch.wait_primary(max(deadline - clock.now(), 0.0))
            asked = watch.node(node)
            try:
                async with asyncio.timeout(max(deadline - clock.now(), 0.0)):
                    answer = await asked.fresh() if asked is not None else None
                if answer is not None and answer.claims and watch.trusted() == node:
                    return answer.at
            except TimeoutError:
                raise GroupDown(watch.reason()) from None
            except PgherdError:
                pass
            watch.suspect()
            await asyncio.sleep(_AGAIN_S)

    async def caught_up(self, node: Node, position: Position, wait_s: float) -> bool:
        """Whether the replica `node` has replayed up to `position`, asking it again for `wait_s` at most. Never raises."""
        watch = self._managed.get(node.group)
        asked = watch.node(node) if watch is not None else None
        if asked is None:
            return watch is None
        pause_s = _CATCHING_UP_S
        try:
            async with asyncio.timeout(wait_s):
                while not position.held_by((await asked.fresh()).at):
                    await asyncio.sleep(pause_s)
                    pause_s *= 2
                return True
        except (TimeoutError, PgherdError):
            return False

    async def close(self) -> None:
        """Stop watching. Who waits gets GroupDown; `on_primary` is not called any more."""
        watches, self._managed = list(self._managed.values()), {}
        await asyncio.gather(*(watch.close() for watch in watches), *self._closing)


def _ignore(_group: GroupId, _node: Node | None) -> None:
    pass
