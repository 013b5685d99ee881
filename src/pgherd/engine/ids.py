"""Cluster-unique, time-ordered ids: what `pgherd.next_id()` gives on the servers, made in gateway and client.

64 bits: 41 of milliseconds since 2024-01-01 UTC, 11 of origin, 11 of counter. See docs/design/001-first-shape.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from pgherd.errors import BadSetting

EPOCH_MS: Final = 1_704_067_200_000  # 2024-01-01T00:00:00Z in milliseconds since 1970
ORIGIN_BITS: Final = 11
COUNTER_BITS: Final = 11
ORIGINS: Final = 1 << ORIGIN_BITS
_COUNTERS: Final = 1 << COUNTER_BITS


def wall_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class IdSource:
    """Makes ids that only grow. Two sources never make the same id while their origins differ.

    If 2,048 ids of a millisecond are used up, or the clock steps back, ids are borrowed from the milliseconds to come.
    """

    __slots__ = ("_last", "_lock", "_now_ms", "_origin")

    def __init__(self, origin: int, now_ms: Callable[[], int] = wall_ms) -> None:
        if not 0 <= origin < ORIGINS:
            raise BadSetting(f"origin {origin} is not in 0..{ORIGINS - 1}")
        self._origin = origin << COUNTER_BITS
        self._now_ms = now_ms
        self._last = 0  # milliseconds * 2048 + counter: counting on carries into the next millisecond
        self._lock = threading.Lock()

    def next(self) -> int:
        """The next id: positive, greater than all before."""
        with self._lock:
            now = (self._now_ms() - EPOCH_MS) << COUNTER_BITS
            last = self._last = max(now, self._last + 1)
        ms, counter = divmod(last, _COUNTERS)
        return ms << ORIGIN_BITS + COUNTER_BITS | self._origin | counter


def origin_of(number: int) -> int:
    """The origin that made an id."""
    return number >> COUNTER_BITS & ORIGINS - 1


def made_at_ms(number: int) -> int:
    """When an id was made, in milliseconds since 1970 UTC."""
    return (number >> ORIGIN_BITS + COUNTER_BITS) + EPOCH_MS
