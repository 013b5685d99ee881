"""What one round of decisions hands to the next: how often something was seen, and what has been told already.

An empty memory is always right, only slower: a controller that takes over begins with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgherd.balance.decision import Decision
from pgherd.catalog.model import ShardId

Subject = tuple[str, int]  # ("shard", 7), ("group", 3), ("cluster", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Balancing came to its end without being even: the highest and lowest peak then, and the groups and shards that there were.

    It begins again when one of them has become clearly worse, or the groups or shards are others.
    """

    high: float
    low: float
    shape: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Consecutive pictures in which a shard was `over` a limit, a pair was `cold`, the groups were `uneven`; and what was `told`."""

    over: Mapping[ShardId, int] = field(default_factory=dict[ShardId, int])
    cold: Mapping[tuple[ShardId, ShardId], int] = field(default_factory=dict[tuple[ShardId, ShardId], int])
    uneven: int = 0
    spreading: bool = False
    rest: Rest | None = None
    told: Mapping[Subject, str] = field(default_factory=dict[Subject, str])
    rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: what to do, what was called for and is not done, which of all that is new (for the log), and the next memory.

    `high` and `low` are the highest and lowest peak among the groups, `spreading` whether balancing is under way.
    """

    actions: tuple[Decision, ...]
    nothings: tuple[Decision, ...]
    news: tuple[Decision, ...]
    memory: Memory
    high: float
    low: float


def subject(decision: Decision) -> Subject:
    """What a decision is about."""
    if decision.shard is not None:
        return "shard", decision.shard
    if decision.group is not None:
        return "group", decision.group
    return "keyspace" if decision.keyspace is not None else "cluster", decision.keyspace or 0
