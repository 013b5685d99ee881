"""Who is a group's primary, which nodes may answer a read, and which of those is nearest. Pure; no clock: `now` is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pgherd.catalog.model import Node
from pgherd.topology.freshness import STRONG, Freshness
from pgherd.topology.history import NEVER, History
from pgherd.topology.positions import Position
from pgherd.topology.views import NodeView

Role = Literal["primary", "replica"]
SILENT_S = 3.0  # a replica's answer counts so long: it may have been replaced or crashed since
_NEARER, _NEARER_S = 0.2, 0.0005  # so much nearer must another node be to be taken instead
_BACK, _BACK_S = 0.05, 0.00025  # so much farther than the primary may a replica be to be taken back
_PLACES = ("same zone", "same region", "another region")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where whoever asks is. Empty: not known, then only the round trip counts."""

    region: str = ""
    zone: str = ""

    def distance(self, node: Node) -> int:
        """0: the same zone, 1: the same region, 2: elsewhere, or not known."""
        if not self.region or self.region != node.region:
            return 0 if not self.region and self.zone and self.zone == node.zone else 2
        return 0 if self.zone and self.zone == node.zone else 1


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted primary (None: nobody), and until when at most. `conflict` names nodes whose claims exclude each other."""

    view: NodeView | None
    until: float
    conflict: tuple[Node, ...] = ()


def trusted_primary(views: Sequence[NodeView], now: float) -> Trust:
    """The node that certainly takes this group's writes at `now`, by the answers so far.

    It holds a lease that nobody can have taken over, no node of a higher timeline ever claimed one, and it lets
    itself be connected to. Two valid leases on one timeline cannot be: then nobody is trusted.
    """
    claims = [view for view in views if view.answer is not None and view.answer.claims]
    top = max((view.answer.timeline for view in claims if view.answer), default=0)
    valid = [
        view
        for view in claims
        if view.answer and view.answer.timeline == top and now < view.answer.trust_ends
    ]
    if len(valid) > 1:
        return Trust(None, now, tuple(view.node for view in valid))
    if not valid or valid[0].refused or valid[0].answer is None:
        return Trust(None, now)
    return Trust(valid[0], valid[0].answer.trust_ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node that may answer reads. `complete_until`: everything acknowledged before that moment is there.

    `usable_until`: then a primary's lease ends, or a replica's answer is too old to be relied on.
    """

    node: Node
    role: Role
    distance: int
    rtt_s: float
    at: Position
    complete_until: float
    usable_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The node for a read; None: nobody qualifies now, so wait for the primary (`watch.Watch.wait_primary`).

    `staleness_s`: what the node lacks was acknowledged at most so long before the choice; 0 for the primary, None if nothing is known.
    """

    node: Node | None
    role: Role
    freshness: Freshness = STRONG
    staleness_s: float | None = 0.0
    qualified: int = 0
    distance: int = 2
    rtt_s: float = 0.0
    only: bool = False  # the group has no other node

    @property
    def why(self) -> str:
        """The reason, in one sentence."""
        if self.only:
            return "the group's only node"
        if self.node is None:
            return f"no node qualifies for {self.freshness} now: wait for the primary"
        if self.freshness.level == "strong":
            return "strong reads need the primary"
        if self.role == "primary" and self.qualified == 1:
            return f"the primary: no replica qualifies for {self.freshness}"
        return f"nearest of {self.qualified} that qualify{self._details()}"

    def told(self, *, reads: bool) -> str:
        """The node and the reason, for people. `reads`: the statement is one that a replica may answer."""
        node = self.node
        if node is None:
            return self.why
        why = self.why if reads else "writes and what may do more than read need the primary"
        return f"{node.name or node.id} ({self.role}, {node.host}:{node.port}), {why}"

    def _details(self) -> str:
        assert self.node is not None
        zone = f"zone {self.node.zone}" if self.node.zone and self.distance == 0 else _PLACES[self.distance]
        if not self.node.region and self.distance == len(_PLACES) - 1:
            zone = "no region set"
        where = f": {zone}, {self.rtt_s * 1000:.1f} ms"
        if self.role == "primary":
            return where + "; the primary itself"
        if self.staleness_s is None:
            return where + "; how far behind is not known"
        return where + f"; {self.staleness_s:.1f} s behind at most"


def candidates(
    views: Sequence[NodeView], trust: Trust, history: History, place: Place, epoch: int = 0
) -> tuple[Candidate, ...]:
    """All nodes that answered when last asked; the primary only while it is trusted.

    `epoch`: of the map by which statements are planned. A replica that has not replayed its change may hold the shard's table
    under the same name still or already as a foreign one, so it does not answer; a primary would tell.
    """
    primary = trust.view
    timeline = primary.answer.timeline if primary is not None and primary.answer is not None else 0
    return tuple(
        _candidate(view, trust, timeline, history, place)
        for view in views
        if view is primary or _stands_by(view, epoch)
    )


def _stands_by(view: NodeView, epoch: int) -> bool:
    answer = view.answer
    return answer is not None and view.error is None and answer.in_recovery and answer.epoch >= epoch


def _candidate(view: NodeView, trust: Trust, timeline: int, history: History, place: Place) -> Candidate:
    answer = view.answer
    assert answer is not None
    leads = view is trust.view
    # A standby of an older timeline may have branched off: what it holds proves nothing about the new one.
    known = answer.timeline >= timeline
    at = answer.at if known else Position(0, 0)
    return Candidate(
        node=view.node,
        role="primary" if leads else "replica",
        distance=place.distance(view.node),
        rtt_s=view.rtt_s,
        at=at,
        complete_until=history.complete_until(at) if known else NEVER,
        usable_until=trust.until if leads else answer.sent + SILENT_S,
    )


def staleness(candidate: Candidate, now: float) -> float | None:
    """How long ago, at most, anything was acknowledged that the candidate lacks, in seconds; None: not known."""
    if candidate.role == "primary":
        return 0.0
    return None if candidate.complete_until == NEVER else now - candidate.complete_until


def qualifies(candidate: Candidate, freshness: Freshness, position: Position | None, now: float) -> bool:
    """Whether a read so fresh may go there now. `position`: what the session has seen (level session only)."""
    if now >= candidate.usable_until:
        return False
    if candidate.role == "primary" or freshness.level == "eventual":
        return True
    if freshness.level == "session":
        return position is None or position.held_by(candidate.at)
    return freshness.level == "bounded" and now - candidate.complete_until <= freshness.bound_s


def choose(
    found: Sequence[Candidate],
    freshness: Freshness,
    position: Position | None,
    used_before: int | None,
    now: float,
) -> Choice:
    """The nearest that qualifies: by zone, region, then round trip. Among those equally near a replica, to spare the primary.

    `used_before` (a node's id) is taken again unless another is clearly nearer, so that noise changes nothing.
    """
    fit = [candidate for candidate in found if qualifies(candidate, freshness, position, now)]
    if not fit:
        return Choice(node=None, role="primary", freshness=freshness, staleness_s=None)
    chosen = fit[0] if len(fit) == 1 else _nearest(fit, used_before)
    return Choice(
        node=chosen.node,
        role=chosen.role,
        freshness=freshness,
        staleness_s=staleness(chosen, now),
        qualified=len(fit),
        distance=chosen.distance,
        rtt_s=chosen.rtt_s,
    )


def _nearest(fit: Sequence[Candidate], used_before: int | None) -> Candidate:
    distance = min(candidate.distance for candidate in fit)
    there = [candidate for candidate in fit if candidate.distance == distance]
    best = min(there, key=_round_trip)
    near = [candidate for candidate in there if not _nearer(best.rtt_s, candidate.rtt_s)]
    used = next((candidate for candidate in near if candidate.node.id == used_before), None)
    if used is not None and used.role == "replica":
        return used
    replicas = [candidate for candidate in near if candidate.role == "replica"]
    if (
        used is not None
    ):  # the primary, though replicas may be as near: more doubt is needed to leave it than to stay away
        replicas = [
            candidate for candidate in replicas if not _nearer(used.rtt_s, candidate.rtt_s, _BACK, _BACK_S)
        ]
    return min(replicas, key=_round_trip, default=used or best)


def _round_trip(candidate: Candidate) -> float:
    return candidate.rtt_s


def _nearer(this_s: float, than_s: float, share: float = _NEARER, least_s: float = _NEARER_S) -> bool:
    return this_s < than_s * (1 - share) and than_s - this_s > least_s
