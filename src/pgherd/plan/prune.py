"""Which shards a statement may touch: the key that all its tables share, or the set that its constants leave."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId, Key, Keyspace, KeyspaceId, Shard, ShardId, Table
from pgherd.plan.plans import Const, Param
from pgherd.plan.scope import Relation, Scope, Vertex
from pgherd.plan.values import Value, Within, canonical, fits

Source = Param | Const
_COMBINATIONS_MAX = 1000


def key_columns(table: Table) -> Iterable[tuple[str, str]]:
    """The shard key's columns with their types."""
    for name in table.key:
        column = table.column(name)
        assert column is not None, name
        yield name, column.type


def fixed_key(
    scope: Scope, cluster: ClusterMap, param_types: tuple[int, ...] = ()
) -> tuple[KeyspaceId, tuple[Source, ...]] | None:
    """The one key that every distributed table of the statement is bound to, or None."""
    relations = scope.distributed
    first = relations[0].table
    assert first is not None
    if first.keyspace is None or any(
        one.table is None or one.table.keyspace != first.keyspace for one in relations
    ):
        return None
    found = [_sources(scope, one, param_types) for one in relations]
    if any(not column for columns in found for column in columns):
        return None
    chosen = tuple(
        next((source for source in column if all(source in other[at] for other in found[1:])), None)
        for at, column in enumerate(found[0])
    )
    if all(source is not None for source in chosen):
        return first.keyspace, tuple(source for source in chosen if source is not None)
    return _one_shard(found, cluster.keyspaces[first.keyspace])


def _sources(scope: Scope, relation: Relation, param_types: tuple[int, ...]) -> list[list[Source]]:
    """For each key column of the relation, the parameters and constants that it is equal to."""
    assert relation.table is not None
    return [
        [value.source for value in _values(scope, Vertex(relation.number, name), kind, param_types)]
        for name, kind in key_columns(relation.table)
    ]


def _values(scope: Scope, vertex: Vertex, kind: str, param_types: tuple[int, ...]) -> list[Value]:
    return [
        end
        for end in scope.reach(vertex, kind)
        if isinstance(end, Value) and fits(end, kind, param_types) and _understood(end, kind)
    ]


def _understood(value: Value, kind: str) -> bool:
    if isinstance(value.source, Param):
        return True
    try:
        canonical(value, kind)
    except keys.Undecodable:
        return False
    return True


def _one_shard(
    found: list[list[list[Source]]], keyspace: Keyspace
) -> tuple[KeyspaceId, tuple[Source, ...]] | None:
    """Different constants that all lie in one shard."""
    shards: set[ShardId] = set()
    first: tuple[Source, ...] | None = None
    for columns in found:
        key = tuple(
            next((one for one in column if isinstance(one, Const) and one.text), None) for column in columns
        )
        if None in key:
            return None
        shard = keyspace.locate(constant_key(tuple(one for one in key if one is not None), keyspace))
        if shard is None:
            return None
        shards.add(shard.id)
        first = first or tuple(one for one in key if one is not None)
    return (keyspace.id, first) if first is not None and len(shards) == 1 else None


def constant_key(sources: tuple[Source, ...], keyspace: Keyspace) -> Key:
    """The canonical key that constants name. Raises keys.Undecodable, errors.BadKey."""
    texts = [source.text for source in sources if isinstance(source, Const)]
    return tuple(
        None if text is None else keys.decode_text(kind, text)
        for text, kind in zip(texts, keyspace.key_types, strict=True)
    )


# ---- sets of shards --------------------------------------------------------------------------------------


