"""The `pgherd` schema on the servers: install it, and read the cluster map from it. Nodes are `catalog.nodes`' business.

The SQL lies in `catalog/sql/*.sql`, in the order of the file names. 10 makes the tables, once; all others only replace
functions and run at every start. An older layout of the tables is brought up to date by `catalog/to_layout_<n>.sql`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Final
from uuid import uuid4

from pgherd.catalog import keys
from pgherd.catalog.model import (
    ClusterMap,
    Column,
    Group,
    GroupId,
    Key,
    Keyspace,
    KeyspaceId,
    Node,
    Shard,
    ShardId,
    Table,
    TableName,
)
from pgherd.catalog.text import literal
from pgherd.engine.link import Link
from pgherd.errors import DeployError

LAYOUT: Final = 2  # the layout of pgherd's tables; another number in a server means another version's data
_STEPS: Final = {1: "to_layout_2.sql"}  # what takes a layout to the next one, in place


@cache
def _files() -> tuple[tuple[str, str], ...]:
    package = resources.files("pgherd.catalog")
    found = [entry for entry in (package / "sql").iterdir() if entry.name.endswith(".sql")]
    texts = [(entry.name, entry.read_text("utf-8")) for entry in found]
    texts.append(("15_transactions.sql", (package / "transactions.sql").read_text("utf-8")))
    return tuple(sorted(texts))


def install_sql(group: GroupId, *, cluster_id: str, layout: int | None) -> list[str]:
    """The texts that make (no `layout` yet) or bring up to date the schema `pgherd` in one group, in order."""
    texts = [
        text.replace("{group}", str(int(group)))
        for name, text in _files()
        if layout is None or not name.startswith("10_")
    ]
    if layout is None:
        start = f"INSERT INTO pgherd.cluster (id, layout, epoch) VALUES ({literal(cluster_id)}, {LAYOUT}, 1)"
        return [*texts, start]
    package = resources.files("pgherd.catalog")
    return [*((package / _STEPS[step]).read_text("utf-8") for step in range(layout, LAYOUT)), *texts]


async def installed_layout(link: Link) -> int | None:
    """The layout number of the `pgherd` schema behind `link`, or None if there is none."""
    rows = await link.run("SELECT to_regclass('pgherd.cluster') IS NOT NULL")
    if rows[0][0] != "t":
        return None
    rows = await link.run("SELECT layout FROM pgherd.cluster")
    return int(rows[0][0] or 0) if rows else None


async def install(links: Sequence[Link]) -> None:
    """Make the databases behind `links` the groups that the links name, or bring their tables and functions up to date.

    Each link must be a superuser's, to the group's primary, outside a transaction. May be repeated after any failure. Then
    say where the nodes are: `nodes.register`. Raises DeployError if a group holds a layout that is not understood, or has lost its catalog.
    """
    layouts = [await installed_layout(link) for link in links]
    for link, layout in zip(links, layouts, strict=True):
        if layout is not None and layout != LAYOUT and layout not in _STEPS:
            raise DeployError(
                f"group {link.group} holds data of another pgherd version (layout {layout}, this one is {LAYOUT})",
                hint="Use the pgherd version that made it, or another state directory.",
            )
    cluster_id = await _cluster_id(links, layouts)
    runs = [
        link.run(_in_transaction("\n;\n".join(install_sql(link.group, cluster_id=cluster_id, layout=layout))))
        for link, layout in zip(links, layouts, strict=True)
    ]
    for result in await asyncio.gather(*runs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _cluster_id(links: Sequence[Link], layouts: Sequence[int | None]) -> str:
    """The cluster's id: a new one, if no group has a catalog. A group without one among groups that hold shards lost its data."""
    known = [link for link, layout in zip(links, layouts, strict=True) if layout is not None]
    if not known:
        return str(uuid4())
    if None in layouts and (await known[0].run("SELECT count(*) FROM pgherd.shards"))[0][0] != "0":
        raise DeployError(
            f"group {links[layouts.index(None)].group} has no catalog, but the cluster's other groups hold tables",
            hint="Its data is gone, or this is another database. Restore it from a backup.",
        )
    return str((await known[0].run("SELECT id FROM pgherd.cluster"))[0][0])


