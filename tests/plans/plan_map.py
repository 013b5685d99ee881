"""The cluster map of the plan tests: two groups, a range keyspace, a hash keyspace, a composite one."""

from __future__ import annotations

from typing import Any

from pgherd.catalog.model import (
    ClusterMap,
    Column,
    Group,
    GroupId,
    Keyspace,
    KeyspaceId,
    Node,
    Shard,
    ShardId,
    Table,
    TableKind,
)

_SHORT = {"timestamptz": "timestamp with time zone", "int": "integer"}


def _columns(text: str, special: dict[str, dict[str, Any]]) -> tuple[Column, ...]:
    found: list[Column] = []
    for one in text.split(", "):
        name, kind = one.split(" ")
        found.append(Column(name=name, type=_SHORT.get(kind, kind), **special.get(name, {})))
    return tuple(found)


def _table(
    name: str, kind: TableKind, columns: str, special: dict[str, dict[str, Any]] | None = None, **more: Any
) -> Table:
    return Table(
        schema=more.pop("schema", "public"),
        name=name,
        kind=kind,
        columns=_columns(columns, special or {}),
        **more,
    )


def _group(number: int) -> Group:
    group = GroupId(number)
    return Group(
        id=group, nodes=(Node(id=number, group=group, host="localhost", port=5432, database=f"g{number}"),)
    )


def _range(
    number: int, keyspace: int, group: int, lower: tuple[Any, ...] | None, upper: tuple[Any, ...] | None
) -> Shard:
    return Shard(
        id=ShardId(number), keyspace=KeyspaceId(keyspace), group=GroupId(group), lower=lower, upper=upper
    )


PEOPLE = Keyspace(
    id=KeyspaceId(1),
    name="people",
    strategy="range",
    key_types=("text",),
    shards=(_range(1, 1, 0, None, ("N",)), _range(2, 1, 1, ("N",), ("T",)), _range(3, 1, 1, ("T",), None)),
)
EVENTS = Keyspace(
    id=KeyspaceId(2),
    name="events",
    strategy="hash",
    key_types=("bigint",),
    shards=tuple(
        Shard(id=ShardId(10 + n), keyspace=KeyspaceId(2), group=GroupId(n % 2), modulus=4, remainder=n)
        for n in range(4)
    ),
)
VISITS = Keyspace(
    id=KeyspaceId(3),
    name="visits",
    strategy="range",
    key_types=("date", "integer"),
    shards=(
        _range(20, 3, 0, (0,), (8766,)),
        _range(21, 3, 1, (8766,), (8766, 500)),
        _range(22, 3, 1, (8766, 500), (9131,)),
    ),
)

_ID = {"cluster_id": True, "not_null": True}
TABLES = (
    _table(
        "users", "distributed", "last_name text, id bigint, email text, age int, score numeric, active boolean, created timestamptz",
        {"id": _ID, "created": {"default": "now()"}}, keyspace=PEOPLE.id, key=("last_name",), primary_key=("last_name", "id"),
        referenced=True,
    ),
    _table(
        "orders", "distributed", "last_name text, user_id bigint, id bigint, total numeric, note text",
        {"id": {**_ID, "always": True}}, keyspace=PEOPLE.id, key=("last_name",), primary_key=("last_name", "id"),
    ),
    _table(
        "leads", "distributed", "last_name text, source text", schema="Sales Team", keyspace=PEOPLE.id, key=("last_name",)
    ),
    _table(
        "events", "distributed", "id bigint, kind text, at timestamptz, n int",
        {"id": _ID, "at": {"default": "now()"}}, keyspace=EVENTS.id, key=("id",), primary_key=("id",),
    ),
    _table("clicks", "distributed", "event_id bigint, n int", keyspace=EVENTS.id, key=("event_id",)),
    _table(
        "tokens", "distributed", "id uuid, owner text", {"id": {"default": "gen_random_uuid()"}},
        keyspace=KeyspaceId(4), key=("id",), primary_key=("id",),
    ),
    _table("visits", "distributed", "day date, shop int, note text", keyspace=VISITS.id, key=("day", "shop")),
    _table("countries", "reference", "code text, name text, added timestamptz", {"added": {"default": "now()"}}, primary_key=("code",)),
    _table("settings", "single", "key text, value text", primary_key=("key",)),
    _table("young", "view", "last_name text, age int", distributed_view=True),
    _table("country_names", "view", "name text"),
    _table("local_view", "view", "value text", on_all=False),
)  # fmt: skip
TOKENS = Keyspace(
    id=KeyspaceId(4),
    name="tokens",
    strategy="hash",
    key_types=("uuid",),
    shards=tuple(
        Shard(id=ShardId(30 + n), keyspace=KeyspaceId(4), group=GroupId(n), modulus=2, remainder=n)
        for n in range(2)
    ),
)
MAP = ClusterMap(
    epoch=7,
    groups={GroupId(number): _group(number) for number in range(2)},
    keyspaces={one.id: one for one in (PEOPLE, EVENTS, VISITS, TOKENS)},
    tables={(one.schema, one.name): one for one in TABLES},
)
