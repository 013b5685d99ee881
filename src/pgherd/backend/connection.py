"""One connection to one PostgreSQL server, over the raw wire protocol.

It writes messages, and hands what comes back to its queue of units. It implements `engine.link.Link`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol, cast

from pgherd.backend.dial import CancelLine, dial
from pgherd.backend.greeting import Credentials, Greeting
from pgherd.backend.state import SessionState, state_of
from pgherd.backend.types import TypeMap
from pgherd.backend.units import (
    ERROR,
    Collector,
    CopyOut,
    Unit,
    error_fields,
)
from pgherd.catalog.model import GroupId, Node
from pgherd.engine.link import Params, Part, Row, TextRows
from pgherd.engine.params import BoundParams
from pgherd.errors import ConnectionLost, GroupDown, PgherdError, ServerError
from pgherd.gateway import wire

SYNC = b"S\x00\x00\x00\x04"
COPY_DONE = b"c\x00\x00\x00\x04"
DESCRIBE_PORTAL = b"D\x00\x00\x00\x06P\x00"
EXECUTE_ALL = b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00"
PREPARED_MAX = 500  # named statements kept on one server connection
_TIMEOUTS = frozenset({"25P03", "25P04"})
_NOT_DONE = frozenset({"57P01", "57P03"})
COPY_CHUNK_BYTES = 64 * 1024


_int32 = struct.Struct(">i").unpack_from


def text_row(message: bytes) -> Row:
    """The values of a DataRow message whose columns are in text form."""
    values: list[str | None] = []
    at = 7
    while at < len(message):
        size = _int32(message, at)[0]
        at += 4
        if size < 0:
            values.append(None)
        else:
            values.append(message[at : at + size].decode("utf-8", "replace"))
            at += size
    return tuple(values)


# A peer whose machine is gone is given up after half a minute, and its locks with it.
_KEEP_ALIVE = ((socket.SO_KEEPALIVE, socket.SOL_SOCKET, 1), *(
    (getattr(socket, name), socket.IPPROTO_TCP, value)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
    if hasattr(socket, name)
))  # fmt: skip


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel find out when the other side has vanished without a word."""
    line = transport.get_extra_info("socket")
    if line is not None:
        for option, level, value in _KEEP_ALIVE:
            with contextlib.suppress(OSError):
                line.setsockopt(level, option, value)


class Home(Protocol):
    """Where a lent connection goes back to."""

    def give(self, link: ServerLink) -> None: ...


class Guard(Protocol):
    """Knows whether the answers of a connection to a managed group's primary count."""

    def steady(self, link: ServerLink) -> bool: ...

    async def hold(self, link: ServerLink) -> None:
        """Wait until they do, or the connection is broken."""
        ...