def _in_transaction(text: str) -> str:
    return f"SET client_min_messages = warning;\nBEGIN;\n{text};\nCOMMIT;\nRESET client_min_messages"


async def epoch(link: Link) -> int:
    """The epoch of the metadata behind `link`."""
    return int((await link.run("SELECT epoch FROM pgherd.cluster"))[0][0] or 0)


async def load(link: Link) -> ClusterMap:
    """The cluster map, from group 0 in one round trip. Inside a transaction it shows the transaction's own changes."""
    return parse_map((await link.run("SELECT pgherd.map()"))[0][0] or "{}")


def parse_map(text: str) -> ClusterMap:
    """The cluster map from the json that `pgherd.map()` answers."""
    raw = json.loads(text)
    nodes = [_node(row) for row in raw["nodes"]]
    managed = {row["id"] for row in raw["groups"] if row["managed"]}
    groups = {
        group: Group(
            id=group, nodes=tuple(node for node in nodes if node.group == group), managed=group in managed
        )
        for group in sorted({node.group for node in nodes})
    }
    ids = {row["name"]: KeyspaceId(row["id"]) for row in raw["keyspaces"]}
    keyspaces = {ids[row["name"]]: _keyspace(row, raw["shards"]) for row in raw["keyspaces"]}
    tables: dict[TableName, Table] = {}
    for row in raw["tables"]:
        if row is not None:
            tables[row["schema"], row["name"]] = _table(row, ids)
    next_group = max((row["id"] for row in raw["groups"]), default=-1) + 1  # groups that left are listed, too
    return ClusterMap(
        epoch=raw["epoch"], groups=groups, keyspaces=keyspaces, tables=tables, next_group=next_group,
        moving=frozenset(raw.get("moving", ())),
    )  # fmt: skip


def _node(row: dict[str, Any]) -> Node:
    return Node(
        id=row["id"], group=GroupId(row["group_id"]), host=row["host"], port=row["port"],
        database=row["database"], region=row["region"], zone=row["zone"], name=row["name"],
    )  # fmt: skip


def _bound(types: Sequence[str], texts: Sequence[str] | None) -> Key | None:
    if texts is None:
        return None
    return tuple(keys.decode_text(key_type, text) for key_type, text in zip(types, texts, strict=False))


def _keyspace(row: dict[str, Any], shards: Sequence[dict[str, Any]]) -> Keyspace:
    types = tuple(row["key_types"])
    found = [
        Shard(
            id=ShardId(shard["id"]), keyspace=KeyspaceId(row["id"]), group=GroupId(shard["group_id"]),
            lower=_bound(types, shard["range_start"]), upper=_bound(types, shard["range_end"]),
            modulus=shard["modulus"] or 0, remainder=shard["remainder"] or 0,
        )
        for shard in shards
        if shard["keyspace"] == row["name"]
    ]  # fmt: skip
    found.sort(key=lambda shard: (shard.lower or (), shard.remainder, shard.modulus))
    return Keyspace(
        id=KeyspaceId(row["id"]),
        name=row["name"],
        strategy=row["strategy"],
        key_types=types,
        shards=tuple(found),
    )


def _table(row: dict[str, Any], ids: dict[str, KeyspaceId]) -> Table:
    distributed = row["kind"] == "distributed"
    columns = tuple(
        Column(
            name=column["name"], type=column["type"], not_null=column["not_null"], default=column["default"],
            cluster_id=distributed and bool(column["next_id"]), always=column["identity"] == "a",
            generated=column["generated"], collated=column["collated"],
        )
        for column in row["columns"]
    )  # fmt: skip
    return Table(
        schema=row["schema"], name=row["name"], kind=row["kind"], columns=columns,
        keyspace=ids[row["keyspace"]] if row["keyspace"] else None, key=tuple(row["key"] or ()),
        primary_key=tuple(row["primary_key"] or ()), referenced=row["referenced"],
        distributed_view=row["distributed_view"], on_all=row["on_all"],
    )  # fmt: skip


__all__ = [
    "LAYOUT",
    "epoch",
    "install",
    "install_sql",
    "installed_layout",
    "load",
    "parse_map",
]
