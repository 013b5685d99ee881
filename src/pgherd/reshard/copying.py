"""The first copy: a slot with its snapshot, and the rows of that snapshot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from pgherd.backend.connection import ServerLink
from pgherd.catalog.text import literal
from pgherd.engine.link import Link
from pgherd.gateway import wire
from pgherd.reshard import pace
from pgherd.reshard.model import Direction, Piece, Route
from pgherd.reshard.replication import create_slot, drop_slot, lsn_text, see, timeline_of
from pgherd.reshard.running import Run
from pgherd.reshard.tables import CopiedTable

SLOT_S = 600.0
REST_AFTER_S = 0.05


async def copy(run: Run) -> None:
    """Make the slots and copy everything, from the beginning: a snapshot does not outlive its maker."""
    direction = run.workflow.forward
    for route in direction.routes:
        await drop_slot(run.places, route.source, direction.slot(route, run.places.cluster_id))
    for group in direction.target_groups:
        texts = [f"TRUNCATE {table.root(direction.side)}" for table in run.tables]
        texts += [
            f"DELETE FROM pgherd.applied WHERE stream = {literal(direction.stream(route))}"
            for route in direction.routes
        ]
        await run.places.ask(group, "; ".join(texts))
    total = await _total(run, direction)
    counter = Counter(run, total)
    for route in direction.routes:
        await _route(run, direction, route, counter)


async def _total(run: Run, direction: Direction) -> int:
    """Bytes that the source tables take, once for each target group."""
    total = 0
    for route in direction.routes:
        sizes = [
            f"pg_table_size({literal(table.in_shard(piece.id))}::regclass)"
            for piece in route.pieces
            for table in run.tables
        ]
        rows = await run.places.ask(route.source, f"SELECT {' + '.join(sizes) or '0'}")
        total += int(rows[0][0] or 0)
    return total


class Counter:
    """Counts what was copied and says so."""

    def __init__(self, run: Run, total: int) -> None:
        self.run, self.total = run, total
        self.bytes = self.rows = 0
        self.began = self._rested = time.monotonic()
        self._speed = 1.0

    async def rest(self) -> None:
        """Slow down as the governor wants it; pieces are small, so a while of work is waited for first."""
        spent = time.monotonic() - self._rested
        if spent < REST_AFTER_S:
            return
        if (pause := pace.pause_s(self.run.speed, spent)) > 0:
            changed, self._speed = self._speed != self.run.speed, self.run.speed
            await self.run.progress(now=changed, speed=round(self.run.speed, 2))
            await asyncio.sleep(pause)
        self._rested = time.monotonic()

    async def add(self, size: int) -> None:
        self.bytes += size
        await self.rest()
        spent = max(time.monotonic() - self.began, 0.001)
        rate = self.bytes / spent
        left = max(self.total - self.bytes, 0)
        await self.run.progress(
            bytes=self.bytes, total_bytes=max(self.total, self.bytes), rows=self.rows, rate=int(rate), eta_s=round(left / max(rate, 1.0), 1),
        )  # fmt: skip


async def make_slot(run: Run, direction: Direction, route: Route, keeper: ServerLink) -> tuple[int, str]:
    """A slot for a route, noted with the source's timeline: its position, and the snapshot that `keeper` holds."""
    async with asyncio.timeout(SLOT_S):
        timeline = await timeline_of(keeper)
        made = await create_slot(keeper, direction.slot(route, run.places.cluster_id))
    await run.made_on(direction.stream(route), timeline)
    return made


def begins(direction: Direction, route: Route, lsn: int) -> str:
    """The text that notes in the target where a route's stream begins."""
    return (
        f"INSERT INTO pgherd.applied VALUES ({literal(direction.stream(route))}, '{lsn_text(lsn - 1)}')"
        " ON CONFLICT (stream) DO UPDATE SET lsn = excluded.lsn"
    )


async def _route(run: Run, direction: Direction, route: Route, counter: Counter) -> None:
    keeper = await run.places.open(route.source, replication=True)
    target: ServerLink | None = None
    try:
        lsn, snapshot = await make_slot(run, direction, route, keeper)
        await run.point("copy: slot made")
        target = await run.places.open(route.target)
        await target.do("SET session_replication_role = replica; SET application_name = 'pgherd workflow'")
        for piece in route.pieces:
            for table in run.tables:
                await _table(run, direction, route, (table, piece), snapshot, target, counter)
                await run.point("copy: table copied")
        await target.do(begins(direction, route, lsn))
    finally:
        keeper.close()
        if target is not None:
            target.close()


async def _table(
    run: Run,
    direction: Direction,
    route: Route,
    what: tuple[CopiedTable, Piece],
    snapshot: str,
    target: ServerLink,
    counter: Counter,
) -> None:
    table, piece = what
    root, source = table.root(direction.side), table.in_shard(piece.id)
    if route.source == route.target:
        await _inside(
            f"INSERT INTO {root} ({table.names}) SELECT {table.names} FROM {source}",
            snapshot,
            target,
            counter,
            source,
        )
        return
    sender = await run.places.open(route.source)
    try:
        await see(sender, snapshot)
        chunks = _counted(sender, f"COPY {source} ({table.names}) TO STDOUT", counter)
        rows = await target.copy_in(f"COPY {root} ({table.names}) FROM STDIN", chunks)
        counter.rows += rows
    finally:
        sender.close()


async def _inside(text: str, snapshot: str, target: ServerLink, counter: Counter, source: str) -> None:
    """Rows that stay on their server never leave it."""
    await see(target, snapshot)
    try:
        unit = await target.exchange(wire.query(text))
        counter.rows += int(unit.tag.rsplit(" ", 1)[-1] or 0)
        size = await target.run(f"SELECT pg_table_size({literal(source)}::regclass)")
        await target.do("COMMIT")
        await counter.add(int(size[0][0] or 0))
    except BaseException:
        if target.status != 0x49 and not target.broken and not target.busy:
            await target.do("ROLLBACK")
        raise


async def _counted(sender: Link, sql: str, counter: Counter) -> AsyncIterator[bytes]:
    async for chunk in sender.copy_out(sql):
        await counter.add(len(chunk))
        yield chunk


async def index(run: Run) -> None:
    """Keys and indexes, now that the rows are there: faster than with each row."""
    direction = run.workflow.forward
    pieces = [(piece, table) for piece in direction.targets for table in run.tables]
    for done, (piece, table) in enumerate(pieces):
        await run.progress(now=True, done=done, total=len(pieces))
        await run.places.ask(
            piece.group,
            f"SELECT pgherd.stage_keys({literal(direction.side)}, {literal(table.schema)}, {literal(table.name)}, {piece.id})",
        )
        await run.places.ask(piece.group, f"ANALYZE {table.part(direction.side, piece.id)}")
