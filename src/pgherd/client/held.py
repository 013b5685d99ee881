"""One connection to a group's primary, with the statements prepared on it, and the pool that lends it.

asyncpg's own pool resets a connection on each release, which costs a round trip. Connections here are lent as
they are: whoever changes a session's state marks it `dirty`, and it is closed instead of lent again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from pgherd.catalog.model import Group, GroupId
from pgherd.errors import GroupDown

STATEMENTS_MAX = 500  # prepared statements kept on one connection


class Held:
    """An open connection. Used by one task at a time."""

    __slots__ = ("connection", "dirty", "generation", "statements")

    def __init__(self, connection: asyncpg.Connection, generation: int = 0) -> None:
        self.connection = connection
        self.generation = generation
        self.statements: dict[str, PreparedStatement] = {}
        self.dirty = False

    async def prepared(self, sql: str, timeout: float | None = None) -> PreparedStatement:
        """The prepared statement for `sql`, kept for the next time."""
        found = self.statements.get(sql)
        return found if found is not None else await self.prepare(sql, timeout)

    async def prepare(self, sql: str, timeout: float | None = None) -> PreparedStatement:
        """Prepare `sql` now and keep it; the oldest goes when there are too many."""
        statement = await self.connection.prepare(sql, timeout=timeout)
        if len(self.statements) >= STATEMENTS_MAX:
            del self.statements[next(iter(self.statements))]
        self.statements[sql] = statement
        return statement

    def bound(
        self, statement: PreparedStatement, args: Sequence[Any], limit: int, timeout: float | None
    ) -> Awaitable[tuple[list[Any], bytes | None, bool]]:
        """Run a prepared statement: at most `limit` rows (0: all), the command tag, whether it ended.

        What PreparedStatement does, without its four coroutines around each call. Who calls reads the schema anew on an
        OutdatedSchemaCacheError (`reread`).
        """
        connection: Any = self.connection
        state: Any = statement._state  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportPrivateUsage]
        return connection._protocol.bind_execute(state, args, "", limit, True, timeout)

    async def reread(self) -> None:
        """Forget what is known of types and statements: they were redefined."""
        self.statements.clear()
        await self.connection.reload_schema_state()

    def forget(self, sql: str) -> None:
        """Prepare `sql` anew the next time: what it reads was redefined."""
        self.statements.pop(sql, None)

    @property
    def lost(self) -> bool:
        """Whether the connection is closed, by whomever."""
        return self.connection.is_closed()


Connector = Callable[[Group], Awaitable["asyncpg.Connection"]]


class GroupPool:
    """At most `size` connections to one group's primary. `take` and `give` are plain calls where nothing must wait."""

    __slots__ = (
        "_connect",
        "_open",
        "_waiters",
        "closed",
        "generation",
        "group",
        "idle",
        "size",
        "wait_max",
    )

    def __init__(self, group: Group, connect: Connector, *, size: int, wait_max: float) -> None:
        self.group = group
        self.size = size
        self.wait_max = wait_max
        self.closed = False
        self.generation = 0
        self._connect = connect
        self.idle: list[Held] = []
        self._open = 0
        self._waiters: deque[asyncio.Future[Held | None]] = deque()

    def take(self) -> Held | None:
        """An idle connection at once, or None: then `await wait()`."""
        return self.idle.pop() if self.idle else None

    async def wait(self) -> Held:
        """A connection: idle, new, or the next that is given back. Raises GroupDown after `wait_max` seconds."""
        while self.idle:
            held = self.idle.pop()
            if not held.lost:
                return held
            self.drop(held)
        if self.closed:
            raise asyncpg.InterfaceError("the database object is closed")
        if self._open < self.size:
            return await self._opened()
        return await self._next_given()

    async def overdraw(self) -> Held:
        """A connection at once, a new one if none is idle, even beyond `size`: for transactions, whose number is bounded."""
        if self.idle:
            return await self.wait()
        if self.closed:
            raise asyncpg.InterfaceError("the database object is closed")
        return await self._opened()

    async def _opened(self) -> Held:
        self._open += 1
        try:
            return Held(await self._connect(self.group), self.generation)
        except BaseException:
            self._gone()
            raise

    async def _next_given(self) -> Held:
        waiter: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.wait_max):
                held = await waiter
        except TimeoutError:
            raise GroupDown(
                f"no connection to group {self.group.id} became free within {self.wait_max:g} s",
                hint="Raise max_size, or look for transactions that stay open.",
            ) from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (given := waiter.result()) is not None:
                self.give(given)
            raise
        return held if held is not None and not held.lost else await self._instead(held)

    async def _instead(self, lost: Held | None) -> Held:
        if lost is not None:
            self.drop(lost)
        return await self.wait()

    def give(self, held: Held) -> None:
        """Take a connection back. A dirty or outdated one is closed; a lost one is noticed when it is lent again."""
        if held.dirty or held.generation != self.generation or self.closed:
            self.drop(held)
            return
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(held)
                return
        if self._open > self.size:
            self.drop(held)
        else:
            self.idle.append(held)

    def drop(self, held: Held) -> None:
        """Close a connection that must not be lent again."""
        held.connection.terminate()
        self._gone()

    def _gone(self) -> None:
        self._open -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)  # there is room for a new connection: open it
                return

    def retire(self) -> None:
        """Let no connection that is open now be lent again."""
        self.generation += 1
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close what is not lent: settings or codecs changed."""
        while self.idle:
            self.drop(self.idle.pop())

    async def close(self) -> None:
        """Close idle connections politely; lent ones close when they are given back."""
        self.closed = True
        idle, self.idle = self.idle, []
        self._open -= len(idle)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for held in idle:
            try:
                await held.connection.close(timeout=2)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                held.connection.terminate()


def down(group: GroupId, address: str, error: BaseException) -> GroupDown:
    """The error for a primary that does not answer."""
    what = str(error) or type(error).__name__
    return GroupDown(
        f"group {group} ({address}) does not answer: {what}",
        hint="Statements that need only other groups go on working. Try again when it is back.",
    )
