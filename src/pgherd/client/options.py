"""How a client connects: what `pgherd.connect` was given."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import asyncpg

from pgherd.catalog.model import Node
from pgherd.client import address
from pgherd.client.pool import down
from pgherd.errors import BadSetting, GroupDown
from pgherd.plan.keyspace_settings import no_session_setting
from pgherd.topology.freshness import STRONG, Freshness

# Settings that would change what routed statements mean, or break distributed commits.
_FIXED = frozenset(
    {"session_authorization", "session_replication_role", "synchronous_commit", "transaction_isolation"}
)
T = TypeVar("T")
# Who answers like this may be down, or going down: the DSN's next address may do better.
_CLOSING = (asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
_NEXT_DOOR = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, *_CLOSING)
_TOO_QUIET = frozenset({"error", "fatal", "panic"})


def quiet(level: str | None) -> bool:
    """Whether servers would not show warnings at this client_min_messages."""
    return (level or "").strip("'\"").lower() in _TOO_QUIET


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One call of set_type_codec."""

    name: str
    schema: str
    encoder: Callable[..., Any]
    decoder: Callable[..., Any]
    format: str

    async def apply(self, connection: asyncpg.Connection) -> None:
        """Let a connection use it."""
        kind: Any = self.format
        await connection.set_type_codec(
            self.name, schema=self.schema, encoder=self.encoder, decoder=self.decoder, format=kind
        )


async def equipped(connection: asyncpg.Connection, codecs: Sequence[Codec]) -> asyncpg.Connection:
    """The connection with these codecs; closed if it cannot have them."""
    try:
        for codec in codecs:
            await codec.apply(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`max_size`: connections to one group. Times in seconds: `connect_timeout` for a connection to come up,
    `wait_max` for one to come free, `command_timeout` for a statement (None: no bound).
    `failover_wait`: how long a statement waits for a group's primary. `region`, `zone`: where this process is, to find the
    nearest node. `read`: how fresh reads must be that do not say it themselves.
    `load_every`: one of so many statements of one shard is timed (0: none), to know how busy each shard is.
    `asyncpg`: further keyword arguments of asyncpg.connect (ssl, user, password ...).
    """

    dsn: str | None
    max_size: int = 10
    connect_timeout: float = 5.0
    wait_max: float = 30.0
    command_timeout: float | None = None
    failover_wait: float = 20.0
    region: str = ""
    zone: str = ""
    read: Freshness = STRONG
    load_every: int = 8
    server_settings: Mapping[str, str] = field(default_factory=dict[str, str])
    asyncpg: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.load_every < 0:
            raise BadSetting("load_every must be 0 (count no load) or more")
        if self.max_size < 1:
            raise BadSetting("max_size must be at least 1")
        for name, value in self.server_settings.items():
            if name.lower() in _FIXED:
                raise BadSetting(f"server setting {name} cannot be changed by a client")
            no_session_setting(name.lower())
            if name.lower() == "client_min_messages" and quiet(value):
                raise BadSetting(
                    f"server setting {name} cannot be {value}: warnings say whether a commit is safe"
                )

    @property
    def path(self) -> tuple[str, ...]:
        """The search path: schema names, without those that never hold tables of the map."""
        text = self.server_settings.get("search_path", "public")
        names = (part.strip().strip('"') for part in text.split(","))
        return tuple(name for name in names if name and name != "$user")

    def replace(self, **changes: Any) -> Options:
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    async def first(self, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """What `ask` learns from what the DSN names: gateways or any nodes, the first that answers. Raises GroupDown."""
        failure: Exception | None = None
        for door in address.doors(self.dsn):
            try:
                connection = await self._connection(**door)
                try:
                    async with asyncio.timeout(self.connect_timeout):
                        return await ask(connection)
                finally:
                    connection.terminate()
            except _NEXT_DOOR as error:
                failure = error
        raise GroupDown(
            f"cannot connect to {self.dsn or 'the default server'}: {failure or type(failure).__name__}"
        ) from failure

    async def to(self, node: Node) -> asyncpg.Connection:
        """A connection to one node. Raises GroupDown within `connect_timeout`."""
        try:
            return await self._connection(
                host=node.host, port=node.port, database=node.database, target_session_attrs="any"
            )
        except (OSError, TimeoutError, asyncpg.PostgresConnectionError, *_CLOSING) as error:
            raise down(node, error) from error

    async def _connection(self, **where: Any) -> asyncpg.Connection:
        settings = {"application_name": "pgherd", **self.server_settings}
        return await asyncpg.connect(
            self.dsn,
            timeout=cast(int, self.connect_timeout),  # asyncpg takes fractions as well
            command_timeout=self.command_timeout,
            server_settings=settings,
            **{**self.asyncpg, **where},
        )
