"""What could stand in a workflow's way, all of it at once, before anything is created."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pgherd.balance.standing import COPY_PART
from pgherd.catalog.model import GroupId
from pgherd.catalog.text import literal
from pgherd.errors import PgherdError
from pgherd.reshard.model import Direction
from pgherd.reshard.running import Run

OLD_S = 300


class NotReady(PgherdError):
    """Something has to be put right first; nothing was created."""

    sqlstate = "55000"


async def preflight(run: Run) -> None:
    """Raises NotReady with every obstacle; remembers the tables' shape."""
    obstacles = [text async for text in obstacles_of(run)]
    if obstacles:
        raise NotReady(
            f"{len(obstacles)} things stand in the way: " + "; ".join(obstacles)
            if len(obstacles) > 1
            else obstacles[0],
            hint="Nothing was created. Put them right and try again.",
        )


async def obstacles_of(run: Run) -> AsyncIterator[str]:
    """Each obstacle as one line."""
    direction = run.workflow.forward
    for table in run.tables:
        if not table.key:
            yield f"table {table.shown} has no primary key (or its replica identity is NOTHING), so its changes cannot be followed: add one"
    need = dict.fromkeys(sorted({*direction.source_groups, *direction.target_groups}), 0)
    for route in direction.routes:
        need[route.source] += 2  # and one to verify
        need[route.target] += 1
    for group, slots in need.items():
        async for text in _server(run, group, slots):
            yield text
    async for text in _place(run, direction):
        yield text


_SERVER = """
SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
    current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
    current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication),
    current_setting('max_prepared_transactions')::int - (SELECT count(*) FROM pg_prepared_xacts),
    (SELECT count(*) FROM pg_prepared_xacts WHERE prepared < now() - interval '{old} s'),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL AND xact_start < now() - interval '{old} s')
"""


async def _server(run: Run, group: GroupId, slots: int) -> AsyncIterator[str]:
    rows = await run.places.ask(group, _SERVER.format(old=OLD_S))
    version, level, free_slots, senders, prepared, old_prepared, old = rows[0]
    if int(version or 0) < 160000:
        yield f"group {group} runs PostgreSQL {version}: 16 or later is needed"
    if level != "logical":
        yield f"wal_level of group {group} is {level}: it must be logical"
    for name, free in (("max_replication_slots", free_slots), ("max_wal_senders", senders)):
        if int(free or 0) < slots:
            yield f"group {group} has {free} free of {name}, and {slots} are needed"
    if int(prepared or 0) < 1:
        yield f"group {group} has no free prepared transaction (max_prepared_transactions)"
    if int(old_prepared or 0):
        yield f"{old_prepared} prepared transactions in group {group} are older than {OLD_S} s: no snapshot can be taken until they end"
    if int(old or 0):
        yield f"{old} transactions in group {group} have written and run for more than {OLD_S} s: no snapshot can be taken until they end"


async def _place(run: Run, direction: Direction) -> AsyncIterator[str]:
    """Room on the disks, and names that are taken."""
    bytes_ = 0
    for route in direction.routes:
        sizes = " + ".join(
            f"pg_total_relation_size({literal(table.in_shard(piece.id))}::regclass)"
            for piece in route.pieces
            for table in run.tables
        )
        bytes_ += int((await run.places.ask(route.source, f"SELECT {sizes or '0'}"))[0][0] or 0)
    for group in direction.target_groups:
        free, total = await disk(run, group)
        wanted = int(bytes_ * COPY_PART)
        if free is not None and free - wanted < total * run.workflow.limits.free_part:
            yield f"group {group} has {free >> 20} MiB free on its disk; the copy takes about {wanted >> 20} MiB, and {run.workflow.limits.free_part:.0%} must stay free"
        rows = await run.places.ask(
            group,
            f"SELECT string_agg(nspname, ', ') FROM pg_namespace WHERE nspname ~ '^{direction.side}([sx][0-9]+)?(_.*)?$'",
        )
        if rows[0][0]:
            yield f"group {group} has schemas of a workflow with the same number: {rows[0][0]} (pgherd doctor --repair removes them)"


async def disk(run: Run, group: GroupId) -> tuple[int | None, int]:
    """Bytes free and in all where a group's primary keeps its data; None: not known."""
    rows = await run.places.ask(group, "SELECT d[1], d[2] FROM pgherd.disk() d")
    free, total = rows[0]
    return (None, 0) if free is None else (int(free), int(total or 0))
