"""Follows the primaries: opens and shuts the doors of the groups' pools as the watch says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg

from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.client.losses import ENDED, LOST
from pgherd.client.options import Options
from pgherd.client.pool import GroupPool
from pgherd.engine.link import Row
from pgherd.errors import GroupDown, ServerError
from pgherd.topology.choose import Place
from pgherd.topology.watch import Watch, WatchSettings


class Asker:
    """The watch's own connection to one node: `topology.node.Asker`."""

    def __init__(self, node: Node, connection: asyncpg.Connection) -> None:
        self._node = node
        self._connection = connection

    @property
    def broken(self) -> bool:
        return self._connection.is_closed()

    async def run(self, sql: str) -> list[Row]:
        """Rows as text. Raises ServerError, GroupDown."""
        try:
            rows = await self._connection.fetch(sql)
        except (*ENDED, *LOST) as error:
            self.abort()
            raise GroupDown(
                f"the connection to {self._node.host}:{self._node.port} was lost: {error}"
            ) from error
        except asyncpg.PostgresError as error:
            raise ServerError({"C": getattr(error, "sqlstate", None) or "XX000", "M": str(error)}) from error
        except BaseException:
            self.abort()  # in mid-statement, and a cancel request would be of no use
            raise
        return [tuple(map(_text, row)) for row in rows]

    def abort(self) -> None:
        """Give the connection up."""
        self._connection.terminate()


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "t" if value else "f"
    return None if value is None else str(value)


class Follow:
    """The watch, and what it does to `pools`. Groups that are not managed are left alone."""

    def __init__(
        self, options: Options, pools: dict[GroupId, GroupPool], on_epoch: Callable[[int], None]
    ) -> None:
        self._options = options
        self._pools = pools
        self._watching = False
        self.watch = Watch(
            self._ask,
            place=Place(region=options.region, zone=options.zone),
            settings=WatchSettings(failover_wait_s=options.failover_wait),
            on_primary=self._primary,
            on_epoch=on_epoch,
        )

    @property
    def watching(self) -> bool:
        """Whether any group is managed: then lost connections may mean a failover."""
        return self._watching

    def renew(self, map_: ClusterMap) -> None:
        """Follow the groups of this map; their pools are there."""
        self._watching = any(group.managed for group in map_.groups.values())
        self.watch.follow(map_)

    def suspect(self, group: GroupId | None = None) -> None:
        """Something happened that a failover would explain: in `group`, or in any."""
        for each in tuple(self._pools) if group is None else (group,):
            self.watch.suspect(each)

    def _primary(self, group: GroupId, node: Node | None) -> None:
        pool = self._pools.get(group)
        if pool is None:
            return
        if node is None:
            pool.close_door()
        else:
            pool.open_door(node)

    async def _ask(self, node: Node) -> Asker:
        options = self._options.replace(command_timeout=None, connect_timeout=2.0, server_settings={})
        return Asker(node, await options.to(node))

    async def close(self) -> None:
        """Stop watching. Who waits for a primary gets GroupDown."""
        self._watching = False
        await self.watch.close()
