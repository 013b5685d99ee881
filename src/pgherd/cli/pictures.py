"""What the controller would look at, read by a command: sizes and loads of shards, and how the groups stand."""

from __future__ import annotations

import asyncio

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.balance.assemble import Seen
from pgherd.catalog import store
from pgherd.catalog.model import GroupId, Keyspace
from pgherd.elastic.reading import HOME, read
from pgherd.engine.link import Row
from pgherd.errors import DeployError

CONNECT_S = 5.0
ANSWER_S = 10.0


async def seen(link: ServerLink, password: str | None) -> Seen:
    """Everything, at this moment. `link`: to group 0. Groups that do not answer are not reachable in it."""
    cluster = await store.load(link)
    credentials = Credentials(user="postgres", password=password)

    async def ask(group: GroupId, sql: str) -> list[Row]:
        if group == HOME:
            return await link.run(sql)
        async with asyncio.timeout(ANSWER_S):
            other = await connect(cluster.groups[group].primary, credentials, timeout=CONNECT_S)
            try:
                return await other.run(sql)
            finally:
                other.close()

    return await read(ask)


def keyspace_of(seen: Seen, name: str) -> Keyspace:
    """The keyspace of a table that a command names. Raises DeployError."""
    schema, _, bare = name.rpartition(".")
    table = seen.cluster.tables.get((schema or "public", bare))
    if table is None or table.keyspace is None:
        raise DeployError(f"there is no distributed table {name}", hint="pgherd shards shows them.")
    return seen.cluster.keyspaces[table.keyspace]
