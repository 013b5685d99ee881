"""How much lies in each shard: rows and bytes, asked of every group at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import naming, store
from pgherd.catalog.model import ClusterMap, Group, Key, Keyspace, Shard, Table, physical_schema
from pgherd.errors import DeployError

CONNECT_S = 10.0
COUNTED_BYTES_MAX = 8_000_000  # a table without statistics is counted up to this size, guessed beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One table's part in one shard. `rows` is PostgreSQL's estimate unless `exact`; `bytes` includes indexes."""

    table: str
    keyspace: str
    shard: int
    holds: str
    group: int
    rows: int
    exact: bool
    bytes: int


async def load_map(link: ServerLink) -> ClusterMap:
    """The cluster map as a node knows it."""
    return await store.load(link)


def chosen(cluster_map: ClusterMap, name: str | None) -> list[Table]:
    """The distributed tables, or the one called `name` (with its schema if it is not public). Raises DeployError."""
    tables = [table for table in cluster_map.tables.values() if table.kind == "distributed"]
    if name is None:
        return sorted(tables, key=shown)
    found = [table for table in tables if name in (shown(table), f"{table.schema}.{table.name}")]
    if not found:
        known = ", ".join(sorted(map(shown, tables))) or "none"
        raise DeployError(f"there is no distributed table {name}", hint=f"Distributed tables: {known}.")
    return found


async def measure(
    cluster_map: ClusterMap, tables: Sequence[Table], *, password: str | None = None, exact: bool = False
) -> list[Measured]:
    """A line for each table and shard, in key order. Raises GroupDown if a group does not answer."""
    credentials = Credentials(user="postgres", password=password)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_ask(group, credentials, exact)) for group in cluster_map.groups.values()]
    sizes = {name: found for task in asked for name, found in task.result().items()}
    return [
        _line(table, cluster_map.keyspace_of(table), shard, sizes)
        for table in tables
        for shard in cluster_map.keyspace_of(table).shards
    ]


_Sizes = Mapping[tuple[int, str, str], tuple[int, bool, int]]

_SIZES = """
SELECT n.nspname, c.relname, c.reltuples::bigint, pg_total_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname ~ '^shard_[0-9]+(_|$)' AND c.relkind = 'r'
"""


async def _ask(
    group: Group, credentials: Credentials, exact: bool
) -> dict[tuple[int, str, str], tuple[int, bool, int]]:
    link = await connect(group.primary, credentials, timeout=CONNECT_S)
    try:
        found: dict[tuple[int, str, str], tuple[int, bool, int]] = {}
        for schema, name, estimate, size in await link.run(_SIZES):
            rows, known = int(estimate or -1), False
            if exact or (rows < 0 and int(size or 0) <= COUNTED_BYTES_MAX):
                counted = await link.run(
                    f"SELECT count(*) FROM {_quoted(schema or '')}.{_quoted(name or '')}"
                )
                rows, known = int(counted[0][0] or 0), True
            found[int(group.id), schema or "", name or ""] = (max(rows, 0), known, int(size or 0))
        return found
    finally:
        link.close()


def _line(table: Table, keyspace: Keyspace, shard: Shard, sizes: _Sizes) -> Measured:
    schema = physical_schema(f"shard_{shard.id}", table.schema)
    rows, exact, size = sizes.get((int(shard.group), schema, table.name), (0, True, 0))
    return Measured(
        table=shown(table),
        keyspace=keyspace.name,
        shard=int(shard.id),
        holds=holds(keyspace, shard),
        group=int(shard.group),
        rows=rows,
        exact=exact,
        bytes=size,
    )


def holds(keyspace: Keyspace, shard: Shard) -> str:
    """What a shard holds, for people: "'A' … 'N'", or "hash % 8 = 3"."""
    if keyspace.strategy == "hash":
        return f"hash % {shard.modulus} = {shard.remainder}"
    return f"{_bound(keyspace, shard.lower, '-∞')} … {_bound(keyspace, shard.upper, '+∞')}"


def _bound(keyspace: Keyspace, bound: Key | None, unbounded: str) -> str:
    if bound is None:
        return unbounded
    return ", ".join(naming.texts_of(keyspace, bound))


def shown(table: Table) -> str:
    """A table's name as people write it."""
    return table.name if table.schema == "public" else f"{table.schema}.{table.name}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
