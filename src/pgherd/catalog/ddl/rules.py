"""What a table must be like to be distributed, which foreign keys can hold, and which keyspace a table joins. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId, KeyspaceId, Strategy, Table
from pgherd.errors import Refused

HASH_SHARDS_PER_GROUP = 4
_SERIALS = {"smallint": "smallserial", "integer": "serial"}
_EXACT = {"numeric", "timestamp without time zone", "timestamp with time zone"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShard:
    """A shard that is still to be made. Bounds are texts in PostgreSQL's form."""

    group: GroupId
    start: tuple[str, ...] | None = None
    end: tuple[str, ...] | None = None
    modulus: int | None = None
    remainder: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The keyspace of a table: an existing one (`shards` empty), or a new one with its first shards."""

    keyspace: str
    strategy: Strategy
    key: tuple[str, ...]
    key_types: tuple[str, ...]
    shards: tuple[NewShard, ...] = ()


def check_key(shape: dict[str, Any]) -> None:
    """Refuse strategies, keys and columns that pgherd cannot route or number. `shape`: pgherd.inspect()'s answer."""
    if shape["strategy"] not in ("range", "hash"):
        raise Refused(
            "PARTITION BY LIST is not supported for distributed tables",
            hint="Use PARTITION BY RANGE or PARTITION BY HASH.",
        )
    for column in shape["key"]:
        _check_key_column(column)
    for column in shape["columns"]:
        if column["next_id"] and column["type"] in _SERIALS:
            raise Refused(
                f'column "{column["name"]}" of a distributed table cannot be {_SERIALS[column["type"]]} or identity of type {column["type"]}',
                hint="Generated ids are 64-bit, so that they are unique in the whole cluster: use bigserial, or bigint with GENERATED ... AS IDENTITY.",
            )
        if column["default"] and "nextval(" in column["default"] and not column["next_id"]:
            raise Refused(
                f'column "{column["name"]}" of a distributed table cannot take its default from a sequence of its own',
                hint="A sequence counts in one group only. Use bigserial or GENERATED ... AS IDENTITY: their ids are unique in the whole cluster.",
            )


def _check_key_column(column: dict[str, Any]) -> None:
    if column["name"] is None:
        raise Refused(
            "a shard key cannot be an expression",
            hint="Use plain columns; a generated column (GENERATED ALWAYS AS (...) STORED) cannot be one either.",
        )
    if column["type"] not in keys.KEY_TYPES:
        raise Refused(
            f'column "{column["name"]}" of type {column["type"]} cannot be a shard key',
            hint=f"Types of shard keys: {', '.join(sorted(keys.KEY_TYPES))}.",
        )
    if column["typmod"] != -1 and column["type"] in _EXACT:
        raise Refused(
            f'column "{column["name"]}" cannot be a shard key: its type rounds values to a precision',
            hint=f"Use {column['type']} without a precision.",
        )
    if not column["plain"]:
        raise Refused(
            f'column "{column["name"]}" cannot be a shard key with an operator class or collation of its own',
            hint="Leave out COLLATE and the operator class: keys order by code point.",
        )


def place(cluster: ClusterMap, shape: dict[str, Any], groups: Sequence[GroupId]) -> Placement:
    """The keyspace of a new distributed table: that of the table its foreign key follows, else one of the same key, else a new one."""
    key = tuple(column["name"] for column in shape["key"])
    types = tuple(column["type"] for column in shape["key"])
    strategy: Strategy = shape["strategy"]
    parent = _followed(cluster, shape, key, types, strategy) or _alike(cluster, key, types, strategy)
    if parent is not None:
        name = cluster.keyspaces[parent].name
        return Placement(keyspace=name, strategy=strategy, key=key, key_types=types)
    return new_keyspace(cluster, shape["name"], strategy, key, types, groups)


def new_keyspace(
    cluster: ClusterMap,
    table: str,
    strategy: Strategy,
    key: tuple[str, ...],
    types: tuple[str, ...],
    groups: Sequence[GroupId],
    count: int | None = None,
) -> Placement:
    """A keyspace named after its first table: range with one shard in the emptiest group, hash with `count` over all groups."""
    taken = {keyspace.name for keyspace in cluster.keyspaces.values()}
    name, number = table, 2
    while name in taken:
        name, number = f"{table}_{number}", number + 1
    shards: tuple[NewShard, ...]
    if strategy == "range":
        shards = (NewShard(group=_emptiest(cluster, groups)),)
    else:
        modulus = count or HASH_SHARDS_PER_GROUP * len(groups)
        shards = tuple(
            NewShard(group=groups[slot % len(groups)], modulus=modulus, remainder=slot)
            for slot in range(modulus)
        )
    return Placement(keyspace=name, strategy=strategy, key=key, key_types=types, shards=shards)


