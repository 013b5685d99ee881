"""Watches what a workflow costs the servers: sessions and standbys that wait, log that its slots hold back, room on the disks.

It slows the copy down, and ends the workflow long before a disk is full. What follows from what it sees is decided in `pace`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator

from pgherd.catalog.model import GroupId
from pgherd.catalog.text import literal
from pgherd.errors import PgherdError
from pgherd.reshard import pace
from pgherd.reshard.passing import Fate, fate
from pgherd.reshard.places import Places
from pgherd.reshard.preflight import disk
from pgherd.reshard.running import Run, TooHeavy

EVERY_S = 2.0
ANSWER_S = 10.0


async def watch(run: Run) -> None:
    """Until cancelled. Raises TooHeavy."""
    while True:
        run.speed = pace.speed(
            tuple([load for group in sorted(run.workflow.groups) if (load := await load_of(run, group))])
        )
        for group in sorted(run.workflow.groups):
            with _whoever_answers():
                async with asyncio.timeout(ANSWER_S):
                    await _room(run, group)
        await asyncio.sleep(EVERY_S)


@contextlib.contextmanager
def _whoever_answers() -> Generator[None]:
    """What does not answer just now is looked at in the next round: who copies finds out by itself whether it can go on."""
    try:
        yield
    except (PgherdError, OSError, TimeoutError) as error:
        if isinstance(error, TooHeavy) or fate(error) is Fate.FINAL:
            raise


async def watch_primaries(places: Places) -> None:
    """Until cancelled: find out who leads the groups with several nodes.

    A primary that was cut off answers nothing and closes nothing. `Places` ends what waits for it as soon as it meets its successor.
    """
    while True:
        groups = [group for group in places.groups if len(places.nodes(group)) > 1]
        await asyncio.gather(*(_find_primary(places, group) for group in groups))
        await asyncio.sleep(EVERY_S)


async def _find_primary(places: Places, group: GroupId) -> None:
    with contextlib.suppress(PgherdError, OSError, TimeoutError):  # a failover: the next round sees who leads
        await places.find_primary(group)


async def _room(run: Run, group: GroupId) -> None:
    """Whether the log that slots hold back, and the room on the disk, are still within their bounds."""
    free, total = await disk(run, group)
    for direction in (run.workflow.forward, run.workflow.back):
        for route in direction.routes:
            if route.source == group:
                await _slot(run, group, direction.slot(route, run.places.cluster_id), free)
    if free is not None and free < total * run.workflow.limits.free_part:
        raise TooHeavy(
            f"group {group} has only {free >> 20} MiB left on its disk",
            hint=f"{run.workflow.limits.free_part:.0%} of it must stay free (setting free_part).",
        )


_LOAD = """
SELECT (SELECT coalesce(max(pg_current_wal_lsn() - flush_lsn), 0)::bigint FROM pg_stat_replication r
        WHERE state = 'streaming' AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND application_name <> 'pgherd workflow'
        AND (wait_event_type IN ('IO', 'LWLock') OR wait_event = 'SyncRep'))
"""


async def load_of(run: Run, group: GroupId) -> pace.Load | None:
    """What a group's server has to do; None: it does not answer."""
    with _whoever_answers():
        async with asyncio.timeout(ANSWER_S):
            lag, waiting = (await run.places.ask(group, _LOAD))[0]
        return pace.Load(lag_bytes=int(lag or 0), waiting=int(waiting or 0))
    return None


async def _slot(run: Run, group: GroupId, slot: str, free: int | None) -> None:
    rows = await run.places.ask(
        group,
        "SELECT pg_current_wal_lsn() - restart_lsn, wal_status FROM pg_replication_slots"
        f" WHERE slot_name = {literal(slot)}",
    )
    if not rows:
        return
    status, held_bytes = rows[0][1], int(float(rows[0][0] or 0))
    limit = pace.held_max(run.workflow.limits.retained_bytes, held_bytes, free)
    if status == "lost" or held_bytes > limit:
        raise TooHeavy(
            f"the log that group {group} keeps for this workflow has grown to {held_bytes >> 20} MiB",
            hint=f"The limit is {limit >> 20} MiB (setting retained_bytes, or half of the room on the disk). Try when there is less to write, or raise it.",
        )
