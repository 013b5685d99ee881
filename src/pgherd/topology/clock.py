"""The clock by which leases are judged: monotonic, and counting the time that this machine slept."""

from __future__ import annotations

import time

_KIND = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some fixed moment. Not asyncio's `loop.time()`, which may stand still while the machine sleeps."""
    return time.clock_gettime(_KIND)
