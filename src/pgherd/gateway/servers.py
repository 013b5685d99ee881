"""The cluster's nodes as one gateway reaches them: connections, pools, and who is primary now."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from pgherd.backend.backends import Backends
from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.backend.managed import same_place
from pgherd.backend.pool import DEFAULT_STATE, PoolLimits
from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.errors import GroupDown, ServerError
from pgherd.gateway import tls
from pgherd.gateway.settings import GatewaySettings, is_loopback
from pgherd.topology import clock
from pgherd.topology.choose import Choice, Place
from pgherd.topology.freshness import EVENTUAL, Freshness
from pgherd.topology.watch import Watch, WatchSettings

_NOT_NOW = frozenset({"57P01", "57P02", "57P03"})  # a server that starts, or stops
CHOSEN_MAX = 1_000
_REPLICA_CONNECT_S = 2.0  # the primary answers instead of a replica that does not


class Servers:
    """`watch` says who is primary, `backends` has the connections; `follow` them through a new map."""

    def __init__(self, settings: GatewaySettings, on_epoch: Callable[[int], None]) -> None:
        self.settings = settings
        self.admin = Credentials(user=settings.admin_user, password=settings.admin_password)
        mode = "disable" if settings.server_tls == "off" else settings.server_tls
        authority = Path(settings.server_ca) if settings.server_ca else None
        self.tls: ssl.SSLContext | None = tls.client_context(mode, authority)
        self.watch = Watch(
            self._ask,
            place=Place(region=settings.region, zone=settings.zone),
            settings=WatchSettings(failover_wait_s=settings.failover_wait),
            on_primary=self._on_primary,
            on_epoch=on_epoch,
        )
        limits = PoolLimits(
            connections=settings.pool_size, wait=settings.pool_wait, failover=settings.failover_wait
        )
        self.backends = Backends(self._connect, limits, self.watch)
        self._turn = count()
        self._chosen: dict[tuple[GroupId, Freshness], tuple[Choice, float]] = {}

    def follow(self, cluster: ClusterMap) -> None:
        """Watch and reach the nodes of this map from now on."""
        self.watch.follow(cluster)
        self.backends.remap({node for group in cluster.groups.values() for node in group.nodes})

    async def first_primaries(self, groups: Iterable[GroupId], wait_s: float) -> None:
        """Wait a moment for each group's primary to be known. Those that have none are not waited for longer."""
        found = (self.watch.wait_primary(group, wait_s) for group in groups)
        await asyncio.gather(*found, return_exceptions=True)

    async def close(self) -> None:
        """End all connections."""
        await self.watch.close()
        self.backends.close()

    # ---- who is primary --------------------------------------------------------------------------------

    def _on_primary(self, group: GroupId, node: Node | None) -> None:
        if node is not None:
            self.backends.lead(group, node)

    def steady(self, link: ServerLink) -> bool:
        """Whether the answers of a connection to a primary still count: its node is trusted at this moment."""
        node = self.watch.trusted(link.group)
        return node is not None and same_place(node, link.node)

    async def hold(self, link: ServerLink) -> None:
        """Wait until the answers of `link` count, or it is broken: its group has another primary, or none came in time."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self.settings.failover_wait
        while not link.broken and not self.steady(link):
            left = deadline - clock.time()
            if left <= 0:
                link.abort()
                return
            try:
                await self.watch.wait_primary(link.group, min(left, 0.2))
            except GroupDown:
                continue
            if not self.steady(link):  # paused as well, or it changes just now
                await asyncio.sleep(0.01)

    async def ready(self, groups: Iterable[GroupId], doubt: bool) -> None:
        """Wait until each group has a primary; with `doubt`, until that has answered. Raises GroupDown, TooManyWaiting."""
        for group in groups:
            if self.watch.primary(group) is None:
                await self.watch.wait_primary(group)
            if doubt and self.watch.managed(group):
                await self.watch.position(group)

    def choice(self, group: GroupId, freshness: Freshness) -> Choice:
        """As `Watch.choose` (for other levels than session); a choice is kept for a moment."""
        now = clock.now()
        kept = self._chosen.get((group, freshness))
        if kept is not None and now < kept[1] and (kept[0].role == "replica" or self.watch.primary(group)):
            return kept[0]
        wanted, kept_s = freshness.kept()
        found = self.watch.choose(group, wanted)
        if len(self._chosen) > CHOSEN_MAX:
            self._chosen.clear()
        self._chosen[group, freshness] = (found, now + kept_s)
        return found

    def stand_in(self, group: GroupId) -> Node | None:
        """A replica for what every node can tell, if the group has no primary now."""
        if self.watch.primary(group) is not None:
            return None
        choice = self.watch.choose(group, EVENTUAL)
        return choice.node if choice.role == "replica" else None

    def readiest(self, groups: Iterable[GroupId]) -> list[GroupId]:
        """The groups, those that have a primary now before the others."""
        return sorted(groups, key=lambda group: (self.watch.primary(group) is None, group))

    async def readable(self, groups: Iterable[GroupId]) -> ServerLink:
        """A connection of the gateway's own to where roles can be looked up: they are the same in every group and node."""
        failure = GroupDown("no group of the cluster answers", hint="See pgherd status.")
        for group in self.readiest(groups):
            pools = [self.backends.pool(group, self.admin)]
            node = self.stand_in(group)
            if node is not None:
                pools.insert(0, self.backends.replica(node, self.admin))
            for pool in pools:
                try:
                    return await pool.take(DEFAULT_STATE, 0.0)
                except GroupDown as error:
                    failure = error
        raise failure

    def turn(self, groups: tuple[GroupId, ...]) -> GroupId:
        """One of the groups, in turn; one that has a primary, if any has."""
        first = next(self._turn)
        for offset in range(len(groups)):
            group = groups[(first + offset) % len(groups)]
            if self.watch.primary(group) is not None:
                return group
        return groups[first % len(groups)]

    # ---- connections -----------------------------------------------------------------------------------

    async def connect(self, node: Node, credentials: Credentials, timeout: float) -> ServerLink:
        """A connection to one node. Raises GroupDown, or the server's refusal of the login."""
        try:
            return await connect(
                node, credentials, timeout=timeout, tls=self.tls, socket_path=self._socket(node)
            )
        except ServerError as error:
            if error.code in _NOT_NOW:
                raise GroupDown(
                    f"group {node.group} does not answer at {node.host}:{node.port}: {error.message}"
                ) from error
            raise

    async def _ask(self, node: Node) -> ServerLink:
        return await self.connect(node, self.admin, self.watch.settings.open_s)

    async def _connect(self, group: GroupId, credentials: Credentials, node: Node | None) -> ServerLink:
        if node is not None:
            return await self.connect(
                node, credentials, min(_REPLICA_CONNECT_S, self.settings.connect_timeout)
            )
        primary = self.watch.primary(group) or self.watch.trusted(group)
        if primary is None:
            raise GroupDown(self.watch.reason(group))
        link = await self.connect(primary, credentials, self.settings.connect_timeout)
        if self.watch.managed(group):
            link.guard = self
        try:
            if self.watch.managed(group) and link.parameters.get("in_hot_standby") == "on":
                raise GroupDown(f"group {group}: {primary.host}:{primary.port} is a standby now")
            if credentials.user != self.settings.admin_user:
                await link.run(
                    "SELECT pgherd.ensure_mappings()"
                )  # the role may be younger than the last start
        except BaseException:
            link.close()
            raise
        return link

    def _socket(self, node: Node) -> str | None:
        """The Unix socket of a node on this machine, if we were told where it may be and it is there."""
        if not is_loopback(node.host):
            return None
        paths = (f"{directory}/.s.PGSQL.{node.port}" for directory in self.settings.sockets)
        return next((path for path in paths if os.path.exists(path)), None)  # noqa: PTH110 a pool's cold path


class AdminLender:
    """Lends the gateway's own connections: for gates, recovery and the like. It waits for nobody: without a primary, GroupDown."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def lend(self, group: GroupId) -> ServerLink:
        servers = self._servers
        return await servers.backends.pool(group, servers.admin).take(DEFAULT_STATE, 0.0)

    def give_back(self, link: Any, *, reusable: bool = True) -> None:
        if not reusable:
            link.close()
        link.pool.give(link)