def _emptiest(cluster: ClusterMap, groups: Sequence[GroupId]) -> GroupId:
    held = dict.fromkeys(groups, 0)
    for keyspace in cluster.keyspaces.values():
        if keyspace.strategy == "range":
            for shard in keyspace.shards:
                held[shard.group] += 1
    return min(groups, key=lambda group: (held[group], group))


def _followed(
    cluster: ClusterMap, shape: dict[str, Any], key: tuple[str, ...], types: tuple[str, ...], strategy: str
) -> KeyspaceId | None:
    me = (shape["schema"], shape["name"])
    for fk in shape["foreign_keys"]:
        target = cluster.tables.get((fk["to_schema"], fk["to_name"]))
        if (fk["from_schema"], fk["from_name"]) != me or target is None or target.kind != "distributed":
            continue
        keyspace = cluster.keyspace_of(target)
        if keyspace.strategy == strategy and keyspace.key_types == types and covers(fk, key, target.key):
            return keyspace.id
    return None


def _alike(
    cluster: ClusterMap, key: tuple[str, ...], types: tuple[str, ...], strategy: str
) -> KeyspaceId | None:
    for table in cluster.tables.values():
        if table.kind == "distributed" and table.key == key:
            keyspace = cluster.keyspace_of(table)
            if keyspace.strategy == strategy and keyspace.key_types == types:
                return keyspace.id
    return None


def covers(fk: dict[str, Any], key: Sequence[str], target_key: Sequence[str]) -> bool:
    """Whether the foreign key ties the two shard keys together, column by column."""
    pairs = dict(zip(fk["from_columns"], fk["to_columns"], strict=True))
    return len(key) == len(target_key) and all(
        pairs.get(a) == b for a, b in zip(key, target_key, strict=True)
    )


def wished_keyspace(cluster: ClusterMap, shape: dict[str, Any], me: Table) -> KeyspaceId | None:
    """The other keyspace that a foreign key ties the table to, if it could lie there: same strategy, same types, key on key."""
    keyspace = cluster.keyspace_of(me)
    found = _followed(cluster, shape, me.key, keyspace.key_types, keyspace.strategy)
    return found if found != keyspace.id else None


def check_foreign_keys(cluster: ClusterMap, shape: dict[str, Any], me: Table) -> None:
    """Refuse foreign keys that no single group could check. `me` is the table as it will stand in the map."""
    tables = {**cluster.tables, (me.schema, me.name): me}
    for fk in shape["foreign_keys"]:
        source = tables.get((fk["from_schema"], fk["from_name"]))
        target = tables.get((fk["to_schema"], fk["to_name"]))
        if source is not None and target is not None:
            _check_foreign_key(fk, source, target)


def _check_foreign_key(fk: dict[str, Any], source: Table, target: Table) -> None:
    match (source.kind, target.kind):
        case ("distributed", "distributed"):
            if source.keyspace != target.keyspace:
                raise Refused(
                    f'foreign key "{fk["name"]}": "{source.name}" and "{target.name}" lie in different keyspaces',
                    hint="Distribute both by the same key, so that a row and the row it refers to share a shard.",
                )
            if not covers(fk, source.key, target.key):
                raise Refused(
                    f'foreign key "{fk["name"]}" does not cover the shard key of "{target.name}"',
                    hint=f"Include the shard key: FOREIGN KEY ({', '.join(source.key)}, ...) REFERENCES {target.name} ({', '.join(target.key)}, ...).",
                )
        case ("distributed" | "reference", "single"):
            raise Refused(
                f'foreign key "{fk["name"]}": a {source.kind} table cannot refer to the single table "{target.name}"',
                hint=f"Make it a reference table first: CALL pgherd.reference('{target.name}').",
            )
        case ("single" | "reference", "distributed"):
            raise Refused(
                f'foreign key "{fk["name"]}": a {source.kind} table cannot refer to the distributed table "{target.name}"',
                hint=f'Distribute "{source.name}" by the same key.',
            )
        case _:
            pass
