"""What reads a server's answers: one unit for each ReadyForQuery that the server will send.

A connection keeps a queue of units; bytes go to the first one until it has seen its ReadyForQuery. `Relay` hands
bytes on without decoding them, `Collector` keeps them for our own use, the COPY units stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from pgherd.errors import OutcomeUnknown, PgherdError, ServerError
from pgherd.gateway import wire

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink

LENGTH = Struct(">I").unpack_from

READY = 0x5A  # Z
ERROR = 0x45  # E
PARSE_COMPLETE = 0x31  # 1
ROW_DESCRIPTION = 0x54  # T
DATA_ROW = 0x44  # D
COMMAND_COMPLETE = 0x43  # C
PARAMETER_STATUS = 0x53  # S
COPY_IN = 0x47  # G
COPY_OUT = 0x48  # H
COPY_DATA = 0x64  # d
NOTICE = 0x4E  # N
NOTIFICATION = 0x41  # A
PARAMETER_DESCRIPTION = 0x74  # t
NO_DATA = 0x6E  # n

# Messages that a relay need not look at, and those that the answers to our own Parse and Bind add.
PLAIN = frozenset(b"D2C3sIntcdHGWVA")
PARSED = frozenset(b"1")
PARSED_AND_BOUND = frozenset(b"12")
NOTHING: frozenset[int] = frozenset()
TAGS = frozenset(b"C")
_WAITS = b"\0RSyncRepWaitForLSN\0"  # the function that raises it, whatever language its message is in
_FAREWELLS = frozenset({"57P01", "57P02", "57P03"})


class Sink(Protocol):
    """Where a relay's bytes go: a client's session."""

    def forward(self, link: ServerLink, data: bytes) -> None: ...


class Unit:
    """Reads one unit. `feed` answers the new position; it stops early when a message is not complete."""

    __slots__ = ()

    def feed(self, link: ServerLink, data: bytes, pos: int) -> int:
        raise NotImplementedError

    def lost(self, error: PgherdError) -> None:
        """The connection broke before the unit ended."""
        raise NotImplementedError


def error_fields(data: bytes, pos: int, end: int) -> dict[str, str]:
    """The fields of the ErrorResponse or NoticeResponse whose message starts at `pos`."""
    fields: dict[str, str] = {}
    for part in data[pos + 5 : end].split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields


def cancelled_wait(data: bytes, pos: int, end: int) -> bool:
    """Whether a notice says that a commit is not known to be on the standby: its wait was cancelled (01000) or cut (57P01).

    The success that follows means no more than that this server has it (postgres-facts, syncrep.c).
    """
    return data.find(_WAITS, pos, end) > 0


def unreplicated() -> OutcomeUnknown:
    """What to say instead of such a success."""
    return OutcomeUnknown(
        "the server stopped waiting for its standby during the commit, which a failover may undo",
        hint="Look before you repeat it.",
    )


class Relay(Unit):
    """Hands a unit's bytes on to `sink` as they are, but for the kinds of message in `drop`.

    `keep_ready`: the client sees the ReadyForQuery (its own Sync or Query ends here). At the end `done(relay, lost)` is called;
    `error` then holds the ErrorResponse's fields, if there was one. `hold` chooses which errors are kept back
    instead of being sent (`held` says that one was), so that the statement can be sent again or reported otherwise;
    it is asked only while nothing has been sent, unless `hold_late`. `unsure`: the commit's wait for the standby was
    cancelled: the client gets an error in place of its command tag (the caller's business if `hold_late`).
    """

    __slots__ = (
        "done",
        "drop",
        "error",
        "forwarded",
        "held",
        "hold",
        "hold_late",
        "keep_ready",
        "parsed",
        "plain",
        "rewrite",
        "sink",
        "status",
        "tag",
        "unsure",
    )

    def __init__(
        self,
        sink: Sink,
        done: Callable[[Relay, PgherdError | None], None],
        *,
        drop: frozenset[int] = NOTHING,
        plain: frozenset[int] = PLAIN,
        keep_ready: bool = True,
        hold: Callable[[dict[str, str]], bool] | None = None,
        hold_late: bool = False,
        rewrite: Callable[[dict[str, str]], bytes] | None = None,
    ) -> None:
        self.sink = sink
        self.done = done
        self.drop = drop
        self.plain = plain
        self.keep_ready = keep_ready
        self.hold = hold
        self.hold_late = hold_late
        self.rewrite = rewrite
        self.error: dict[str, str] | None = None
        self.tag = ""
        self.forwarded = False
        self.held = False
        self.parsed = False
        self.unsure = False
        self.status = 0

    def feed(self, link: ServerLink, data: bytes, pos: int) -> int:
        start = pos
        size = len(data)
        plain = self.plain
        pieces: list[bytes] = []  # what precedes `start`, if something was replaced: sent in one go
        while True:
            if size - pos < 5:
                link.need = 5
                break
            end = pos + 1 + LENGTH(data, pos + 1)[0]
            if end > size:
                link.need = end - pos
                break
            kind = data[pos]
            if kind in plain:
                pos = end
            elif kind == READY:
                return self._ready(link, data, start, pos, end, pieces)
            else:
                replacement = self._special(link, kind, data, pos, end)
                plain = self.plain
                if replacement is not None:
                    if self.held:
                        pieces = self._said_before(b"".join((*pieces, data[start:pos])))
                    else:
                        pieces += (data[start:pos], replacement)
                    start = end
                pos = end
        self._send(link, data, start, pos, pieces)
        return pos

    def _ready(
        self, link: ServerLink, data: bytes, start: int, pos: int, end: int, pieces: list[bytes]
    ) -> int:
        self.status = link.status = data[pos + 5]
        link.ended()
        if not self.keep_ready:
            self._send(link, data, start, pos, pieces)
        elif not self.held:
            self._send(link, data, start, end, pieces)
        self.done(self, None)
        return end

    def _send(self, link: ServerLink, data: bytes, start: int, end: int, pieces: list[bytes]) -> None:
        """Hand on `pieces` and what is between `start` and `end`, as one write: each costs a system call, and wakes the client."""
        if pieces:
            pieces.append(data[start:end])
            whole = b"".join(pieces)
            if whole:
                self.forwarded = True
                self.sink.forward(link, whole)
        elif start < end:
            self.forwarded = True
            self.sink.forward(link, data if end - start == len(data) else data[start:end])

    def _said_before(self, data: bytes) -> list[bytes]:
        """What goes to the client although the error behind it is held: notices. Rows do not: the statement may run again."""
        kept: list[bytes] = []
        pos = 0
        while self.hold_late and pos < len(data):
            end = pos + 1 + LENGTH(data, pos + 1)[0]
            if data[pos] == NOTICE:
                kept.append(data[pos:end])
            pos = end
        return kept

    def _special(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bytes | None:
        """What to send instead of one unusual message; None: the message itself."""
        if kind == ERROR:
            self.error = error_fields(data, pos, end)
            if self.error.get("V") in ("FATAL", "PANIC"):
                link.farewell = self.error
                return b""  # the server's farewell: the lost connection is what the client hears of
            if self.hold is not None and (self.hold_late or not self.forwarded) and self.hold(self.error):
                self.held = True
                return b""
            return self.rewrite(self.error) if self.rewrite else None
        if kind == NOTICE:
            return self._notice(data, pos, end)
        if kind == PARSE_COMPLETE:
            self.parsed = True
        elif kind == COMMAND_COMPLETE:
            self.tag = data[pos + 5 : end - 1].decode("utf-8", "replace")
        elif kind == PARAMETER_STATUS:
            link.parameter_status(data, pos, end)
        if kind in self.drop:
            return b""
        if kind == ROW_DESCRIPTION and link.types is not None:
            return link.types.row_description(data[pos:end])
        return None

    def _notice(self, data: bytes, pos: int, end: int) -> bytes | None:
        """Most are the client's. A server's farewell is not: nothing of the answer has been sent with it."""
        if cancelled_wait(data, pos, end):
            self.unsure = True
            self.plain, self.drop = self.plain - TAGS, self.drop | TAGS
            return b"" if self.hold_late else wire.error_response_from(unreplicated())
        return b"" if error_fields(data, pos, end).get("C") in _FAREWELLS else None

    def lost(self, error: PgherdError) -> None:
        self.done(self, error)


class Framed(Unit):
    """A unit that looks at each message by itself: `message` says whether the unit has ended with it."""

    __slots__ = ()

    def message(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bool:
        raise NotImplementedError

    def feed(self, link: ServerLink, data: bytes, pos: int) -> int:
        size = len(data)
        while True:
            if size - pos < 5:
                link.need = 5
                return pos
            end = pos + 1 + LENGTH(data, pos + 1)[0]
            if end > size:
                link.need = end - pos
                return pos
            ended = self.message(link, data[pos], data, pos, end)
            pos = end
            if ended:
                return pos


def ready(link: ServerLink, data: bytes, pos: int) -> None:
    """The unit's ReadyForQuery has come."""
    link.status = data[pos + 5]
    link.ended()


class Swallow(Framed):
    """Reads a unit that nobody waits for (a pipelined BEGIN). An error is kept for the link's owner to see."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: dict[str, str] | None = None

    def message(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bool:
        if kind == ERROR:
            self.error = error_fields(data, pos, end)
        elif kind == PARAMETER_STATUS:
            link.parameter_status(data, pos, end)
        elif kind == READY:
            ready(link, data, pos)
            return True
        return False

    def lost(self, error: PgherdError) -> None:
        del error


class Collector(Framed):
    """Keeps a unit's messages for our own use; `future` ends at ReadyForQuery.

    `rows`: raw DataRow messages of the last statement with rows, `description` its RowDescription message, `tag` the last
    command tag, `parameters` a ParameterDescription message.
    """

    __slots__ = (
        "copying",
        "description",
        "error",
        "future",
        "notices",
        "parameters",
        "parsed",
        "rows",
        "tag",
        "unsure",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, notices: Callable[[bytes], None] | None = None
    ) -> None:
        self.future: asyncio.Future[Collector] = loop.create_future()
        self.rows: list[bytes] = []
        self.description: bytes | None = None
        self.parameters: bytes | None = None
        self.tag = ""
        self.error: dict[str, str] | None = None
        self.notices = notices
        self.parsed = False
        self.unsure = False
        self.copying: asyncio.Future[bool] | None = None

    def message(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bool:
        if kind == DATA_ROW:
            self.rows.append(data[pos:end])
        elif kind == READY:
            ready(link, data, pos)
            self._finish()
            return True
        else:
            self._other(link, kind, data, pos, end)
        return False

    def _other(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> None:
        if kind == COMMAND_COMPLETE:
            self.tag = data[pos + 5 : end - 1].decode("utf-8", "replace")
        elif kind == ROW_DESCRIPTION:
            self.description = data[pos:end]
            self.rows = []
        elif kind == ERROR:
            self.error = link.farewell = error_fields(data, pos, end)
            if self.copying is not None and not self.copying.done():
                self.copying.set_result(False)
        elif kind == PARAMETER_DESCRIPTION:
            self.parameters = data[pos:end]
        elif kind == PARSE_COMPLETE:
            self.parsed = True
        elif kind == PARAMETER_STATUS:
            link.parameter_status(data, pos, end)
        elif kind == COPY_IN and self.copying is not None and not self.copying.done():
            self.copying.set_result(True)
        elif kind == NOTICE and cancelled_wait(data, pos, end):
            self.unsure = True
        elif kind in (NOTICE, NOTIFICATION) and self.notices is not None:
            self.notices(data[pos:end])

    def _finish(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(ServerError(self.error))
        elif self.unsure:
            self.future.set_exception(unreplicated())
        else:
            self.future.set_result(self)

    def lost(self, error: PgherdError) -> None:
        if self.copying is not None and not self.copying.done():
            self.copying.set_result(False)
        if not self.future.done():
            self.future.set_exception(error)


class CopyOut(Framed):
    """Streams the payloads of COPY ... TO STDOUT, pausing the server while the reader is behind."""

    __slots__ = ("_bytes", "_chunks", "_ended", "_failure", "_got", "_waiter", "error", "header", "tag")

    HIGH_WATER_BYTES = 4 * 1024 * 1024

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._got: list[bytes] = []
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._failure: PgherdError | None = None
        self.error: dict[str, str] | None = None
        self.header: bytes | None = None
        self.tag = ""

    def feed(self, link: ServerLink, data: bytes, pos: int) -> int:
        self._got = []
        pos = super().feed(link, data, pos)
        self._push(link, b"".join(self._got))
        return pos

    def message(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bool:
        if kind == COPY_DATA:
            self._got.append(data[pos + 5 : end])
        elif kind == READY:
            ready(link, data, pos)
            self._ended = True
            return True
        elif kind == ERROR:
            self.error = error_fields(data, pos, end)
        elif kind == COPY_OUT:
            self.header = data[pos:end]
        elif kind == COMMAND_COMPLETE:
            self.tag = data[pos + 5 : end - 1].decode()
        return False

    def _push(self, link: ServerLink, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self._bytes += len(chunk)
            if self._bytes > self.HIGH_WATER_BYTES:
                link.pause_reading()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def lost(self, error: PgherdError) -> None:
        self._failure = error
        self._ended = True
        self._wake()

    async def chunks(self, link: ServerLink) -> AsyncIterator[bytes]:
        """Joined payloads, each a whole number of CopyData messages; raises the server's error at its place."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._bytes -= len(chunk)
                if self._bytes <= self.HIGH_WATER_BYTES:
                    link.resume_reading()
                yield chunk
            if self._ended:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._failure is not None:
            raise self._failure
        if self.error is not None:
            raise ServerError(self.error)
