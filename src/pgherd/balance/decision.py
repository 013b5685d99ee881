"""What a round decides: split, move, merge or nothing, each with a code for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pgherd.catalog.model import GroupId, Key, KeyspaceId, ShardId

if TYPE_CHECKING:
    from pgherd.balance.picture import ShardPicture

SplitCode = Literal["too_large", "too_hot", "grows", "to_balance"]
MoveCode = Literal["overloaded", "underused", "drain", "to_merge"]
MergeCode = Literal["small_and_cold"]
NothingCode = Literal[
    "off",  # the keyspace's settings forbid it
    "window",  # outside of the daily window
    "cooling",  # changed a short time ago
    "busy",  # a workflow holds the shard or its group
    "sustain",  # not seen often enough yet
    "hot_key",  # one key takes most of the load
    "hot_end",  # the load is where keys grow
    "thin_sample",  # too few sampled statements to find a point
    "no_sample",  # no keys known at all: the driver should sample rows
    "no_point",  # no key lies inside the shard
    "no_gain",  # no move improves the balance enough
    "no_room",  # no group has room for it
    "shards_max",  # the keyspace has as many shards as it may
    "shards_min",  # the keyspace keeps that many
    "within_limits",
]
Figures = Mapping[str, Any]  # what can be written as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardAction:
    """What every action tells: the shard, its keyspace, and the group where it is."""

    keyspace: KeyspaceId
    shard: ShardId
    group: GroupId
    reason: str
    figures: Figures = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(ShardAction):
    """Cut `shard` in two: at the key `at` (range: the right part begins there), or by doubling its modulus (hash: `at` is None).

    The left part (hash: the old remainder) stays in `group`; the right part, about `right_share` of the load and the bytes,
    goes to `to_group`, which is mostly the same. It costs no more elsewhere: both parts are copied anyway.
    """

    to_group: GroupId
    at: Key | None
    right_share: float
    code: SplitCode
    kind: Literal["split"] = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(ShardAction):
    """Move `shard` from `group` to `to_group`; `bytes` travel."""

    to_group: GroupId
    bytes: int
    code: MoveCode
    kind: Literal["move"] = "move"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(ShardAction):
    """Join two shards of one group: neighbours (`shard` holds the lower keys), or the halves of a modulus (`shard` the lower remainder)."""

    right: ShardId
    code: MergeCode
    kind: Literal["merge"] = "merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Something was called for and is not done, or not yet. About a shard, a group, or (both None) a keyspace or the cluster."""

    code: NothingCode
    reason: str
    keyspace: KeyspaceId | None = None
    shard: ShardId | None = None
    group: GroupId | None = None
    figures: Figures = field(default_factory=dict[str, Any])
    kind: Literal["nothing"] = "nothing"


def left_alone(
    shard: ShardPicture, code: NothingCode, reason: str, figures: Figures | None = None
) -> Nothing:
    """Why a shard is left as it is."""
    return Nothing(
        code=code,
        reason=reason,
        keyspace=shard.keyspace,
        shard=shard.id,
        group=shard.group,
        figures=figures or {},
    )


Action = Split | Move | Merge
Decision = Split | Move | Merge | Nothing
