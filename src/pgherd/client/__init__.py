"""The client: the cluster in the application's own process, with asyncpg's habits.

    async with pgherd.connect("postgresql://localhost:6432/app") as db:
        row = await db.fetchrow("SELECT * FROM users WHERE id = $1", 5)
        async with db.transaction() as tx:
            await db.execute("UPDATE users SET credit = credit - 1 WHERE id = $1", 5)

The DSN names a gateway or any node. The client reads the cluster map there and then talks to the owners directly.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from pgherd.client import address
from pgherd.client.bootstrap import open_database
from pgherd.client.branches import Crowded
from pgherd.client.cursor import Cursor
from pgherd.client.database import Database
from pgherd.client.options import Options
from pgherd.client.session import Session
from pgherd.client.transaction import Transaction
from pgherd.topology.freshness import STRONG, Freshness, parse_freshness

__all__ = [
    "Connecting",
    "Crowded",
    "Cursor",
    "Database",
    "Freshness",
    "Options",
    "Session",
    "Transaction",
    "connect",
]


class Connecting:
    """What `connect` answers: `await` it, or use it as an async context manager."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._database: Database | None = None

    def __await__(self) -> Generator[Any, None, Database]:
        return open_database(self._options).__await__()

    async def __aenter__(self) -> Database:
        self._database = await open_database(self._options)
        return self._database

    async def __aexit__(self, *_: object) -> None:
        if self._database is not None:
            await self._database.close()


def connect(
    dsn: str | None = None,
    *,
    max_size: int = 10,
    connect_timeout: float = 5.0,
    wait_max: float = 30.0,
    command_timeout: float | None = None,
    failover_wait: float = 20.0,
    read: str | Freshness = STRONG,
    region: str = "",
    zone: str = "",
    load_every: int = 8,
    server_settings: Mapping[str, str] | None = None,
    **asyncpg_options: Any,
) -> Connecting:
    """Connect to a cluster: `db = await pgherd.connect(dsn)`, or `async with pgherd.connect(dsn) as db:`.

    `dsn` is a gateway's or any node's. `max_size` bounds the connections to each group for single statements, and the
    transactions that are open at once. `failover_wait` bounds the wait for a group's primary. `read`: how fresh reads must be that do
    not say it themselves: "strong", "session", "bounded 5s", "eventual". `region` and `zone`: where this process is. The
    last four may stand in the DSN: `?pgherd.read=session&pgherd.zone=a`. One of `load_every` statements of one
    shard is timed for the balance of shards, and the sums are reported to group 0 (0: none). `asyncpg_options` (user, password, ssl ...) go to asyncpg.connect.
    Raises GroupDown when nothing answers, PgherdError when what answers is not a pgherd cluster.
    """
    bare, own = address.split(dsn)
    level = own.get("read", read)
    return Connecting(
        Options(
            dsn=bare,
            max_size=max_size,
            connect_timeout=connect_timeout,
            wait_max=wait_max,
            command_timeout=command_timeout,
            failover_wait=address.seconds(own["failover_wait"]) if "failover_wait" in own else failover_wait,
            read=parse_freshness(level) if isinstance(level, str) else level,
            region=own.get("region", region),
            zone=own.get("zone", zone),
            load_every=load_every,
            server_settings=server_settings or {},
            asyncpg=asyncpg_options,
        )
    )
