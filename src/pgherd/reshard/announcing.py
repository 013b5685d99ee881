"""Shards that are about to be cut over are named in the map beforehand, so that statements on them can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pgherd.reshard.cutover import change_map
from pgherd.reshard.running import HOME, Run


async def announce(run: Run, shards: Iterable[int]) -> None:
    """Tell all gateways and clients, with a new epoch, and give them the time in which they look at it."""
    values = ", ".join(f"({shard}, {run.workflow.id})" for shard in shards)
    await change_map(run, f"INSERT INTO pgherd.moving VALUES {values} ON CONFLICT DO NOTHING")
    await asyncio.sleep(run.workflow.limits.announce_s)


async def withdraw(run: Run) -> None:
    """The workflow cuts nothing over any more."""
    if await run.places.ask(HOME, f"SELECT FROM pgherd.moving WHERE workflow = {run.workflow.id}"):
        await change_map(run, f"DELETE FROM pgherd.moving WHERE workflow = {run.workflow.id}")