class Timeout(GroupDown):
    """The server ended the connection because a timeout of the session's own had passed."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M", "the server ended the connection"))
        self.sqlstate = fields["C"]  # type: ignore[misc]  # idle_in_transaction_session_timeout, transaction_timeout


class ServerLink(asyncio.Protocol):
    """See the module. Used by one session at a time; `owner` says which."""

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.loop = loop
        self.need = 0
        self.status = 0x49
        self.types: TypeMap | None = None
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.secret = b""
        self.applied: SessionState | None = state_of(())
        self.strayed = False  # a statement changed settings, or may have: nobody else may get them
        self.prepared: OrderedDict[bytes, None] = OrderedDict()
        self.type_names: dict[tuple[int, int], str] = {}  # by OID and modifier
        self.on_parameter: Callable[[str, str], None] | None = None
        self.on_notice: Callable[[bytes], None] | None = None
        self.on_close: Callable[[ServerLink], None] | None = None
        self.on_writable: Callable[[bool], None] | None = None
        self.cancelling = (
            0  # cancel requests on their way: whoever got the connection now might be hit instead
        )
        self.on_cancelled: Callable[[ServerLink], None] | None = None
        self.idle_since = 0.0
        self.farewell: dict[str, str] | None = None  # the server's last error, a fatal one
        self.turns = 0  # units ended so far
        self.tls: ssl.SSLContext | None = None
        self.pool: Home | None = None
        self.guard: Guard | None = None
        self.replica = False  # one node of several, for reads alone
        self.watched = (
            False  # to the primary of a managed group: only while it is trusted do its answers count
        )
        self._units: deque[Unit] = deque()
        self._rest = bytearray()
        self._transport: asyncio.Transport | None = None
        self._lost: PgherdError | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None

    # ---- the transport ---------------------------------------------------------------------------------

    @property
    def group(self) -> GroupId:
        return self.node.group

    @property
    def broken(self) -> bool:
        return self._lost is not None

    @property
    def busy(self) -> bool:
        return bool(self._units)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            if len(self._rest) < self.need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        pos = 0
        size = len(data)
        while pos < size:
            before = pos
            pos = self._units[0].feed(self, data, pos) if self._units else self._stray(data, pos)
            if pos == before:
                break
            if pos < size and self._units and size - pos < 5:
                self.need = 5
                break
        if pos < size:
            self._rest += data[pos:] if pos else data

    def _stray(self, data: bytes, pos: int) -> int:
        """A message that no unit waits for: notices, notifications, parameter changes, the server's farewell."""
        if len(data) - pos < 5:
            self.need = 5
            return pos
        end = pos + 1 + int.from_bytes(data[pos + 1 : pos + 5], "big")
        if end > len(data):
            self.need = end - pos
            return pos
        if data[pos] == 0x53:
            self.parameter_status(data, pos, end)
        elif data[pos] == ERROR:
            self.farewell = error_fields(data, pos, end)
        elif data[pos] in b"AN" and self.on_notice is not None:
            self.on_notice(data[pos:end])
        return end

    def connection_lost(self, exc: Exception | None) -> None:
        if self.farewell is not None and self.farewell.get("C") in _TIMEOUTS:
            self._fail(Timeout(self.farewell))
            return
        self._fail(
            self._loss(f"lost the connection to group {self.group} ({self.node.host}:{self.node.port})")
        )

    def _loss(self, message: str) -> ConnectionLost:
        error = ConnectionLost(message)
        error.watched = self.watched or self.replica
        error.replica = self.replica
        return error

    def _fail(self, error: PgherdError) -> None:
        if self._lost is not None:
            return
        self._lost = error
        units, self._units = self._units, deque()
        for unit in units:
            unit.lost(error)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.on_close is not None:
            self.on_close(self)

    def pause_writing(self) -> None:
        self._paused = True
        if self.on_writable is not None:
            self.on_writable(False)

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.on_writable is not None:
            self.on_writable(True)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()

    def close(self) -> None:
        """End the connection politely; nothing is waited for."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"X\x00\x00\x00\x04")
            self._transport.close()
        self._fail(self._loss(f"the connection to group {self.group} was closed"))

    async def _drain(self) -> None:
        if self._paused and self._lost is None:
            self._drained = self.loop.create_future()
            await self._drained

    # ---- units -----------------------------------------------------------------------------------------

    def send(self, data: bytes, *units: Unit) -> None:
        """Write `data`, whose answers `units` will read (one for each Sync or Query in it)."""
        if self._lost is not None:
            for unit in units:
                unit.lost(self._lost)
            return
        self._units.extend(units)
        assert self._transport is not None
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """More bytes for the unit under way (COPY data)."""
        if self._lost is None and self._transport is not None:
            self._transport.write(data)

    def ended(self) -> None:
        """The first unit has seen its ReadyForQuery."""
        self._units.popleft()
        self.turns += 1

    def parameter_status(self, data: bytes, pos: int, end: int) -> None:
        name, value = data[pos + 5 : end - 1].split(b"\0", 1)
        key, text = name.decode(), value.decode("utf-8", "replace")
        if self.parameters.get(key, text) != text:
            self.strayed = True
        self.parameters[key] = text
        if self.on_parameter is not None:
            self.on_parameter(key, text)

    def remember(self, name: bytes) -> bytes:
        """Note that a named statement is being made here; answers the Close messages to send before, if there are too many."""
        self.prepared[name] = None
        if len(self.prepared) <= PREPARED_MAX:
            return b""
        old, _ = self.prepared.popitem(last=False)
        return wire.close_statement(old.decode())

    async def _collect(self, data: bytes) -> Collector:
        if self.guard is not None and not self.guard.steady(self):
            await self.guard.hold(self)
        unit = Collector(self.loop, self.on_notice)
        self.send(data, unit)
        try:
            return await unit.future
        except asyncio.CancelledError:
            # The answer will still come; whoever holds the link must not lend it on before.
            raise

    # ---- Link ------------------------------------------------------------------------------------------

    async def run(self, sql: str) -> list[Row]:
        unit = await self._collect(wire.query(sql))
        return [text_row(row) for row in unit.rows]

    async def do(self, sql: str) -> None:
        await self._collect(wire.query(sql))

    async def open(self, sql: str) -> None:
        await self.do(sql)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._fail(self._loss(f"the connection to group {self.group} was given up"))

    @property
    def surely_not_done(self) -> bool:
        """After the connection was lost: what ran here was rolled back. A server that shuts down in order says so only then."""
        last = self.farewell
        return last is not None and last.get("V") == "FATAL" and last.get("C") in _NOT_DONE

    async def exchange(self, data: bytes) -> Collector:
        """Send messages that end in one Sync or Query, and collect the answer."""
        return await self._collect(data)

    def bound(self, sql: str, params: BoundParams) -> bytes:
        """Parse, Bind, Describe, Execute, Sync of one statement, unnamed."""
        oids = self.types.inward(params.oids) if self.types else params.oids
        tail = params.bind_tail()
        bind = b"B" + (len(tail) + 6).to_bytes(4, "big") + b"\0\0" + tail
        return wire.parse("", sql, oids) + bind + DESCRIBE_PORTAL + EXECUTE_ALL + SYNC

    async def _run_bound(self, sql: str, params: BoundParams) -> Collector:
        try:
            return await self._collect(self.bound(sql, params))
        except ServerError as error:
            error.sent = sql
            raise

    async def part(self, sql: str, params: Params) -> Part:
        assert isinstance(params, BoundParams)
        unit = await self._run_bound(sql, params)
        columns = unit.description
        if columns is not None and self.types is not None:
            columns = self.types.row_description(columns)
        return Part(rows=unit.rows, tag=unit.tag, columns=columns)

    async def texts(self, sql: str, params: Params) -> TextRows:
        assert isinstance(params, BoundParams)
        unit = await self._run_bound(sql, params.as_text())
        fields = wire.read_row_description(unit.description[5:]) if unit.description else ()
        await self._learn_types({(field.oid, field.typmod) for field in fields})
        return TextRows(
            names=tuple(field.name for field in fields),
            types=tuple(self.type_names[field.oid, field.typmod] for field in fields),
            rows=[text_row(row) for row in unit.rows],
            tag=unit.tag,
        )

    async def _learn_types(self, wanted: set[tuple[int, int]]) -> None:
        missing = sorted(wanted - self.type_names.keys())
        if missing:
            rows = ", ".join(f"({oid}::oid, {modifier})" for oid, modifier in missing)
            for oid, modifier, name in await self.run(
                f"SELECT o, m, pg_catalog.format_type(o, m) FROM (VALUES {rows}) AS t(o, m)"
            ):
                self.type_names[int(oid or 0), int(modifier or 0)] = name or ""

    async def copy_in(self, sql: str, chunks: AsyncIterator[bytes]) -> int:
        unit = Collector(self.loop, self.on_notice)
        unit.copying = self.loop.create_future()
        self.send(wire.query(sql), unit)
        if await unit.copying:
            try:
                async for chunk in chunks:
                    if unit.future.done():
                        break  # the server refused a row: it reads and drops the rest
                    for at in range(0, len(chunk), COPY_CHUNK_BYTES * 16):
                        self.write(wire.copy_data(chunk[at : at + COPY_CHUNK_BYTES * 16]))
                    await self._drain()
            except BaseException as error:
                self.write(wire.copy_fail(str(error) or "cancelled"))
                with contextlib.suppress(ServerError):
                    await unit.future
                raise
            self.write(COPY_DONE)
        done = await unit.future
        return int(done.tag.rsplit(" ", 1)[-1] or 0)

    async def copy_out(self, sql: str) -> AsyncIterator[bytes]:
        unit = CopyOut()
        self.send(wire.query(sql), unit)
        async for chunk in unit.chunks(self):
            yield chunk

    async def cancel(self) -> None:
        """Ask the server to cancel what runs here, over a connection of its own (protocol 3.0, CancelRequest)."""
        turn = self.turns
        self.cancelling += 1
        try:
            async with asyncio.timeout(5):
                line = await dial(self.node, self.loop, self.tls, lambda: CancelLine(self.loop))
                try:
                    if self.busy and self.turns == turn:
                        line.write(wire.cancel_request(self.pid, self.secret))
                        await line.closed  # the server closes when it has passed it on
                finally:
                    line.close()
        except (OSError, TimeoutError, GroupDown):
            pass
        finally:
            self.cancelling -= 1
            if not self.cancelling and self.on_cancelled is not None:
                waiting, self.on_cancelled = self.on_cancelled, None
                waiting(self)


async def connect(
    node: Node,
    credentials: Credentials,
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    socket_path: str | None = None,
    startup: Mapping[str, str] | None = None,
) -> ServerLink:
    """A logged-in connection to `node`, over its Unix socket if one is given; `startup`: further parameters, such as replication.

    Raises GroupDown within `timeout` seconds, or the server's own refusal.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            if socket_path is not None:
                _, link = await loop.create_unix_connection(lambda: ServerLink(node, loop), socket_path)
            else:
                link = await dial(node, loop, tls, lambda: ServerLink(node, loop))
                link.tls = tls
            greeting = Greeting(credentials, loop)
            parameters = {
                "user": credentials.user,
                "database": node.database,
                "application_name": "pgherd",
                "client_encoding": "UTF8",
                **(startup or {}),
            }
            link.send(wire.startup(parameters), greeting)
            try:
                await greeting.future
            except BaseException:
                link.close()
                raise
            return link
    except (OSError, TimeoutError) as error:
        raise GroupDown(
            f"group {node.group} does not answer at {node.host}:{node.port}",
            hint="See pgherd status; other groups keep answering.",
        ) from error
