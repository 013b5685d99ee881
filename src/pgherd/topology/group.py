"""One managed group: whom to trust until when, what is paused, and who waits for the primary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

from pgherd.catalog.model import Group, GroupId, Node
from pgherd.errors import GroupDown, TooManyWaiting
from pgherd.topology import clock
from pgherd.topology.choose import (
    Candidate,
    Choice,
    Place,
    Trust,
    candidates,
    choose,
    trusted_primary,
)
from pgherd.topology.freshness import Freshness
from pgherd.topology.history import History
from pgherd.topology.node import Ask, NodeWatch, WatchSettings
from pgherd.topology.pause import Pauses
from pgherd.topology.positions import Position
from pgherd.topology.views import Answer, NodeView

log = logging.getLogger("pgherd.topology")
_SUSPECT_S = 2.0  # after a suspicion, questions are quick so long
_READS_S = 10.0  # so long after a replica read, replicas are asked as often as that read needs
_PATIENCE_S = 60.0  # a group without a primary is asked quickly so long, then less often
_TIMER_S = 0.001  # timers may fire a little early

OnPrimary = Callable[[GroupId, Node | None], None]


class GroupWatch:
    """See the module. `told(group, node)` hears of every change of `serving`; `on_answer(epoch)` of every answer."""

    def __init__(
        self,
        group: Group,
        ask: Ask,
        place: Place,
        settings: WatchSettings,
        on_primary: OnPrimary,
        on_epoch: Callable[[int], None],
        epoch: int,
    ) -> None:
        self.group = group
        self.trust = Trust(None, 0.0)
        self._ask = ask
        self._place = place
        self._settings = settings
        self._on_primary = on_primary
        self._on_epoch = on_epoch
        self._nodes: dict[int, NodeWatch] = {}
        self._history = History()
        self._pauses = Pauses()
        self._candidates: tuple[Candidate, ...] = ()
        self._used: int | None = None
        self._serving: tuple[Node, int] | None = None  # the node that was announced, and its timeline
        self._without_since = clock.now()
        self._quick_until = 0.0
        self._reads_until = 0.0
        self._bound_s = float("inf")  # the smallest bound that somebody reads with
        self._bound_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[Node]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._conflict: tuple[Node, ...] = ()
        self._epoch = epoch
        self.follow(group, epoch)

    # ---- what is known ---------------------------------------------------------------------------------

    @property
    def views(self) -> tuple[NodeView, ...]:
        return tuple(watch.view for watch in self._nodes.values())

    def trusted(self) -> Node | None:
        """The trusted primary of this moment, paused or not."""
        trust = self.trust
        return trust.view.node if trust.view is not None and clock.now() < trust.until else None

    def primary(self) -> Node | None:
        """The node that new statements may be sent to at this moment."""
        now = clock.now()
        trust = self.trust
        if trust.view is None or now >= trust.until or self._pauses.paused(now):
            return None
        return trust.view.node

    def node(self, node: Node) -> NodeWatch | None:
        """Who watches `node`, if it still belongs to the group."""
        return self._nodes.get(node.id)

    def choose(self, freshness: Freshness, position: Position | None, used_before: int | None) -> Choice:
        """The node for a read. `used_before`: the id of the node last used by whoever asks, None: by anybody."""
        now = clock.now()
        if freshness.level != "strong":
            self._read(freshness, now)
        found = self._candidates
        if self._pauses.paused(now):
            found = tuple(candidate for candidate in found if candidate.role == "replica")
        choice = choose(found, freshness, position, self._used if used_before is None else used_before, now)
        if choice.node is not None and freshness.level != "strong" and choice.qualified > 1:
            self._used = choice.node.id
        return choice

    def nearest_replica(self) -> Node | None:
        """The replica that would answer if all were fresh enough."""
        replicas = [candidate for candidate in self._candidates if candidate.role == "replica"]
        return choose(replicas, Freshness("eventual"), None, self._used, clock.now()).node

    def as_near_as_primary(self, node: Node) -> bool:
        """Whether no longer way leads to `node` than to the primary, by zone and region."""
        primary = next((found for found in self._candidates if found.role == "primary"), None)
        return primary is None or self._place.distance(node) <= primary.distance

    def _read(self, freshness: Freshness, now: float) -> None:
        """Somebody reads so: ask often enough for it."""
        if now >= self._reads_until:
            for watch in self._nodes.values():
                watch.poke()
        self._reads_until = now + _READS_S
        if freshness.level == "bounded" and (freshness.bound_s <= self._bound_s or now >= self._bound_until):
            self._bound_s = freshness.bound_s
            self._bound_until = now + _READS_S

    # ---- changes ---------------------------------------------------------------------------------------

    def follow(self, group: Group, epoch: int) -> None:
        """Watch the nodes of `group` as it is in the map of this epoch."""
        self.group = group
        if epoch > self._epoch:
            self._epoch = epoch
            for watch in self._nodes.values():
                watch.poke()  # replicas have to show that they know it, too
        wanted = {node.id: node for node in group.nodes}
        for key, watch in list(self._nodes.items()):
            if wanted.get(key) != watch.node:
                self._retire(self._nodes.pop(key))
        for key, node in wanted.items():
            if key not in self._nodes:
                self._nodes[key] = NodeWatch(
                    node, self._ask, self._settings, pace=self._pace, told=self._heard
                )
        self._judge()

    def suspect(self) -> None:
        """Something happened that a failover would explain: look at once, and for a while often."""
        self._quick_until = clock.now() + _SUSPECT_S
        for watch in self._nodes.values():
            watch.poke()

    async def close(self) -> None:
        """Stop watching; who waits gets GroupDown."""
        if self._timer is not None:
            self._timer.cancel()
        for watch in self._nodes.values():
            self._retire(watch)
        self._nodes.clear()
        for future in self._waiters:
            if not future.done():
                future.set_exception(GroupDown(f"group {self.group.id} is no longer watched"))
        self._waiters.clear()
        await asyncio.gather(*self._closing)

    def _retire(self, watch: NodeWatch) -> None:
        task = asyncio.create_task(watch.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _heard(self, watch: NodeWatch) -> None:
        if self._nodes.get(watch.node.id) is not watch:
            return  # its last word, after it left the group
        self._judge()
        view = watch.view
        if view.answer is not None and view.error is None:
            self._on_epoch(view.answer.epoch)

    def _judge(self) -> None:
        """Draw the conclusions from all views, now; and again when the next of them ends by itself."""
        now = clock.now()
        self.trust = trusted_primary(self.views, now)
        self._report_conflict()
        if self.trust.view is not None and self.trust.view.answer is not None:
            self._pauses.heard(self.trust.view.answer)
            self._note(self.trust.view.answer)
        self._candidates = candidates(self.views, self.trust, self._history, self._place, self._epoch)
        self._announce(now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ends = [self.trust.until] if self.trust.view is not None else []
        ends += self._pauses.turns(now)
        if ends:
            delay = max(min(ends) - now, 0) + _TIMER_S
            self._timer = asyncio.get_running_loop().call_later(delay, self._judge)

    def _note(self, answer: Answer) -> None:
        """A primary whose map is newer than ours may have given a shard away, whose newest rows its own replicas never get."""
        if answer.epoch <= self._epoch:
            self._history.note(answer.sent, answer.at)

    def _report_conflict(self) -> None:
        if self.trust.conflict and self.trust.conflict != self._conflict:
            names = ", ".join(_name(node) for node in self.trust.conflict)
            log.error("group %s: %s hold a lease on the same timeline; none is trusted", self.group.id, names)
        self._conflict = self.trust.conflict

    def _announce(self, now: float) -> None:
        view = self.trust.view
        serving = None
        if view is not None and view.answer is not None and not self._pauses.paused(now):
            serving = (view.node, view.answer.timeline)
        before, self._serving = self._serving, serving
        if serving == before:
            return
        if serving is None:
            self._without_since = now
            log.info("group %s: %s", self.group.id, self.reason())
            self._tell(None)
            return
        log.info("group %s: %s is the primary, timeline %s", self.group.id, _name(serving[0]), serving[1])
        if (
            before is not None
        ):  # let go of the old one first, also if the same node came back with a new timeline
            self._tell(None)
        self._tell(serving[0])
        self._release(serving[0])

    def _tell(self, node: Node | None) -> None:
        try:
            self._on_primary(self.group.id, node)
        except Exception:
            log.exception("group %s: on_primary failed", self.group.id)

    # ---- waiting ---------------------------------------------------------------------------------------

    async def wait_primary(self, wait_s: float) -> Node:
        """Raises GroupDown after `wait_s`, TooManyWaiting at once."""
        node = self.primary()
        if node is not None:
            return node
        if len(self._waiters) >= self._settings.waiters_max:
            raise TooManyWaiting(
                f"{len(self._waiters)} statements wait for the primary of group {self.group.id}"
            )
        future: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        try:
            async with asyncio.timeout(wait_s):
                return await future
        except TimeoutError:
            raise GroupDown(
                self.reason(), hint="Writes go on when a primary is there; see pgherd status."
            ) from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(future)

    def _release(self, node: Node) -> None:
        waiters, self._waiters = self._waiters, deque()
        for future in waiters:
            if not future.done():
                future.set_result(node)

    def reason(self) -> str:
        """Why the group has no primary to send to, in one sentence."""
        now = clock.now()
        if self.trusted() is not None and self._pauses.paused(now):
            return f"group {self.group.id} is paused for a switchover"
        since = now - self._without_since
        known = "; ".join(f"{_name(view.node)}: {_condition(view)}" for view in self.views)
        return f"group {self.group.id} has no primary since {since:.0f} s ({known or 'it has no nodes'})"

    # ---- how often to ask ------------------------------------------------------------------------------

    def _pace(self, watch: NodeWatch) -> float:
        now = clock.now()
        settings = self._settings
        if self._serving is None:
            patient = now - self._without_since > _PATIENCE_S
            return settings.calm_s / 2 if patient else settings.quick_s
        if now < self._quick_until or self._pauses.announced(now):
            return settings.quick_s
        needed = self._bound_s / 4 if now < self._bound_until else settings.calm_s
        if watch.view is self.trust.view:  # often enough that one lost answer does not end the trust
            needed = min(needed, settings.calm_s, (self.trust.until - now) / 3)
            return max(needed, settings.quick_s / 2)
        if now >= self._reads_until:
            return settings.idle_replica_s
        return max(min(needed, settings.calm_s), settings.quick_s / 2)


def _name(node: Node) -> str:
    return f"{node.name or f'node {node.id}'} ({node.host}:{node.port})"


def _condition(view: NodeView) -> str:
    if view.error is not None:
        return view.error
    if view.answer is None:
        return "not asked yet"
    if view.answer.in_recovery:
        return "a standby"
    return "a primary without a valid lease"
