"""The `pgherd` schema on the servers: install it, keep its nodes true, read the cluster map from it.

The SQL lies in `catalog/sql/*.sql`, in the order of the file names. 10 makes the tables, once; all others only replace
functions and run at every start.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
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

LAYOUT: Final = 1  # the layout of pgherd's tables; another number in a server means another version's data


@cache
def _files() -> tuple[tuple[str, str], ...]:
    package = resources.files("pgherd.catalog")
    found = [entry for entry in (package / "sql").iterdir() if entry.name.endswith(".sql")]
    texts = [(entry.name, entry.read_text("utf-8")) for entry in found]
    texts.append(("15_transactions.sql", (package / "transactions.sql").read_text("utf-8")))
    return tuple(sorted(texts))


def install_sql(group: GroupId, *, cluster_id: str, fresh: bool) -> list[str]:
    """The texts that make (`fresh`) or refresh the schema `pgherd` in one group, in order."""
    texts: list[str] = []
    for name, text in _files():
        if fresh or not name.startswith("10_"):
            texts.append(text.replace("{group}", str(int(group))))
    if fresh:
        texts.append(
            f"INSERT INTO pgherd.cluster (id, layout, epoch) VALUES ({literal(cluster_id)}, {LAYOUT}, 1)"
        )
    return texts


def _nodes_sql(nodes: Iterable[Node]) -> str:
    groups = sorted({node.group for node in nodes})
    rows = ", ".join(
        f"({node.id}, {node.group}, {literal(node.host)}, {node.port}, {literal(node.database)},"
        f" {literal(node.region)}, {literal(node.zone)})"
        for node in nodes
    )
    return (
        f"INSERT INTO pgherd.groups VALUES {', '.join(f'({group})' for group in groups)} ON CONFLICT DO NOTHING;\n"
        f"DELETE FROM pgherd.nodes;\nINSERT INTO pgherd.nodes VALUES {rows};\nSELECT pgherd.sync_servers()"
    )


async def installed_layout(link: Link) -> int | None:
    """The layout number of the `pgherd` schema behind `link`, or None if there is none."""
    rows = await link.run("SELECT to_regclass('pgherd.cluster') IS NOT NULL")
    if rows[0][0] != "t":
        return None
    rows = await link.run("SELECT layout FROM pgherd.cluster")
    return int(rows[0][0] or 0) if rows else None


async def install(links: Sequence[Link], nodes: Sequence[Node]) -> None:
    """Make the databases behind `links` the groups 0, 1, … with `nodes`, or bring their functions and nodes up to date.

    Each link must be a superuser's, outside a transaction. May be repeated after any failure. Raises DeployError if
    a group holds another version's layout.
    """
    layouts = [await installed_layout(link) for link in links]
    for group, layout in enumerate(layouts):
        if layout not in (None, LAYOUT):
            raise DeployError(
                f"group {group} holds data of another pgherd version (layout {layout}, this one is {LAYOUT})",
                hint="Use the pgherd version that made it, or another state directory.",
            )
    cluster_id = str(uuid4())
    for link, layout in zip(links, layouts, strict=True):
        if layout is not None:
            cluster_id = str((await link.run("SELECT id FROM pgherd.cluster"))[0][0])
            break
    texts = [
        [*install_sql(GroupId(group), cluster_id=cluster_id, fresh=layout is None), _nodes_sql(nodes)]
        for group, layout in enumerate(layouts)
    ]
    runs = [link.run(_in_transaction("\n;\n".join(text))) for link, text in zip(links, texts, strict=True)]
    for result in await asyncio.gather(*runs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def register_nodes(links: Sequence[Link], nodes: Sequence[Node]) -> None:
    """Tell every group where all nodes answer now: hosts and ports may change at a restart."""
    for link in links:
        await link.run(_in_transaction(_nodes_sql(nodes)))


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
    groups = {
        group: Group(id=group, nodes=tuple(node for node in nodes if node.group == group))
        for group in sorted({node.group for node in nodes})
    }
    ids = {row["name"]: KeyspaceId(row["id"]) for row in raw["keyspaces"]}
    keyspaces = {ids[row["name"]]: _keyspace(row, raw["shards"]) for row in raw["keyspaces"]}
    tables: dict[TableName, Table] = {}
    for row in raw["tables"]:
        if row is not None:
            tables[row["schema"], row["name"]] = _table(row, ids)
    return ClusterMap(epoch=raw["epoch"], groups=groups, keyspaces=keyspaces, tables=tables)


def _node(row: dict[str, Any]) -> Node:
    return Node(
        id=row["id"], group=GroupId(row["group_id"]), host=row["host"], port=row["port"],
        database=row["database"], region=row["region"], zone=row["zone"],
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
    "register_nodes",
]