def wanted(scope: Scope, relation: Relation, cluster: ClusterMap) -> tuple[Shard, ...]:
    """The shards that may hold rows of `relation` which matter, by the statement's constants alone."""
    table = relation.table
    assert table is not None
    keyspace = cluster.keyspace_of(table)
    sets = [_allowed(scope, Vertex(relation.number, name), kind) for name, kind in key_columns(table)]
    points = [one.points for one in sets]
    if all(one is not None for one in points):
        combinations = list(_bounded(product(*(one or () for one in points))))
        if len(combinations) <= _COMBINATIONS_MAX:
            held = {shard.id for key in combinations if (shard := keyspace.locate(key)) is not None}
            return _nonempty([shard for shard in keyspace.shards if shard.id in held], keyspace)
    if keyspace.strategy == "hash":
        return keyspace.shards
    return _nonempty([shard for shard in keyspace.shards if _overlaps(shard, sets[0])], keyspace)


def _nonempty(shards: list[Shard], keyspace: Keyspace) -> tuple[Shard, ...]:
    # a condition that no shard meets still needs a place to be evaluated: the first shard will do
    return tuple(shards) or keyspace.shards[:1]


def _bounded(combinations: Iterable[Key]) -> Iterable[Key]:
    for count, key in enumerate(combinations):
        if count > _COMBINATIONS_MAX:
            return
        yield key


class _Allowed:
    """What constants say of one column: a set of points, or an interval (None: open)."""

    __slots__ = ("high", "low", "points")

    def __init__(self) -> None:
        self.points: frozenset[Any] | None = None
        self.low: Any = None
        self.high: Any = None

    def narrow(self, op: str, values: list[Any]) -> None:
        if op == "=":
            points = frozenset(value for value in values if value is not None)
            self.points = points if self.points is None else self.points & points
        elif values[0] is not None and op in (">", ">="):
            self.low = values[0] if self.low is None else max(self.low, values[0])
        elif values[0] is not None:
            self.high = values[0] if self.high is None else min(self.high, values[0])


def _allowed(scope: Scope, vertex: Vertex, kind: str) -> _Allowed:
    allowed = _Allowed()
    for end in scope.reach(vertex, kind):
        within = Within("=", (end,)) if isinstance(end, Value) else end
        if not isinstance(within, Within) or not all(isinstance(v.source, Const) for v in within.values):
            continue
        if not all(fits(value, kind) for value in within.values):
            continue
        try:
            allowed.narrow(within.op, [canonical(value, kind) for value in within.values])
        except keys.Undecodable:
            continue
    return allowed


def _overlaps(shard: Shard, allowed: _Allowed) -> bool:
    if allowed.points is not None:
        return any(_meets(shard, point, point) for point in allowed.points)
    return _meets(shard, allowed.low, allowed.high)


def _meets(shard: Shard, low: Any, high: Any) -> bool:
    """Whether the shard may hold a key whose first column lies from `low` to `high`, both included."""
    if high is not None and shard.lower is not None and shard.lower[0] > high:
        return False
    if low is None or shard.upper is None:
        return True
    # an upper bound of one column is excluded; a longer one may share its first column with keys below it
    return shard.upper[0] > low or (len(shard.upper) > 1 and shard.upper[0] == low)


def groups_of(shards: Iterable[Shard]) -> tuple[GroupId, ...]:
    """The groups that hold the shards, ascending."""
    return tuple(sorted({shard.group for shard in shards}))


def all_wanted(scope: Scope, cluster: ClusterMap) -> tuple[Shard, ...]:
    """The shards wanted by any distributed table of the statement."""
    found = {shard.id: shard for one in scope.distributed for shard in wanted(scope, one, cluster)}
    return tuple(found[key] for key in sorted(found))


# ---- colocation ------------------------------------------------------------------------------------------


def bound_to(scope: Scope, relation: Relation, anchor: Relation) -> bool:
    """Whether every row of `relation` that matters has the shard key of the anchor's row."""
    one, other = relation.table, anchor.table
    assert one is not None and other is not None
    if relation is anchor:
        return True
    if one.keyspace != other.keyspace:
        return False
    return all(
        Vertex(anchor.number, theirs) in set(scope.reach(Vertex(relation.number, mine), kind))
        for (mine, kind), theirs in zip(key_columns(one), other.key, strict=True)
    )
