"""What people name when they call a procedure: tables, shards, groups, keys and points, as PostgreSQL reads such texts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Protocol

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId, Key, Keyspace, Shard, ShardId, Table
from pgherd.catalog.text import literal
from pgherd.engine.link import Row
from pgherd.errors import BadKey, BadSetting, Refused, UndefinedTable


class Ask(Protocol):
    """Runs texts on group 0 and answers the last one's rows."""

    def __call__(self, *texts: str) -> Awaitable[list[Row]]: ...


async def table(ask: Ask, cluster: ClusterMap, path: tuple[str, ...], given: str) -> Table:
    """The table of that name (case folded unless quoted). `path`: the schemas that unqualified names mean. Raises UndefinedTable."""
    rows = await ask(f"SELECT pg_catalog.array_to_json(pg_catalog.parse_ident({literal(given)}))")
    parts: list[str] = json.loads(rows[0][0] or "[]")
    found = cluster.find(parts[-1], parts[-2] if len(parts) > 1 else None, path)
    if found is None:
        raise UndefinedTable(f'table "{given}" does not exist')
    return found


def distributed(table: Table) -> Table:
    """The table itself. Raises Refused if it is of another kind."""
    if table.kind != "distributed":
        raise Refused(
            f'"{table.name}" is not a distributed table',
            hint=f"CALL pgherd.distribute('{table.name}', by => 'range', key => '...') makes it one.",
        )
    return table


async def key(ask: Ask, table: Table, text: str) -> tuple[str, ...]:
    """The columns of a key that somebody wrote with commas between them. Raises BadSetting."""
    rows = await ask(
        f"SELECT (pg_catalog.parse_ident(pg_catalog.btrim(part)))[1] FROM pg_catalog.unnest(pg_catalog.string_to_array({literal(text)}, ',')) AS part"
    )
    names = tuple(row[0] or "" for row in rows)
    for name in names:
        if table.column(name) is None:
            raise BadSetting(f'column "{name}" of table "{table.name}" does not exist')
    return names


def strategy(text: str) -> str:
    """What `pgherd.distribute` may divide by. Raises BadSetting."""
    if text.lower() not in ("range", "hash"):
        raise BadSetting("pgherd.distribute: by must be 'range' or 'hash'")
    return text.lower()


def shard(cluster: ClusterMap, number: int) -> Shard:
    """The shard of that number. Raises BadSetting."""
    for keyspace in cluster.keyspaces.values():
        found = keyspace.by_id.get(ShardId(number))
        if found is not None:
            return found
    raise BadSetting(f"there is no shard {number}", hint="SELECT * FROM pgherd.shards shows them.")


def shard_of(cluster: ClusterMap, table: Table, number: int) -> Shard:
    """The shard of that number, of the table's keyspace. Raises BadSetting."""
    found = shard(cluster, number)
    if found.keyspace != table.keyspace:
        raise BadSetting(f'shard {number} does not belong to "{table.name}"')
    return found


def group(cluster: ClusterMap, number: int) -> GroupId:
    """The group of that number. Raises BadSetting."""
    if number not in cluster.groups:
        raise BadSetting(f"there is no group {number}", hint="SELECT * FROM pgherd.groups shows them.")
    return GroupId(number)


async def point(ask: Ask, keyspace: Keyspace, texts: Sequence[str]) -> Key:
    """A point of a range keyspace: a value for each column, or fewer, or one array. Raises BadSetting."""
    parts = list(texts)
    if len(parts) == 1 and len(keyspace.key_types) > 1 and parts[0].startswith("{"):
        rows = await ask(f"SELECT pg_catalog.unnest({literal(parts[0])}::text[])")
        parts = [row[0] or "" for row in rows]
    if len(parts) > len(keyspace.key_types):
        raise BadSetting(f"the key has {len(keyspace.key_types)} columns, the point {len(parts)} values")
    pairs = zip(keyspace.key_types, parts, strict=False)
    return tuple([await _value(ask, kind, text) for kind, text in pairs])


async def _value(ask: Ask, key_type: str, text: str) -> object:
    try:
        return keys.decode_text(key_type, text)
    except keys.Undecodable:
        pass
    value = f"{literal(text)}::{key_type}"
    if key_type == "timestamp with time zone":
        value = f"({value} AT TIME ZONE 'UTC')::text || '+00'"
    rows = await ask("SET LOCAL DateStyle = 'ISO, YMD'", f"SELECT ({value})::text")
    return keys.decode_text(key_type, rows[0][0] or "")


def texts_of(keyspace: Keyspace, point: Key) -> tuple[str, ...]:
    """A point as the catalog has it."""
    return tuple(
        keys.encode_text(kind, value) for kind, value in zip(keyspace.key_types, point, strict=False)
    )


def cut_by(keyspace: Keyspace, point: Key) -> Shard:
    """The shard that a point cuts in two. Raises BadKey, BadSetting."""
    found = keyspace.locate(point)
    if found is None:
        raise BadKey("no shard holds that point")
    if found.lower == point:
        raise BadSetting(
            "a shard begins at that point already", hint="SELECT * FROM pgherd.shards shows the bounds."
        )
    return found
