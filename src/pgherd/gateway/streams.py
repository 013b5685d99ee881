"""Answers that are streamed through the gateway: arms of a gathered read, COPY in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from pgherd.backend.connection import ServerLink
from pgherd.backend.units import COMMAND_COMPLETE, COPY_DATA, PARSED_AND_BOUND, PLAIN, Relay
from pgherd.engine import copying
from pgherd.engine.work import Work
from pgherd.errors import Cancelled, PgherdError, ServerError
from pgherd.gateway import wire
from pgherd.plan.plans import CopyIn, CopyOut

if TYPE_CHECKING:
    from pgherd.gateway.running import Runner
    from pgherd.gateway.session import ClientSession

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_SIGNATURE_BYTES = 19  # with flags and extension length
_TRAILER = b"\xff\xff"
_COPY_PLAIN = PLAIN - frozenset(b"HcCd")


Done = Callable[[Relay, PgherdError | None], None]


class Ending:
    """A relay's end as something to wait for."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()

    def done(self, _relay: Relay, lost: PgherdError | None) -> None:
        if self.future.done():
            return
        if lost is not None:
            self.future.set_exception(lost)
        else:
            self.future.set_result(None)


class ArmRelay(Relay):
    """Rows of one group out of several: its command tag is kept, not sent."""

    __slots__ = ()

    def __init__(self, session: ClientSession, done: Done) -> None:
        super().__init__(
            session,
            done,
            drop=PARSED_AND_BOUND | {COMMAND_COMPLETE},
            plain=PLAIN - PARSED_AND_BOUND - {COMMAND_COMPLETE},
            keep_ready=False,
            hold=lambda _fields: True,
            hold_late=True,
        )


class CopyRelay(Relay):
    """One server's COPY ... TO STDOUT as a part of a longer one.

    `first`: its CopyOutResponse and its header (or binary signature) are sent; `last`: its trailer and CopyDone.
    """

    __slots__ = ("_binary", "_first", "_head", "_last")

    def __init__(self, session: ClientSession, done: Done, *, plan: CopyOut, first: bool, last: bool) -> None:
        super().__init__(
            session, done, plain=_COPY_PLAIN, keep_ready=False, hold=lambda _fields: True, hold_late=True
        )
        self._first = first
        self._last = last
        self._binary = plan.binary
        self._head = (plan.header or plan.binary) and not first
        if not self._head and not self._binary:
            self.plain = _COPY_PLAIN | {COPY_DATA}

    def _special(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bytes | None:
        if kind == COPY_DATA:
            return self._data(data, pos, end)
        if kind == 0x48:
            return None if self._first else b""
        if kind == 0x63:
            return None if self._last else b""
        answer = super()._special(link, kind, data, pos, end)
        return b"" if kind == COMMAND_COMPLETE else answer

    def _data(self, data: bytes, pos: int, end: int) -> bytes | None:
        """A CopyData message without what belongs to another arm: a repeated header, a trailer before the end."""
        if not self._binary:
            self._head = False
            self.plain = _COPY_PLAIN | {COPY_DATA}
            return b""
        payload = data[pos + 5 : end]
        head = payload[:_SIGNATURE_BYTES] if payload.startswith(_SIGNATURE) else b""
        rest = payload[len(head) :]
        if rest == _TRAILER and not self._last:
            rest = b""
        if self._first:
            rest = head + rest
        if rest == payload:
            return None
        return wire.copy_data(rest) if rest else b""


async def copy_out(runner: Runner, plan: CopyOut, work: Work) -> str:
    """COPY TO STDOUT: each arm's rows as they come, one after another, as one file. Answers the command tag."""
    session = runner.session
    wrote = runner.session.tx is not None and any(
        branch.wrote for branch in runner.session.tx.branches.values()
    )
    if wrote and len(plan.arms) > 1:
        return await _collected(session, plan, work)
    count = 0
    async with work.tx.reading([group for group, _ in plan.arms]) as links:
        for number, (group, sql) in enumerate(plan.arms):
            link = links[group]
            assert isinstance(link, ServerLink)
            ending = Ending(session.loop)
            relay = CopyRelay(
                session, ending.done, plan=plan, first=number == 0, last=number == len(plan.arms) - 1
            )
            session.flush()
            link.send(wire.query(sql), relay)
            await ending.future
            if relay.error is not None:
                error = ServerError(relay.error, sent=sql)
                error.partial = relay.forwarded or number > 0
                raise error
            count += int(relay.tag.rsplit(" ", 1)[-1] or 0)
    return f"COPY {count}"


async def _collected(session: ClientSession, plan: CopyOut, work: Work) -> str:
    """COPY TO STDOUT of a transaction that wrote what it reads: the engine joins the arms; nobody counts the rows."""
    started = False
    async for chunk in copying.copy_out(plan, work):
        if not started:
            session.write(wire.copy_out_response(binary=plan.binary, columns=0))
            started = True
        session.write(wire.copy_data(chunk))
        await session.drain()
    if not started:
        session.write(wire.copy_out_response(binary=plan.binary, columns=0))
    session.write(b"c\0\0\0\4")
    return "COPY"


async def copy_in(runner: Runner, plan: CopyIn, work: Work) -> str:
    """COPY FROM STDIN: the client's rows, divided. Answers the command tag."""
    session = runner.session
    session.write(wire.copy_in_response(binary=plan.format == "binary", columns=len(plan.columns)))
    session.flush()
    chunks = runner.worker.copy_chunks()
    ended = False

    async def counted() -> AsyncIterator[bytes]:
        nonlocal ended
        async for chunk in chunks:
            yield chunk
        ended = True

    try:
        rows = await copying.copy_in(plan, counted(), work)
    except Cancelled:
        raise
    except PgherdError as error:
        error.partial = True  # the client has sent data that is gone: never again by ourselves
        raise
    return f"COPY {rows}"
