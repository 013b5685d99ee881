"""What is known of a group's nodes: the answers that they gave, and when they were asked. Pure.

All times are seconds of the asker's own monotonic clock. Whatever an answer says was true at some moment after the question was
sent, so every conclusion counts from `sent`: a slow answer makes it weaker, never wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pgherd.catalog.model import Node
from pgherd.topology.positions import Position

STATE_SQL = (
    "SELECT in_recovery, timeline, position, lease_ms, epoch, paused_in_ms, paused_for_ms, streaming"
    " FROM pgherd.node_state()"
)
_SMOOTHING = 0.2
_SPIKE_S = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of pgherd.node_state(). `sent` is the moment before the question, `rtt_s` how long the answer took."""

    sent: float
    rtt_s: float
    in_recovery: bool
    timeline: int
    position: int  # WAL bytes: inserted by a primary, replayed by a standby
    lease_ms: int | None  # None: the node has no lease file
    epoch: int = 0
    paused_in_ms: int | None = None
    paused_for_ms: int | None = None
    streaming: bool = False

    @property
    def at(self) -> Position:
        return Position(self.timeline, self.position)

    @property
    def claims(self) -> bool:
        """The node took writes and had a lease when it answered."""
        return not self.in_recovery and self.lease_ms is not None and self.lease_ms > 0

    @property
    def trust_ends(self) -> float:
        """The first moment at which this answer proves nothing any more."""
        return self.sent + (self.lease_ms or 0) / 1000 if self.claims else self.sent


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node, its newest answer, and what went wrong since (None: nothing). `rtt_s` is smoothed, 0 before the first answer.

    `refused`: no connection could be made, so that nobody else's can be of use either; a question that was only
    not answered in time proves nothing.
    """

    node: Node
    answer: Answer | None = None
    error: str | None = None
    refused: bool = False
    rtt_s: float = 0.0

    def answered(self, answer: Answer) -> NodeView:
        """With a new answer. An answer to an older question than the one known changes nothing."""
        if self.answer is not None and answer.sent < self.answer.sent:
            return self
        rtt = answer.rtt_s if self.answer is None else smoothed(self.rtt_s, answer.rtt_s)
        return replace(self, answer=answer, error=None, refused=False, rtt_s=rtt)

    def failed(self, error: str, *, refused: bool) -> NodeView:
        return replace(self, error=error, refused=refused)


def smoothed(known_s: float, measured_s: float) -> float:
    """A moving average in which one spike counts little: of what is measured, at most twice what is known."""
    return known_s + _SMOOTHING * (min(measured_s, 2 * known_s + _SPIKE_S) - known_s)


def read_answer(row: Sequence[str | None], sent: float, rtt_s: float) -> Answer:
    """The row of STATE_SQL, in text form."""
    in_recovery, timeline, position, lease, epoch, paused_in, paused_for, streaming = row
    return Answer(
        sent=sent,
        rtt_s=rtt_s,
        in_recovery=in_recovery == "t",
        timeline=int(timeline or 0),
        position=int(position or 0),
        lease_ms=None if lease is None else int(lease),
        epoch=int(epoch or 0),
        paused_in_ms=None if paused_in is None else int(paused_in),
        paused_for_ms=None if paused_for is None else int(paused_for),
        streaming=streaming == "t",
    )
