"""Which errors pass by themselves, and how long a workflow waits before it tries again. The one place that says so. Pure.

A lost connection, server or primary is waited for however long it takes: taking a workflow back needs the same servers. Somebody
who is in the way is waited for within a bound. Everything else is final: it would be the same the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from pgherd.errors import PgherdError, ServerError
from pgherd.transaction.perform import is_lost

PAUSE_S, PAUSE_MAX_S = 0.2, 10.0
TRIES = 20  # for what is in the way, at one place: about two and a half minutes

# 25006: a primary that has become a standby. Class 40: deadlocks, lost races. 55: locks, objects in use, a server in recovery. 57: cancelled.
# 58: the system below. XX000: a definition was changed at the same moment ("tuple concurrently updated").
_STANDBY = "25006"
_BUSY = ("40", "53", "55", "57", "58", "XX000")
_FULL = "53100"  # a disk: the workflow must not stay on it

# Somebody holds a lock, or was quicker: what makes a cutover try again with a fresh transaction.
HINDERED = frozenset({"55P03", "57014", "40P01", "40001"})


class Fate(Enum):
    """What becomes of what was tried: `LOST` and `BUSY` pass, `FINAL` does not."""

    LOST = "lost"
    BUSY = "busy"
    FINAL = "final"


def fate(error: BaseException) -> Fate:
    """Whether, and how, an error passes. What the steps raise on purpose (a copy that differs, a table that changed) is theirs to judge."""
    if is_lost(error):  # an unknown outcome as well: each step looks what there is, and may be repeated
        return Fate.LOST
    if isinstance(error, ServerError):
        if error.code == _STANDBY:
            return Fate.LOST
        return Fate.BUSY if error.code.startswith(_BUSY) and error.code != _FULL else Fate.FINAL
    return Fate.BUSY if isinstance(error, PgherdError) and error.retry else Fate.FINAL


class Patience:
    """How often a workflow was hindered at one place in a row. `chance` spreads the pauses, so that two do not hinder each other for ever."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._place = ""
        self._lost = self._busy = 0

    def pause_s(self, place: str, error: BaseException) -> float:
        """Seconds to wait before the next try at `place`."""
        if place != self._place:
            self._place, self._lost, self._busy = place, 0, 0
        tries = self._lost + self._busy
        if fate(error) is Fate.LOST:
            self._lost += 1
        else:
            self._busy += 1
        return min(PAUSE_MAX_S, PAUSE_S * 2.0 ** min(tries, 10)) * (0.5 + self._chance() / 2)

    def has(self, error: BaseException) -> bool:
        """Whether to try again after `error`, which `pause_s` was told."""
        found = fate(error)
        return found is Fate.LOST or (found is Fate.BUSY and self._busy < TRIES)
