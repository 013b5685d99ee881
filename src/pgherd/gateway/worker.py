"""What the fast path does not do: one unit at a time, in a task, message by message.

Errors end the statement as in PostgreSQL: in the extended protocol everything up to the next Sync is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgherd.backend.units import LENGTH
from pgherd.engine.params import BoundParams
from pgherd.errors import (
    Cancelled,
    PgherdError,
    ProtocolViolation,
    Refused,
    ServerError,
    SyntaxRefused,
    UnknownCursor,
    UnknownStatement,
)
from pgherd.gateway import wire
from pgherd.gateway.describe import describe_cursor, describe_portal, describe_statement
from pgherd.gateway.outcomes import transaction_lost
from pgherd.gateway.prepared import Prepared
from pgherd.gateway.present import present
from pgherd.gateway.running import Mode, Runner
from pgherd.gateway.session import READY

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink
    from pgherd.gateway.session import ClientSession

_SYNC = 0x53
_BIND_COMPLETE = b"2\x00\x00\x00\x04"
_PARSE_COMPLETE = b"1\x00\x00\x00\x04"
_CLOSE_COMPLETE = b"3\x00\x00\x00\x04"
_COPY_KINDS = frozenset(b"dcf")


@dataclass(slots=True, kw_only=True)
class Portal:
    """A bound statement. `rows` and `tag` hold what is left of an answer that we collected, `server` where one waits."""

    prepared: Prepared
    params: BoundParams
    rows: list[bytes] | None = None
    tag: str = ""
    sent: int = 0
    server: tuple[ServerLink, str] | None = None
    ended: bool = False


class Worker:
    """Lives as long as its session; `run` works off one unit."""

    __slots__ = ("_open", "runner", "session")

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.runner = Runner(session, self)
        self._open = False

    async def run(self) -> None:
        session = self.session
        try:
            await self._unit()
        except PgherdError as error:
            session.fatal(error)
        except asyncio.CancelledError:
            session.close()
            raise
        except Exception:  # the last line of defence: the client hears of it, the log has the rest
            session.gateway.log.exception("internal error")
            session.fatal(PgherdError("internal error", hint="The gateway's log has the details."))
        finally:
            session.flush()
            session.idle()

    async def _unit(self) -> None:
        session = self.session
        skipping = False
        while True:
            frame = await self.next_frame()
            if frame is None:
                return
            kind, body = frame
            if kind == 0x51:
                await self._simple(body)
                return
            if kind == _SYNC:
                await self._sync()
                return
            if kind == 0x58:
                session.close()
                return
            if kind in _COPY_KINDS:
                # Left over from a COPY that failed: PostgreSQL ignores them as well.
                if not session.pending and not skipping and not self._open:
                    return
                continue
            if skipping:
                continue
            self._open = True
            try:
                await self._extended(kind, body)
            except PgherdError as error:
                await self.fail(error)
                skipping = True
            except Exception:
                await self._bug()
                skipping = True

    # ---- frames ----------------------------------------------------------------------------------------

    async def next_frame(self) -> tuple[int, bytes] | None:
        """The next message, waiting for it; None when the client has gone."""
        session = self.session
        pending = session.pending
        while True:
            if len(pending) >= 5:
                length = LENGTH(pending, 1)[0]
                if not session.check_length(length):
                    return None
                if len(pending) > length:
                    kind, body = pending[0], bytes(pending[5 : length + 1])
                    del pending[: length + 1]
                    if session.paused and len(pending) < 100_000:
                        session.unpause()
                    return kind, body
                session.unpause()
            if session.closing:
                return None
            session.flush()
            session.waiting = session.loop.create_future()
            try:
                await session.waiting
            finally:
                session.waiting = None

    def next_is_sync(self) -> bool:
        """Whether the very next message is a Sync that is already here."""
        pending = self.session.pending
        return len(pending) >= 5 and pending[0] == _SYNC

    async def copy_chunks(self) -> AsyncIterator[bytes]:
        """The payloads of the client's CopyData until CopyDone, those that are here joined (libpq sends one for each row).

        Raises when the client sends CopyFail or goes away.
        """
        while True:
            if data := self._copy_data():
                yield data
                continue
            frame = await self.next_frame()
            if frame is None:
                raise Cancelled("the client went away during COPY")
            kind, body = frame
            if kind == 0x64:
                yield body
            elif kind == 0x63:
                return
            elif kind == 0x66:
                raise Cancelled(f"COPY from stdin failed: {wire.read_cstring(body)}")
            elif kind not in b"HS":
                raise ProtocolViolation(f"unexpected message type 0x{kind:02X} during COPY from stdin")

    def _copy_data(self) -> bytes:
        """The payloads of the whole CopyData messages that are here."""
        session = self.session
        pending, pos = session.pending, 0
        payloads: list[bytes] = []
        while len(pending) - pos >= 5 and pending[pos] == 0x64:
            length = LENGTH(pending, pos + 1)[0]
            end = pos + 1 + length
            if not 4 <= length <= session.gateway.settings.message_max or end > len(pending):
                break
            payloads.append(pending[pos + 5 : end])
            pos = end
        if pos:
            del pending[:pos]
            if session.paused and len(pending) < 100_000:
                session.unpause()
        return b"".join(payloads)

    # ---- simple ----------------------------------------------------------------------------------------

    async def _simple(self, body: bytes) -> None:
        try:
            text = wire.read_cstring(body)
            await self._statements(text, body[:-1])
        except PgherdError as error:
            await self.fail(error)
        except Exception:
            await self._bug()
        await self._ready()

    async def _statements(self, text: str, raw: bytes) -> None:
        session = self.session
        texts = self.runner.split(text)
        if not texts:
            session.write(b"I\x00\x00\x00\x04")
            return
        alone = len(texts) == 1
        for position, sql in enumerate(texts):
            prepared = await self.runner.prepare(sql)
            if alone and prepared.fast and session.plans is not None:
                session.plans.learn_text(raw, text, prepared)
            mode = Mode(simple=True, alone=alone, last=position == len(texts) - 1)
            await self.runner.run(prepared, BoundParams(), mode)
        await self.runner.end_implicit()

    # ---- extended --------------------------------------------------------------------------------------

    async def _extended(self, kind: int, body: bytes) -> None:
        match kind:
            case 0x50:
                await self._parse(body)
            case 0x42:
                await self._bind(body)
            case 0x44:
                await self._describe(body)
            case 0x45:
                await self._execute(body)
            case 0x43:
                self._close(body)
            case 0x48:
                self.session.flush()
            case 0x46:
                raise Refused("the function call protocol is not supported", hint="Use SELECT function(...).")
            case _:
                self.session.fatal(ProtocolViolation(f"invalid frontend message type {kind}"))

    async def _parse(self, body: bytes) -> None:
        session = self.session
        message = wire.read_parse(body)
        name = message.name.encode()
        if name and name in session.named:
            raise DuplicateStatement(f'prepared statement "{message.name}" already exists')
        if not name:
            session.named.pop(name, None)
        prepared = await self.runner.prepare(message.sql, message.oids)
        session.named[name] = prepared
        if not name and session.plans is not None:
            session.plans.learn_body(body, prepared)
        session.write(_PARSE_COMPLETE)

    async def statement(self, name: str) -> Prepared:
        """A prepared statement by name, planned for the present map. Raises UnknownStatement."""
        session = self.session
        prepared = session.named.get(name.encode())
        if prepared is None:
            what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise UnknownStatement(f"{what} does not exist")
        if prepared.plans is not session.plans:
            old, prepared = prepared, await self.runner.prepare(prepared.sql, prepared.oids)
            await self._same_columns(old, prepared)
            session.named[name.encode()] = prepared
        return prepared

    async def _same_columns(self, old: Prepared, new: Prepared) -> None:
        """What was described to the client must hold for as long as its statement does, as in PostgreSQL. Raises ServerError."""
        if old.described is None or self.session.failed:
            return
        if await describe_statement(self.runner, new) != old.described:
            raise ServerError(
                {
                    "S": "ERROR",
                    "V": "ERROR",
                    "C": "0A000",
                    "M": "cached plan must not change result type",
                    "R": "RevalidateCachedQuery",
                }
            )

    async def _bind(self, body: bytes) -> None:
        session = self.session
        message = wire.read_bind(body)
        prepared = await self.statement(message.statement)
        if message.portal and message.portal in session.portals:
            raise DuplicateCursor(f'cursor "{message.portal}" already exists')
        params = BoundParams(prepared.oids, message.formats, message.values, message.result_formats)
        session.portals[message.portal] = Portal(prepared=prepared, params=params)
        session.write(_BIND_COMPLETE)

    def portal(self, name: str) -> Portal:
        found = self.session.portals.get(name)
        if not isinstance(found, Portal):
            raise UnknownCursor(f'portal "{name}" does not exist')
        return found

    async def _describe(self, body: bytes) -> None:
        what, name = wire.read_describe(body)
        if what == "S":
            parameters, row = await describe_statement(self.runner, await self.statement(name))
            self.session.write(parameters + row)
        elif name not in self.session.portals and name in self.session.cursors:
            self.session.write(await describe_cursor(self.runner.cursor_link(name), name))
        else:
            portal = self.portal(name)
            _, row = await describe_statement(self.runner, portal.prepared)
            self.session.write(describe_portal(row, portal.params.result_formats))

    async def _execute(self, body: bytes) -> None:
        name, limit = wire.read_execute(body)
        if name not in self.session.portals and name in self.session.cursors:
            await self.runner.resume((self.runner.cursor_link(name), name), limit)
            return
        portal = self.portal(name)
        session = self.session
        if portal.rows is not None:
            self._slice(portal, limit)
        elif portal.server is not None:
            await self.runner.resume(portal.server, limit)
        elif portal.ended:
            session.write(wire.command_complete(portal.tag or f"{portal.prepared.plan.tag} 0"))
        else:
            alone = session.tx is None and self.next_is_sync()
            mode = Mode(simple=False, alone=alone, last=alone, limit=limit, portal=portal)
            await self.runner.run(portal.prepared, portal.params, mode)

    def _slice(self, portal: Portal, limit: int) -> None:
        """Send the next rows of an answer that we hold."""
        assert portal.rows is not None
        session = self.session
        upto = len(portal.rows) if limit == 0 else min(len(portal.rows), portal.sent + limit)
        session.write(b"".join(portal.rows[portal.sent : upto]))
        portal.sent = upto
        if upto < len(portal.rows):
            session.write(b"s\x00\x00\x00\x04")
            return
        portal.rows = None
        portal.ended = True
        session.write(wire.command_complete(portal.tag))

    def _close(self, body: bytes) -> None:
        what, name = wire.read_describe(body)
        if what == "S":
            self.session.named.pop(name.encode(), None)
        else:
            portal = self.session.portals.pop(name, None)
            if isinstance(portal, Portal) and portal.server is not None:
                self.runner.close_portal(*portal.server)
        self.session.write(_CLOSE_COMPLETE)

    async def _sync(self) -> None:
        try:
            await self.runner.end_implicit()
        except PgherdError as error:
            await self.fail(error)
        await self._ready()

    # ---- ends ------------------------------------------------------------------------------------------

    async def _ready(self) -> None:
        session = self.session
        self._open = False
        if session.tx is None:
            session.portals.clear()
        await session.drain()
        session.write(READY[session.status])
        session.flush()

    async def _bug(self) -> None:
        """A fault of pgherd's own: the statement fails, the log has the traceback, the session goes on."""
        self.session.gateway.log.exception("internal error")
        await self.fail(PgherdError("internal error", hint="The gateway's log has the details."))

    async def fail(self, error: PgherdError) -> None:
        """Tell the client, and abort what the error aborts."""
        session = self.session
        tx = session.tx
        if tx is not None and not session.failed:
            error = transaction_lost(error)
        fields = error.fields if isinstance(error, ServerError) else {}
        told = fields if tx is None else tx.told(fields)
        await self.runner.abort_implicit()
        if session.tx is not None:
            session.failed = True
            session.tx.fail()
        if isinstance(error, ServerError):
            session.write(wire.error_response(present(told, error.sent)))
        else:
            session.write(wire.error_response_from(error))


class DuplicateStatement(SyntaxRefused):
    """A prepared statement of this name exists."""

    sqlstate = "42P05"


class DuplicateCursor(SyntaxRefused):
    """A cursor of this name exists."""

    sqlstate = "42P03"
