"""Announced pauses of one group: from when to when new statements wait, and what ends a pause early. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pgherd.topology.views import Answer


@dataclass(frozen=True, slots=True)
class Pause:
    """From `start` to `end`, on the asker's clock; announced by the primary of `timeline`."""

    start: float
    end: float
    timeline: int


class Pauses:
    """What the trusted primary says about pauses. A pause ends at its end, when it is taken back, or with the timeline."""

    __slots__ = ("_deaf", "_pause")

    def __init__(self) -> None:
        self._pause: Pause | None = None
        self._deaf = False  # pauses that had begun before this timeline's first answer are over

    def heard(self, answer: Answer) -> None:
        """An answer of the trusted primary (the same one again changes nothing)."""
        known = self._pause
        if known is not None and answer.timeline > known.timeline:
            # The switchover that the pause was for has happened. Its announcement was replicated, so the new
            # primary repeats it: nothing that had begun by now counts, until something else is said.
            self._pause = known = None
            self._deaf = True
        pause = _read(answer)
        if pause is not None and self._deaf and (answer.paused_in_ms or 0) <= 0:
            return
        self._deaf = False
        if pause is None or known is None:
            self._pause = pause
            return
        # The same announcement seen again: the earliest start and the latest end that fit all answers
        same = pause.start <= known.end
        self._pause = Pause(min(pause.start, known.start), pause.end, pause.timeline) if same else pause

    def paused(self, now: float) -> bool:
        pause = self._pause
        return pause is not None and pause.start <= now < pause.end

    def announced(self, now: float) -> bool:
        """A pause is under way or will begin."""
        return self._pause is not None and now < self._pause.end

    def turns(self, now: float) -> list[float]:
        """The next moments at which `paused` changes."""
        if self._pause is None:
            return []
        return [moment for moment in (self._pause.start, self._pause.end) if moment > now]


def _read(answer: Answer) -> Pause | None:
    """The earliest start and the latest end that the answer allows: it was true at some moment of its round trip."""
    if answer.paused_in_ms is None or answer.paused_for_ms is None:
        return None
    start = answer.sent + answer.paused_in_ms / 1000
    end = start + answer.rtt_s + answer.paused_for_ms / 1000
    return Pause(start, end, answer.timeline)
