"""How much a run does: sizes and times, full or quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """`rounds` turns for each contestant, each of `seconds`; `clients` connections (or tasks).

    `points`: rows for point reads and updates. `rows`: rows of each table that is read as a whole, and of a COPY.
    `copy_rounds`: turns of a COPY. `accounts`: rows for transfers. `idle`: idle connections of the memory item.
    `faults`: how often each kind of failover is gone through.
    """

    rounds: int = 5
    seconds: float = 3.0
    clients: int = 8
    points: int = 100_000
    rows: int = 1_000_000
    copy_rounds: int = 3
    accounts: int = 10_000
    idle: int = 1_000
    faults: int = 4
    durable: bool = True  # a commit is on the disk


FULL = Effort()
QUICK = Effort(
    rounds=1,
    seconds=0.3,
    points=2_000,
    rows=10_000,
    copy_rounds=1,
    accounts=400,
    idle=50,
    faults=1,
    durable=False,
)  # seconds in all, figures mean nothing
