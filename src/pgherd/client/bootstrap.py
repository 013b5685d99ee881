"""From a DSN to a database object: find the nodes, read the cluster map from group 0."""

from __future__ import annotations

import asyncpg

from pgherd.catalog.model import ClusterMap, Group, GroupId, Node
from pgherd.client.database import Database
from pgherd.client.options import Options
from pgherd.errors import PgherdError

NODES = (
    "SELECT n.id, n.group_id, n.host, n.port, n.database, n.region, n.zone, n.name, g.managed"
    " FROM pgherd.nodes n JOIN pgherd.groups g ON g.id = n.group_id ORDER BY n.group_id, n.id"
)


class NotACluster(PgherdError):
    """What answers at the DSN has no pgherd schema."""

    sqlstate = "3F000"


async def open_database(options: Options) -> Database:
    """Connect. Raises GroupDown, NotACluster."""
    db = Database(options, await _groups(options))
    try:
        await db.start()
    except BaseException:
        await db.close()
        raise
    return db


async def _groups(options: Options) -> ClusterMap:
    """Where the groups are, as whoever answers at the DSN knows it: a gateway or any node, a standby as well. Their primaries know
    the rest, and better."""
    try:
        rows = await options.first(lambda connection: connection.fetch(NODES))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise NotACluster(
            "there is no pgherd cluster at this address",
            hint="Start one with `pgherd up`, and use the DSN it prints.",
        ) from error
    if not rows:
        raise NotACluster("the cluster's metadata names no node")
    groups: dict[GroupId, Group] = {}
    for row in rows:
        node = _node(row)
        known = groups.get(node.group)
        nodes = (node,) if known is None else (*known.nodes, node)
        groups[node.group] = Group(id=node.group, nodes=nodes, managed=row["managed"])
    return ClusterMap(epoch=-1, groups=groups)


def _node(row: asyncpg.Record) -> Node:
    return Node(
        id=row["id"], group=GroupId(row["group_id"]), host=row["host"], port=row["port"],
        database=row["database"], region=row["region"], zone=row["zone"], name=row["name"],
    )  # fmt: skip
