"""From a DSN to a database object: find the nodes, read the cluster map from group 0."""

from __future__ import annotations

from contextlib import suppress

import asyncpg

from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, Group, GroupId, Node
from pgherd.client.database import Database
from pgherd.client.held import GroupPool, Held
from pgherd.client.link import AsyncpgLink
from pgherd.client.options import Options
from pgherd.errors import GroupDown, PgherdError

NODES = "SELECT id, group_id, host, port, database FROM pgherd.nodes ORDER BY group_id, id"


class NotACluster(PgherdError):
    """What answers at the DSN has no pgherd schema."""

    sqlstate = "3F000"


async def open_database(options: Options) -> Database:
    """Connect. Raises GroupDown, NotACluster."""
    map_ = await _first_map(options, await _nodes(options))
    return Database(options, map_)


async def _nodes(options: Options) -> list[Node]:
    connection = await options.first()
    try:
        rows = await connection.fetch(NODES)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise NotACluster(
            "there is no pgherd cluster at this address",
            hint="Start one with `pgherd up`, and use the DSN it prints.",
        ) from error
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await connection.close(timeout=2)
    return [
        Node(
            id=row["id"],
            group=GroupId(row["group_id"]),
            host=row["host"],
            port=row["port"],
            database=row["database"],
        )
        for row in rows
    ]


async def _first_map(options: Options, nodes: list[Node]) -> ClusterMap:
    """The map from group 0's primary, or from the next group that answers."""
    failure: PgherdError = NotACluster("the cluster's metadata names no node")
    for node in nodes:
        group = Group(id=node.group, nodes=(node,))
        pool = GroupPool(group, options.to, size=1, wait_max=options.wait_max)
        try:
            held: Held = await pool.wait()
        except GroupDown as error:
            failure = error
            continue
        try:
            return await store.load(AsyncpgLink(pool, held))
        finally:
            pool.give(held)
            await pool.close()
    raise failure
