"""Watches what a workflow costs the servers: log that its slots hold back, room on the disks. It ends the workflow long before a disk is full."""

from __future__ import annotations

import asyncio

from pgherd.catalog.text import literal
from pgherd.errors import GroupDown
from pgherd.reshard.model import Direction
from pgherd.reshard.preflight import disk
from pgherd.reshard.running import Run, TooHeavy

EVERY_S = 2.0


async def watch(run: Run) -> None:
    """Until cancelled. Raises TooHeavy."""
    while True:
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


async def _slots(run: Run, direction: Direction) -> None:
    limit = run.workflow.limits.retained_bytes
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
        held, status, _ = rows[0]
        if status == "lost" or int(float(held or 0)) > limit:
            raise TooHeavy(
                f"the log that group {route.source} keeps for this workflow has grown to {int(float(held or 0)) >> 20} MiB",
                hint=f"The limit is {limit >> 20} MiB (setting retained_bytes). Try when there is less to write, or raise it.",
            )
