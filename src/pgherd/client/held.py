"""One connection to a node, with the statements prepared on it. `pool` lends them."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from pgherd.catalog.model import Key, ShardId
from pgherd.engine.metering import Meter

STATEMENTS_MAX = 500  # prepared statements kept on one connection
Timing = tuple[Meter, ShardId, Key | None, bool]
_DOUBTS = frozenset({"01000", "57P01"})  # SQLSTATEs of a cancelled wait for the standby


class Held:
    """An open connection. Used by one task at a time.

    `dirty`: it is closed when it is given back, instead of lent again. `doubted`: a commit on it did not wait for the
    standby to the end, so nobody knows whether it will last. `sure`: neither doubted, nor without a proof that its
    node is the primary: an answer counts as it is. Timers and notices set it before the task that waits for an answer
    wakes up, so looking at it then is as good as looking at the clock.
    """

    __slots__ = ("connection", "dirty", "doubted", "due", "generation", "pid", "statements", "sure")

    def __init__(self, connection: asyncpg.Connection, generation: int = 0) -> None:
        self.connection = connection
        self.pid = connection.get_server_pid()  # asyncpg cannot tell it any more when the connection is lost
        self.generation = generation
        self.statements: dict[str, PreparedStatement] = {}
        self.dirty = False
        self.doubted = False
        self.sure = True
        self.due: Timing | None = None  # the next bound statement is timed

    def noticed(self, _connection: Any, message: Any) -> None:
        """Look at a notice of the server. asyncpg calls this before the statement's answer is handed out."""
        if message.sqlstate in _DOUBTS and (
            message.server_source_function == "SyncRepWaitForLSN"
            or "for synchronous replication" in message.message
        ):
            self.doubted = self.dirty = True
            self.sure = False

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
        protocol = connection._protocol
        if protocol is None:  # given up meanwhile
            raise asyncpg.ConnectionDoesNotExistError("the connection was closed")
        answer = protocol.bind_execute(state, args, "", limit, True, timeout)
        return answer if self.due is None else self._timed(answer)

    async def _timed(self, answer: Awaitable[Any]) -> Any:
        """A statement that stands for a few in what is known of its shard's load."""
        assert self.due is not None
        meter, shard, key, write = self.due
        self.due = None
        sample = meter.begin(shard, key, write)
        found = await answer
        meter.end(sample)
        return found

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

    def abort(self) -> None:
        """Close the connection at once; a statement that runs on it fails. Who holds it still gives it back."""
        self.dirty = True
        self.sure = False
        self.connection.terminate()
