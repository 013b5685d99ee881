"""Putting the catalog into the groups' databases, and reading where the groups are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import store
from pgherd.catalog.model import Node

CONNECT_S = 10.0


def install(nodes: Sequence[Node], *, password: str | None = None) -> None:
    """Install the catalog into the nodes' databases (one node for each group, in group order); again is fine."""
    asyncio.run(_install(nodes, Credentials(user="postgres", password=password)))


async def _install(nodes: Sequence[Node], credentials: Credentials) -> None:
    links: list[ServerLink] = []
    try:
        for node in nodes:
            link = await connect(node, credentials, timeout=CONNECT_S)
            links.append(link)
        await store.install(links, nodes)
    finally:
        for link in links:
            link.close()
