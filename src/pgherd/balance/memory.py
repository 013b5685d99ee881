"""What one round of decisions hands to the next: how often something was seen, and what has been told already.

An empty memory is always right, only slower: a controller that takes over begins with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgherd.balance.decision import Decision
from pgherd.catalog.model import GroupId, ShardId

Subject = tuple[str, int]  # ("shard", 7), ("group", 3), ("cluster", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """A group that is out of bounds and for which nothing could be done: its peak then, and how many shards it held."""

    peak: float
    shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Consecutive pictures in which a shard was `over` a limit, a pair was `cold`, a group was `uneven`; and what was `told`.

    `spreading`: balancing is under way; `rest`: groups that it has given up for now.
    """

    over: Mapping[ShardId, int] = field(default_factory=dict[ShardId, int])
    cold: Mapping[tuple[ShardId, ShardId], int] = field(default_factory=dict[tuple[ShardId, ShardId], int])
    uneven: Mapping[GroupId, int] = field(default_factory=dict[GroupId, int])
    spreading: bool = False
    rest: Mapping[GroupId, Rest] = field(default_factory=dict[GroupId, Rest])
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
