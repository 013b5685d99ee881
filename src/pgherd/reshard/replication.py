"""A replication connection: makes slots, and hands on what a slot streams (PostgreSQL manual, "Streaming Replication Protocol")."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from typing import Any

from pgherd.backend.connection import ServerLink
from pgherd.backend.units import COPY_DATA, ERROR, READY, Framed, error_fields, ready
from pgherd.catalog.model import GroupId, Node
from pgherd.errors import GroupDown, PgherdError, ServerError
from pgherd.gateway import wire
from pgherd.reshard.places import Places

_EPOCH_2000 = 946684800
HIGH_WATER_BYTES = 16 << 20
STANDBY_S = 5.0
_SNAPSHOT_GONE = frozenset({"42704", "22023", "55000"})  # no file, in the words of two versions; no process
_status = struct.Struct(">cQQQQB").pack


def lsn_text(lsn: int) -> str:
    """A position as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_of(text: str) -> int:
    """A position from PostgreSQL's form."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Streaming(Framed):
    """Collects the payloads of a CopyBoth stream. `seen`: how far the source's log has been read."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.bytes = 0
        self.seen = 0
        self.asked = False  # the source wants to hear from us
        self.failure: PgherdError | None = None
        self.came = asyncio.Event()

    def message(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bool:
        if kind == COPY_DATA:
            self._data(link, data, pos + 5, end)
        elif kind == ERROR:
            self.failure = ServerError(error_fields(data, pos, end))
            self.came.set()
        elif kind == READY:
            ready(link, data, pos)
            self.failure = self.failure or GroupDown("the source ended the stream")
            self.came.set()
            return True
        return False

    def _data(self, link: ServerLink, data: bytes, at: int, end: int) -> None:
        if data[at] == 0x77:  # w: XLogData
            self.waiting.append(data[at + 25 : end])
            self.bytes += end - at
            if self.bytes > HIGH_WATER_BYTES:
                link.pause_reading()
        else:  # k: keepalive
            self.asked = self.asked or data[at + 17] == 1
        self.seen = max(self.seen, int.from_bytes(data[at + 1 : at + 9], "big"))
        self.came.set()

    def take(self, link: ServerLink) -> list[bytes]:
        """All payloads that have come."""
        taken = list(self.waiting)
        self.waiting.clear()
        if self.bytes > HIGH_WATER_BYTES:
            link.resume_reading()
        self.bytes = 0
        self.came.clear()
        if self.failure is not None and not taken:
            raise self.failure
        return taken

    def lost(self, error: PgherdError) -> None:
        self.failure = self.failure or error
        self.came.set()


async def start(link: ServerLink, slot: str, publication: str, after: int) -> Streaming:
    """Stream a slot's changes on this replication connection."""
    unit = Streaming()
    options = f"proto_version '1', publication_names '\"{publication}\"', messages 'true'"
    link.send(wire.query(f'START_REPLICATION SLOT "{slot}" LOGICAL {lsn_text(after)} ({options})'), unit)
    return unit


def confirm(link: ServerLink, lsn: int) -> None:
    """Tell the source that everything before `lsn` is safe."""
    now = int((time.time() - _EPOCH_2000) * 1_000_000)
    link.write(wire.copy_data(_status(b"r", lsn, lsn, lsn, now, 0)))


async def create_slot(link: ServerLink, slot: str, *, temporary: bool = False) -> tuple[int, str]:
    """Make a slot; answers its consistent point and the name of its snapshot, which lives while nothing else runs on `link`."""
    rows = await link.run(
        f"CREATE_REPLICATION_SLOT \"{slot}\" {'TEMPORARY ' if temporary else ''}LOGICAL pgoutput (SNAPSHOT 'export')"
    )
    return lsn_of(rows[0][1] or "0/0"), rows[0][2] or ""


async def see(link: ServerLink, snapshot: str) -> None:
    """Begin a transaction that sees what the snapshot of a slot sees. Raises GroupDown when that is gone: its maker's server was started anew."""
    try:
        await link.do(f"BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'")
    except ServerError as error:
        if error.code not in _SNAPSHOT_GONE:
            raise
        raise GroupDown(f"group {link.group} was started anew: a snapshot is gone with it") from error


async def timeline_of(link: ServerLink) -> int:
    """The timeline of a replication connection's server: it grows with each failover."""
    return int((await link.run("IDENTIFY_SYSTEM"))[0][1] or 0)


async def drop_slot(places: Places, group: GroupId, slot: str) -> bool:
    """Drop a slot if it is there, on the primary and on standbys that were one; whoever reads it is told to leave.

    Answers whether all nodes answered: else it may be left on one of them.
    """
    await _drop_on_primary(places, group, slot)
    gone = [await _drop_on_standby(places, node, slot) for node in places.standbys(group)]
    return all(gone)


async def _drop_on_standby(places: Places, node: Node, slot: str) -> bool:
    """A primary that became a standby has its slots still."""
    if places.is_silent(node):
        return False
    try:
        link = await places.dial(node)
        try:
            async with asyncio.timeout(STANDBY_S):
                await link.run(
                    f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots s WHERE slot_name = '{slot}'"
                    " AND NOT active AND NOT coalesce((to_jsonb(s)->>'synced')::boolean, false)"
                )
        finally:
            link.close()
    except (PgherdError, OSError, TimeoutError):
        places.fell_silent(node)
        return False
    return True


async def _drop_on_primary(places: Places, group: GroupId, slot: str) -> None:
    for _ in range(50):
        rows: list[Any] = await places.ask(
            group, f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'"
        )
        if not rows:
            return
        if rows[0][0] is not None:
            await places.ask(group, f"SELECT pg_terminate_backend({rows[0][0]})")
        else:
            try:
                await places.ask(group, f"SELECT pg_drop_replication_slot('{slot}')")
            except ServerError as error:
                if error.code not in ("55006", "42704"):
                    raise
        await asyncio.sleep(0.1)
    raise GroupDown(f"replication slot {slot} of group {group} stays in use")
