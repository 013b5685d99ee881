"""All of a gateway's server connections: pools for primaries, pools for replicas."""

from __future__ import annotations

from collections.abc import Mapping, Set

from pgherd.backend.connection import Credentials, ServerLink
from pgherd.backend.managed import PrimaryPool, same_place
from pgherd.backend.pool import Connect, Pool, PoolLimits
from pgherd.backend.state import IDENTITY
from pgherd.backend.types import TypeMap
from pgherd.catalog.model import GroupId, Node
from pgherd.topology.watch import Watch


class Backends:
    """All pools of one gateway."""

    def __init__(self, connect: Connect, limits: PoolLimits, watch: Watch | None = None) -> None:
        self._connect = connect
        self._limits = limits
        self._watch = watch
        self._pools: dict[tuple[GroupId, str], Pool] = {}
        self._replicas: dict[tuple[int, str], Pool] = {}
        self._types: Mapping[GroupId, TypeMap | None] = {}
        self.links: set[ServerLink] = set()

    def pool(self, group: GroupId, credentials: Credentials) -> Pool:
        """The connections to whoever takes the group's statements."""
        key = (group, credentials.user)
        found = self._pools.get(key)
        if found is None:
            found = self._pools[key] = self._make(group, credentials)
        found.credentials = credentials
        return found

    def _make(self, group: GroupId, credentials: Credentials) -> Pool:
        watch = self._watch
        if watch is not None and watch.managed(group):
            return PrimaryPool(group, credentials, self._open, self._limits, self.links, watch=watch)
        return Pool(group, credentials, self._open, self._limits, self.links)

    def replica(self, node: Node, credentials: Credentials) -> Pool:
        """The connections to one node that is read as a replica."""
        key = (node.id, credentials.user)
        found = self._replicas.get(key)
        if found is None or (found.node is not node and not same_place(found.node or node, node)):
            if found is not None:
                found.close()
            pool = Pool(node.group, credentials, self._open, self._limits, self.links, node)
            found = self._replicas[key] = pool
        found.credentials = credentials
        return found

    async def _open(self, group: GroupId, credentials: Credentials, node: Node | None) -> ServerLink:
        link = await self._connect(group, credentials, node)
        link.types = self._types.get(group)
        self.links.add(link)
        link.on_close = self.links.discard  # until its pool has it
        return link

    def lead(self, group: GroupId, node: Node) -> None:
        """`node` is the primary now: who talks to another one as to the primary is cut off, busy or not."""
        for pool in self._pools.values():
            if pool.group == group and isinstance(pool, PrimaryPool):
                pool.lead(node)
        for link in list(self.links):
            if link.watched and link.group == group and not same_place(link.node, node):
                link.abort()

    def remap(self, nodes: Set[Node]) -> None:
        """Forget the pools of nodes that are gone, and of groups that are managed now or no more."""
        for key, pool in list(self._replicas.items()):
            if pool.node not in nodes:
                del self._replicas[key]
                pool.close()
        watch = self._watch
        for key, pool in list(self._pools.items()):
            if watch is not None and isinstance(pool, PrimaryPool) != watch.managed(pool.group):
                del self._pools[key]
                pool.close()

    def retype(self, types: Mapping[GroupId, TypeMap | None]) -> None:
        """Tell all connections how their group's type OIDs differ from group 0's."""
        self._types = types
        for link in self.links:
            link.types = types.get(link.group)

    def forget_roles(self) -> None:
        """A role was dropped: one of the same name may follow, and SET ROLE on a connection means the old one."""
        for link in self.links:
            if link.applied is not None and any(link.applied.get(name) is not None for name in IDENTITY):
                link.applied = None

    def tidy(self, now: float) -> None:
        for pool in (*self._pools.values(), *self._replicas.values()):
            pool.close_idle(now - self._limits.idle)

    def close(self) -> None:
        for pool in (*self._pools.values(), *self._replicas.values()):
            pool.close()
