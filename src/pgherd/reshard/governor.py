"""Watches what a workflow costs the servers: sessions and standbys that wait, log that its slots hold back, room on the disks.

It slows the copy down, and ends the workflow long before a disk is full. What follows from what it sees is decided in `pace`.
"""

from __future__ import annotations

import asyncio

from pgherd.catalog.model import GroupId
from pgherd.catalog.text import literal
from pgherd.errors import GroupDown
from pgherd.reshard import pace
from pgherd.reshard.model import Direction
from pgherd.reshard.preflight import disk
from pgherd.reshard.running import Run, TooHeavy

EVERY_S = 2.0


async def watch(run: Run) -> None:
    """Until cancelled. Raises TooHeavy."""
    leading: dict[GroupId, int] = {}
    while True:
        await _same_primaries(run, leading)
        run.speed = pace.speed(
            tuple([load for group in sorted(run.workflow.groups) if (load := await load_of(run, group))])
        )
        for direction in (run.workflow.forward, run.workflow.back):
            await _slots(run, direction)
        for group in sorted(run.workflow.groups):
            try:
                free, total = await disk(run, group)
            except GroupDown:
                continue
            if free is not None and free < total * run.workflow.limits.free_part:
                raise TooHeavy(
                    f"group {group} has only {free >> 20} MiB left on its disk",
                    hint=f"{run.workflow.limits.free_part:.0%} of it must stay free (setting free_part).",
                )
        await asyncio.sleep(EVERY_S)


async def _same_primaries(run: Run, leading: dict[GroupId, int]) -> None:
    """A primary that was cut off answers nothing and closes nothing: steps that wait for it are ended, and go on with its successor.
    `leading`: the nodes that led in the last round. Raises GroupDown."""
    for group in sorted(run.workflow.groups):
        if len(run.places.nodes(group)) < 2:
            continue
        try:
            link = await run.places.open(group)
        except GroupDown:
            continue  # a failover: the next round sees who leads then
        run.places.give_back(link)
        leader = run.places.last[group].id
        if leading.setdefault(group, leader) != leader:
            raise GroupDown(f"group {group} has a new primary")


_LOAD = """
SELECT (SELECT coalesce(max(pg_current_wal_lsn() - flush_lsn), 0)::bigint FROM pg_stat_replication r
        WHERE state = 'streaming' AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND application_name <> 'pgherd workflow'
        AND (wait_event_type IN ('IO', 'LWLock') OR wait_event = 'SyncRep'))
"""


async def load_of(run: Run, group: GroupId) -> pace.Load | None:
    """What a group's server has to do; None: it does not answer."""
    try:
        lag, waiting = (await run.places.ask(group, _LOAD))[0]
    except GroupDown:
        return None
    return pace.Load(lag_bytes=int(lag or 0), waiting=int(waiting or 0))


async def _slots(run: Run, direction: Direction) -> None:
    for route in direction.routes:
        slot = direction.slot(route, run.places.cluster_id)
        try:
            rows = await run.places.ask(
                route.source,
                "SELECT pg_current_wal_lsn() - restart_lsn, wal_status, pg_current_wal_lsn() - confirmed_flush_lsn"
                f" FROM pg_replication_slots WHERE slot_name = {literal(slot)}",
            )
        except GroupDown:
            continue
        if not rows:
            continue
        status, held_bytes = rows[0][1], int(float(rows[0][0] or 0))
        free, _ = await disk(run, route.source)
        limit = pace.held_max(run.workflow.limits.retained_bytes, held_bytes, free)
        if status == "lost" or held_bytes > limit:
            raise TooHeavy(
                f"the log that group {route.source} keeps for this workflow has grown to {held_bytes >> 20} MiB",
                hint=f"The limit is {limit >> 20} MiB (setting retained_bytes, or half of the room on the disk). Try when there is less to write, or raise it.",
            )
