"""What a table's change of kind is to lead to: the layout of its shards, and whether it has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pgherd.catalog.ddl.rules import NewShard, Placement, new_keyspace, place
from pgherd.catalog.model import ClusterMap, GroupId, ShardId
from pgherd.catalog.text import identifier, literal, qualified
from pgherd.reshard.model import Piece

KINDS: Final = ("distribute", "undistribute")
STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "distribute": ("prepare", "adopt", "spread", "join"),
    "undistribute": ("part", "gather", "release"),
}
PHASES: Final[Mapping[str, str]] = {
    "prepare": "checking every row's key",
    "adopt": "making the table its own only shard",
    "spread": "spreading it over the groups",
    "join": "joining the tables of the same key",
    "part": "parting from the tables of the same key",
    "gather": "gathering it in group 0",
    "release": "making the only shard a single table",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for. `by` and `key` are empty for undistribute."""

    schema: str
    name: str
    by: str = ""
    key: tuple[str, ...] = ()
    shards: int | None = None

    @classmethod
    def read(cls, memory: Mapping[str, Any]) -> Order:
        """From a workflow's memory."""
        schema, name = memory["table"]
        return cls(
            schema=schema,
            name=name,
            by=memory.get("by", ""),
            key=tuple(memory.get("key", ())),
            shards=memory.get("shards"),
        )

    @property
    def both(self) -> str:
        """Schema and name as two SQL literals."""
        return f"{literal(self.schema)}, {literal(self.name)}"

    @property
    def full_name(self) -> str:
        return qualified(self.schema, self.name)

    @property
    def partition(self) -> str:
        """As PARTITION BY has it."""
        return f"{self.by.upper()} ({', '.join(map(identifier, self.key))})"

    @property
    def bound(self) -> str:
        """Of a part that takes every row."""
        if self.by == "hash":
            return "FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        ends = (", ".join([word] * len(self.key)) for word in ("MINVALUE", "MAXVALUE"))
        return "FOR VALUES FROM ({}) TO ({})".format(*ends)


def whole(strategy: str) -> NewShard:
    """The shard, in group 0, that takes every row."""
    return (
        NewShard(group=GroupId(0))
        if strategy == "range"
        else NewShard(group=GroupId(0), modulus=1, remainder=0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`first`: the keyspace with one shard in group 0. `joins`: the keyspace that the table joins in the end; else `layout` is what it gets."""

    first: Placement
    joins: str | None
    layout: tuple[Piece, ...]


def goal(cluster: ClusterMap, shape: dict[str, Any], groups: Sequence[GroupId], count: int | None) -> Goal:
    """Where a table of this shape (pgherd.inspect()'s answer, with strategy and key) is to lie."""
    found = place(cluster, shape, groups)
    alone = new_keyspace(cluster, shape["name"], found.strategy, found.key, found.key_types, groups, count)
    joins = None if found.shards or count is not None else found.keyspace
    return Goal(
        first=replace(alone, shards=(whole(found.strategy),)),
        joins=joins,
        layout=pieces(alone) if joins is None else (),
    )


def pieces(placement: Placement) -> tuple[Piece, ...]:
    """The shards of a placement, without numbers."""
    return tuple(
        Piece(
            id=ShardId(0), keyspace=placement.keyspace, strategy=placement.strategy, group=shard.group,
            range_start=shard.start, range_end=shard.end, modulus=shard.modulus, remainder=shard.remainder,
        )
        for shard in placement.shards
    )  # fmt: skip


Place = tuple[Any, ...]


def place_of(piece: Piece) -> Place:
    """Bounds and group: what two layouts must have in common."""
    return (piece.range_start, piece.range_end, piece.modulus, piece.remainder, int(piece.group))


def same(have: Sequence[Piece], wanted: Sequence[Piece]) -> bool:
    """Whether the shards lie as they should."""
    return sorted(map(repr, map(place_of, have))) == sorted(map(repr, map(place_of, wanted)))


def pairs(have: Sequence[Piece], wanted: Sequence[Piece]) -> list[tuple[int, int]]:
    """Of two layouts that are the same, the shards that belong together."""
    by_place = {place_of(piece): int(piece.id) for piece in wanted}
    return [(int(piece.id), by_place[place_of(piece)]) for piece in have]


def next_workflow(
    have: Sequence[Piece], wanted: Sequence[Piece], keyspace: str
) -> tuple[str, tuple[Piece, ...], bool]:
    """The kind of the workflow that makes `wanted` of `have`, its new shards, and whether they get numbers."""
    if len(have) == len(wanted) == 1:
        return "move", (replace(have[0], group=wanted[0].group),), False
    kind = "merge" if len(wanted) < len(have) else "split"
    return kind, tuple(replace(piece, id=ShardId(0), keyspace=keyspace) for piece in wanted), True
