"""How fast a workflow may copy, and when it has to end: decided from what its servers say. Pure.

A copy can be slowed down for the sake of standbys and sessions that wait. It is of no use against log that a slot holds back: a slower copy
holds it for longer. Against that there is only an end in time, which is the sooner the less room the disk has.
"""

from __future__ import annotations

from dataclasses import dataclass

CALM_LAG_BYTES, FULL_LAG_BYTES = 16 << 20, 256 << 20
CALM_WAITING, FULL_WAITING = 4, 32
SLOWEST = 0.05
PAUSE_MAX_S = 2.0  # at once; the next piece is looked at anew
ROOM_PART = 0.5  # of what is free (with what the slot holds) may a slot take


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A server at a moment. `lag_bytes`: log that its slowest streaming standby has yet to flush; `waiting`: sessions that wait for
    locks inside the server, disk or standbys."""

    lag_bytes: int = 0
    waiting: int = 0


def speed(loads: tuple[Load, ...]) -> float:
    """The part of full speed at which a copy between such servers may run, from `SLOWEST` to 1: the most loaded one decides."""
    worst = 0.0
    for load in loads:
        worst = max(
            worst,
            (load.lag_bytes - CALM_LAG_BYTES) / (FULL_LAG_BYTES - CALM_LAG_BYTES),
            (load.waiting - CALM_WAITING) / (FULL_WAITING - CALM_WAITING),
        )
    return max(SLOWEST, 1.0 - worst)


def pause_s(part: float, spent_s: float) -> float:
    """How long to rest after `spent_s` of work at full speed, so that on average only the `part` of it is used."""
    return min(PAUSE_MAX_S, spent_s * (1.0 / part - 1.0))


def held_max(limit_bytes: int, held_bytes: int, free_bytes: int | None) -> int:
    """Bytes of log that a slot may hold back: the limit, or half of the room there would be without it."""
    if free_bytes is None:
        return limit_bytes
    return min(limit_bytes, int((free_bytes + held_bytes) * ROOM_PART))
