"""How stale a replica is at most: the moments at which the primary was asked, and how far its WAL had come. Pure.

A primary with a lease answers a question sent at moment S with insert position P. Then everything that was acknowledged
before S lies at or before P, so a replica that has replayed P holds all of it, and is stale by at most now - S.
An idle primary keeps answering with the same P, so nobody looks late; a paused replica's moment stands still.
"""

from __future__ import annotations

from pgherd.topology.positions import Position

PAIRS_MAX = 256
NEVER = float("-inf")


class History:
    """The pairs (S, P) of one group's primaries, oldest first. Older ones get sparser: bounds of minutes need no precision."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: list[tuple[float, Position]] = []

    def note(self, sent: float, at: Position) -> None:
        """The answer of a primary with a lease. What contradicts the order (an answer that came late) is left out."""
        pairs = self._pairs
        if pairs:
            last_sent, last = pairs[-1]
            if at < last or sent <= last_sent:
                return
            if at == last:
                pairs.pop()  # the same position, proven for a later moment
        pairs.append((sent, at))
        if len(pairs) > PAIRS_MAX:
            half = PAIRS_MAX // 2
            pairs[:half] = pairs[1:half:2]

    def complete_until(self, replayed: Position) -> float:
        """The latest moment for which a node that has replayed so far certainly holds all that was acknowledged before."""
        for sent, at in reversed(self._pairs):
            if at.held_by(replayed):
                return sent
        return NEVER
