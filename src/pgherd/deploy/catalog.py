"""Putting the catalog into the groups' databases, and telling it where the nodes are."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog import store
from pgherd.catalog.model import GroupId, Node
from pgherd.errors import GroupDown

CONNECT_S = 10.0


def install(nodes: Sequence[Node], *, password: str | None = None, managed: Collection[GroupId] = ()) -> None:
    """Install the catalog in all groups and register `nodes`, all nodes of the cluster; again is fine.

    `managed`: the groups whose primary Patroni chooses; each of their nodes needs a name. Raises GroupDown if a group has no primary.
    """
    asyncio.run(_install(nodes, Credentials(user="postgres", password=password), managed))


async def _install(nodes: Sequence[Node], credentials: Credentials, managed: Collection[GroupId]) -> None:
    links: list[ServerLink] = []
    try:
        for group in sorted({node.group for node in nodes}):
            links.append(await primary(nodes, group, credentials))  # noqa: PERF401 (those made so far are closed)
        await store.install(links)
        await catalog_nodes.register(catalog_nodes.Held(links), nodes, managed=managed)
    finally:
        for link in links:
            link.close()


async def primary(nodes: Sequence[Node], group: GroupId, credentials: Credentials) -> ServerLink:
    """A connection to the primary of a group, found among its nodes. Raises GroupDown if none of them is it."""
    problem: GroupDown | None = None
    for node in nodes:
        if node.group != group:
            continue
        try:
            link = await connect(node, credentials, timeout=CONNECT_S)
        except GroupDown as error:
            problem = error
            continue
        if (await link.run("SELECT pg_is_in_recovery()"))[0][0] == "f":
            return link
        link.close()
    raise problem or GroupDown(f"no node of group {group} is its primary", hint="See pgherd status.")
