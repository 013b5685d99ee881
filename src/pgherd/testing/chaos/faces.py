"""The ways into a cluster, alike for the workloads: a gateway spoken to by asyncpg, and the client library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, Protocol

import asyncpg

import pgherd
from pgherd.errors import OutcomeUnknown, PgherdError

Outcome = Literal["done", "refused", "unknown"]
CONNECT_S = 30
STATEMENT_S = 60.0  # every wait of pgherd's own is shorter: this one says that something hangs

# InternalClientError: what asyncpg says when the other side's farewell meets the beginning of a statement
LOST = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    OSError,
    EOFError,
)


class Hanging(Exception):
    """A statement got no answer although every wait has a bound."""


def outcome_of(error: BaseException) -> Outcome:
    """What an error says of the statement (or COMMIT) that met it. Raises Hanging for a bound that did not hold."""
    if isinstance(error, TimeoutError):
        raise Hanging(f"no answer within {STATEMENT_S:g} s") from error
    if isinstance(error, OutcomeUnknown) or getattr(error, "sqlstate", "") in ("08007", "40003"):
        return "unknown"
    if isinstance(error, PgherdError) or (
        isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError)
    ):
        return "refused"
    if isinstance(error, asyncpg.PostgresConnectionError) and getattr(error, "sqlstate", None) == "08006":
        return "refused"  # pgherd's own: the group is down, and nothing was done
    if isinstance(error, LOST):
        return "unknown"
    raise error


class Session(Protocol):
    """What both faces have in common: asyncpg's names, and `token()`."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    def transaction(self, *, isolation: Any = None, readonly: bool = False) -> Any: ...
    async def token(self) -> str: ...


class Face(Protocol):
    """`session` lends one session, with reads of the given freshness; `token`: it has seen what another one saw."""

    name: str

    def session(self, read: str = "strong", token: str | None = None) -> Any: ...
    async def close(self) -> None: ...


class GatewaySession:
    """An asyncpg connection to a gateway."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def execute(self, query: str, *args: Any) -> str:
        return await self._connection.execute(query, *args, timeout=STATEMENT_S)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        return await self._connection.fetch(query, *args, timeout=STATEMENT_S)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._connection.fetchval(query, *args, timeout=STATEMENT_S)

    def transaction(self, *, isolation: Any = None, readonly: bool = False) -> Any:
        return self._connection.transaction(isolation=isolation, readonly=readonly)

    async def token(self) -> str:
        return str(await self.fetchval("SELECT pgherd.session_token()"))


class GatewayFace:
    """Every session is a connection of its own, as an application's pool has them."""

    name = "gateway"

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @asynccontextmanager
    async def session(self, read: str = "strong", token: str | None = None) -> AsyncGenerator[GatewaySession]:
        """A new connection, closed at the end, however that comes."""
        connection = await asyncpg.connect(
            self.dsn, timeout=CONNECT_S, server_settings={"pgherd.read": read} if read != "strong" else None
        )
        try:
            session = GatewaySession(connection)
            if token is not None:
                await session.execute(f"SET pgherd.session_token = '{token}'")
            yield session
        finally:
            with suppress(*LOST, asyncpg.PostgresError, TimeoutError):
                await connection.close(timeout=2)

    async def close(self) -> None:
        """Nothing is kept."""


class ClientFace:
    """One database object for all sessions, as an application's process has it."""

    name = "client"

    def __init__(self, dsn: str, **options: Any) -> None:
        self.dsn = dsn
        self._options = options
        self._db: Any = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def session(self, read: str = "strong", token: str | None = None) -> AsyncGenerator[Session]:
        """A session of the database object."""
        async with self._lock:
            if self._db is None:
                self._db = await pgherd.connect(self.dsn, **self._options)
        async with self._db.session(token=token, read=read) as session:
            yield session

    async def close(self) -> None:
        """Close the database object."""
        if self._db is not None:
            await self._db.close()
