"""The cluster map: the immutable picture of groups, keyspaces, shards and tables at one epoch.

Pure data. It is read from the `pgherd` schema by `catalog.store`; the planner and the router only
ever look at it. Key values are canonical (see `catalog.keys`): comparable with each other, in the
order in which PostgreSQL orders the column type.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NewType

from pgherd.catalog import keys

GroupId = NewType("GroupId", int)
ShardId = NewType("ShardId", int)
KeyspaceId = NewType("KeyspaceId", int)

Strategy = Literal["range", "hash"]
TableKind = Literal["distributed", "reference", "single", "view"]
Key = tuple[Any, ...]  # canonical key values, one for each column of the shard key


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One PostgreSQL server of a group, and where it answers."""

    id: int
    group: GroupId
    host: str
    port: int
    database: str
    region: str = ""
    zone: str = ""
    name: str = ""  # Patroni's member name; empty where there is no Patroni


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The nodes that hold the same bytes. `managed`: Patroni decides who is primary, and `topology.watch` finds out.

    Otherwise there is one node.
    """

    id: GroupId
    nodes: tuple[Node, ...]
    managed: bool = False

    @property
    def primary(self) -> Node:
        """The only node of a group that is not managed; of others, some node."""
        return self.nodes[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One contiguous part of a keyspace.

    Range: `lower` ≤ key < `upper`, as canonical values; None is unbounded; a bound may be a prefix of the
    key's columns (the rest is MINVALUE). Hash: hash(key) % modulus == remainder.
    """

    id: ShardId
    keyspace: KeyspaceId
    group: GroupId
    lower: Key | None = None
    upper: Key | None = None
    modulus: int = 0
    remainder: int = 0


@dataclass(frozen=True, kw_only=True)
class Keyspace:
    """A key type, a strategy and an ordered set of shards. Not slotted: look-ups cache what they derive."""

    id: KeyspaceId
    name: str
    strategy: Strategy
    key_types: tuple[str, ...]
    shards: tuple[Shard, ...]

    @cached_property
    def _lowers(self) -> list[Key]:
        return [shard.lower if shard.lower is not None else () for shard in self.shards]

    @cached_property
    def _by_remainder(self) -> list[Shard | None]:
        modulus = max((shard.modulus for shard in self.shards), default=1)
        slots: list[Shard | None] = [None] * modulus
        for shard in self.shards:
            for slot in range(shard.remainder, modulus, shard.modulus):
                slots[slot] = shard
        return slots

    @cached_property
    def _found(self) -> dict[Key, Shard | None]:
        return {}

    def locate(self, key: Key) -> Shard | None:
        """The shard that holds `key` (canonical values, none of them NULL), or None if no range holds it."""
        if self.strategy == "range":
            # () sorts below every key, and a prefix bound sorts below its extensions: MINVALUE for the rest
            at = bisect_right(self._lowers, key) - 1
            if at < 0:
                return None
            shard = self.shards[at]
            return shard if shard.upper is None or key < shard.upper else None
        found = self._found
        if key in found:
            return found[key]
        slots = self._by_remainder
        shard = slots[keys.partition_hash(self.key_types, key) % len(slots)]
        if len(found) < 100_000:
            found[key] = shard
        return shard

    @cached_property
    def by_id(self) -> dict[ShardId, Shard]:
        return {shard.id: shard for shard in self.shards}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table as declared. `type` is PostgreSQL's format_type() text for modifier -1: a cast to it changes nothing (`bit` would mean bit(1)).

    `default` is the expression's text (pg_get_expr), or None. `cluster_id` says that the column is an identity
    or serial column of a distributed table, whose values pgherd generates; `always` that it is GENERATED
    ALWAYS AS IDENTITY; `generated` that it is a GENERATED ... STORED (or VIRTUAL) column; `collated` that it has a collation
    of its own, so that its values leave the table in another order than the database's.
    """

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    cluster_id: bool = False
    always: bool = False
    generated: bool = False
    collated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table (or view) that pgherd knows. `key` names the shard key's columns in order (distributed only).

    `referenced` says that a foreign key of a distributed table points at it. For kind 'view', `on_all` says that it
    exists on every group (it names no single table), and `distributed_view` that it reads distributed tables
    (so it has a second form `global.<name>`).
    """

    schema: str
    name: str
    kind: TableKind
    columns: tuple[Column, ...] = ()
    keyspace: KeyspaceId | None = None
    key: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    referenced: bool = False
    distributed_view: bool = False
    on_all: bool = True

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


TableName = tuple[str, str]  # (schema, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMap:
    """Everything that planning and routing need, at one epoch. A new epoch is a new object.

    `moving`: shards that are about to be cut over; a transaction that has begun should be able to take back a statement there.
    """

    epoch: int
    groups: Mapping[GroupId, Group]
    keyspaces: Mapping[KeyspaceId, Keyspace] = field(default_factory=dict[KeyspaceId, Keyspace])
    tables: Mapping[TableName, Table] = field(default_factory=dict[TableName, Table])
    moving: frozenset[int] = frozenset()
    next_group: int = 0  # the number that the next new group gets; 0: one more than the highest

    @property
    def coming_group(self) -> int:
        """The number that the next new group gets."""
        return self.next_group or max(self.groups, default=-1) + 1

    def find(self, name: str, schema: str | None, path: tuple[str, ...]) -> Table | None:
        """The table that `name` means under the search path `path`, or None if pgherd does not know it."""
        if schema is not None:
            return self.tables.get((schema, name))
        for schema_name in path:
            table = self.tables.get((schema_name, name))
            if table is not None:
                return table
        return None

    def keyspace_of(self, table: Table) -> Keyspace:
        assert table.keyspace is not None, table.name
        return self.keyspaces[table.keyspace]


def physical_schema(prefix: str, schema: str) -> str:
    """The schema that holds the physical form of a user schema's tables: `shard_7` for public, `shard_7_sales` else.

    `prefix` is `shard_<id>`, `global` or `here`.
    """
    return prefix if schema == "public" else f"{prefix}_{schema}"
