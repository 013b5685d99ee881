"""Connections of a workflow's process to the groups' primaries, with the administrator's rights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.engine.link import Row
from pgherd.errors import GroupDown, PgherdError

CONNECT_S = 5.0
ANSWER_S = 2.0
SILENT_S = 15.0
IDLE_MAX = 4

# the same text for the same value on every server
TEXTS = (
    "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; "
    "SET extra_float_digits = 1; SET xmloption = 'content'; SET lc_monetary = 'C'; SET row_security = off; SET search_path = pg_catalog; "
    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET standard_conforming_strings = on"
)


class Places:
    """A `transaction.perform.Lender`. `seeds`: nodes of group 0, asked for the map; `refresh` reads it again."""

    def __init__(self, seeds: Iterable[Node], credentials: Credentials, **dialling: Any) -> None:
        self.seeds = tuple(seeds)
        self.credentials = credentials
        self.dialling = dialling
        self.cluster: ClusterMap | None = None
        self.cluster_id = ""
        self.last: dict[GroupId, Node] = {}
        self._idle: dict[GroupId, list[ServerLink]] = {}
        self._open: WeakSet[ServerLink] = WeakSet()  # to primaries; lent, idle or kept by somebody
        self._closed = False
        self._silent: dict[
            int, float
        ] = {}  # nodes that did not answer, and until when they are not asked again

    @property
    def map(self) -> ClusterMap:
        """The cluster map as last read."""
        assert self.cluster is not None, "refresh first"
        return self.cluster

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """All groups, ascending."""
        return tuple(sorted(self.map.groups))

    async def refresh(self) -> ClusterMap:
        """Read the map from group 0. Raises GroupDown."""
        link = await self.lend(GroupId(0))
        try:
            self.cluster = await store.load(link)
            self.cluster_id = (await link.run("SELECT id FROM pgherd.cluster"))[0][0] or ""
        finally:
            self.give_back(link)
        return self.cluster

    def nodes(self, group: GroupId) -> tuple[Node, ...]:
        """Where the group may answer, the last primary first."""
        known = self.cluster.groups.get(group) if self.cluster is not None else None
        nodes = known.nodes if known is not None else self.seeds if group == 0 else ()
        last = self.last.get(group)
        return tuple(sorted(nodes, key=lambda node: last is None or node.id != last.id))

    async def open(self, group: GroupId, *, replication: bool = False) -> ServerLink:
        """A new connection to the primary. Raises GroupDown."""
        failure: PgherdError = GroupDown(f"there is no group {group}")
        startup = {"replication": "database"} if replication else {}
        for node in self.nodes(group):
            try:
                link = await connect(
                    node, self.credentials, timeout=CONNECT_S, startup=startup, **self.dialling
                )
            except PgherdError as error:
                failure = error
                continue
            try:
                async with asyncio.timeout(CONNECT_S):
                    if await self._leads(link, group):
                        await link.do(TEXTS)
                        self._found(group, node)
                        self._open.add(link)
                        return link
                failure = GroupDown(f"group {group} has no primary just now")
            except (PgherdError, TimeoutError) as error:
                failure = (
                    error
                    if isinstance(error, PgherdError)
                    else GroupDown(f"group {group} does not answer at {node.host}:{node.port}")
                )
            except BaseException:  # whoever wanted it was cancelled
                link.close()
                raise
            link.close()
        raise failure

    async def _leads(self, link: ServerLink, group: GroupId) -> bool:
        """Whether the node takes writes, and nobody can have taken its place: in a managed group it holds a lease."""
        rows = await link.run("SELECT pg_catalog.pg_is_in_recovery(), pgherd.lease_ms()")
        recovering, lease_ms = rows[0]
        managed = self.cluster is not None and group in self.cluster.groups and self.map.groups[group].managed
        if recovering != "f":
            return False
        return not managed if lease_ms is None else int(lease_ms) > 0

    def _found(self, group: GroupId, node: Node) -> None:
        """The primary is `node`. Who waits for another one that led before waits in vain: it may be cut off, and never answer."""
        last = self.last.get(group)
        if last is not None and last.id != node.id:
            self._idle.pop(group, None)
            for link in [link for link in self._open if link.group == group and link.node.id != node.id]:
                link.abort()
        self.last[group] = node

    async def find_primary(self, group: GroupId) -> None:
        """Ask who leads: the one that led last, and if it does not say so at once, all. Raises GroupDown."""
        try:
            async with asyncio.timeout(ANSWER_S), self.link(group) as link:
                if await self._leads(link, group):
                    return
        except (PgherdError, OSError, TimeoutError):
            pass
        self.give_back(await self.open(group))

    def standbys(self, group: GroupId) -> tuple[Node, ...]:
        """The group's other nodes, as far as the primary is known."""
        last = self.last.get(group)
        return tuple(node for node in self.nodes(group) if last is not None and node.id != last.id)

    async def dial(self, node: Node) -> ServerLink:
        """A connection to just this node, whatever it is; the caller closes it. Raises GroupDown."""
        return await connect(node, self.credentials, timeout=CONNECT_S, **self.dialling)

    def fell_silent(self, node: Node) -> None:
        """A node that is not the primary did not answer."""
        self._silent[node.id] = time.monotonic() + SILENT_S

    def is_silent(self, node: Node) -> bool:
        """Whether it did not answer a moment ago: what can wait need not wait for it each time."""
        return time.monotonic() < self._silent.get(node.id, 0.0)

    # ---- the Lender --------------------------------------------------------------------------------------

    async def lend(self, group: GroupId) -> ServerLink:
        """A connection, used before or new."""
        idle = self._idle.get(group, [])
        while idle:
            link = idle.pop()
            if not link.broken:
                return link
            link.close()
        return await self.open(group)

    def give_back(self, link: Any, *, reusable: bool = True) -> None:
        """Keep it for the next one, or close it."""
        assert isinstance(link, ServerLink)
        idle = self._idle.setdefault(link.group, [])
        usable = reusable and not link.broken and not link.busy and link.status == 0x49
        if usable and len(idle) < IDLE_MAX and not self._closed:
            idle.append(link)
        else:
            link.close()

    @asynccontextmanager
    async def link(self, group: GroupId) -> AsyncGenerator[ServerLink]:
        """A connection for the block."""
        link = await self.lend(group)
        try:
            yield link
        except BaseException:
            self.give_back(link, reusable=False)
            raise
        self.give_back(link)

    async def ask(self, group: GroupId, sql: str) -> list[Row]:
        """Run a text on a group's primary."""
        async with self.link(group) as link:
            return await link.run(sql)

    def close(self) -> None:
        """Close what is idle, and what is given back from now on."""
        self._closed = True
        for links in self._idle.values():
            for link in links:
                link.close()
        self._idle.clear()
