"""Slots that a workflow had to leave on nodes that did not answer when it cleaned up: they are dropped as soon as those nodes do.

They are written down with the workflow, so that whoever carries workflows out takes care of them, after a kill as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping

from pgherd.catalog.model import GroupId
from pgherd.catalog.text import literal
from pgherd.errors import PgherdError
from pgherd.reshard.model import UNFINISHED
from pgherd.reshard.places import Places
from pgherd.reshard.replication import drop_slot
from pgherd.reshard.running import HOME

EVERY_S = 5.0

Strays = Mapping[str, list[str]]  # slots by group

_LEFT = f"""
SELECT id, memory->'strays' FROM pgherd.workflows
WHERE memory ? 'strays' AND state NOT IN ({", ".join(map(literal, UNFINISHED))}) ORDER BY id
"""


async def sweep(places: Places) -> None:
    """Until cancelled."""
    while True:
        with contextlib.suppress(PgherdError, OSError, TimeoutError):
            await _look(places)
        await asyncio.sleep(EVERY_S)


async def _look(places: Places) -> None:
    rows = await places.ask(HOME, _LEFT)
    if not rows:
        return
    await places.refresh()
    for number, text in rows:
        strays: Strays = json.loads(text or "{}")
        left = {group: kept for group, slots in strays.items() if (kept := await _drop(places, group, slots))}
        if left != strays:
            rest = f" || jsonb_build_object('strays', {literal(json.dumps(left))}::jsonb)" if left else ""
            await places.ask(
                HOME, f"UPDATE pgherd.workflows SET memory = memory - 'strays'{rest} WHERE id = {number}"
            )


async def _drop(places: Places, group: str, slots: list[str]) -> list[str]:
    """Drop a group's; answers what is left on nodes that still do not answer."""
    number = GroupId(int(group))
    if number not in places.map.groups:
        return []
    try:
        return [slot for slot in slots if not await drop_slot(places, number, slot)]
    except (PgherdError, OSError, TimeoutError):
        return slots  # a failover: later
