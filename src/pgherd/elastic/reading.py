"""Reads what a round of decisions looks at: facts and map from group 0, sizes of shards from each group."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from pgherd.balance import facts
from pgherd.balance.assemble import Disk, Seen
from pgherd.balance.decision import Decision, Nothing
from pgherd.catalog import store
from pgherd.catalog.model import GroupId
from pgherd.engine.link import Row
from pgherd.errors import PgherdError

Ask = Callable[[GroupId, str], Awaitable[list[Row]]]
HOME = GroupId(0)
DISKS_S = 30.0  # disks are measured so often, and before anything is begun
SAMPLED_MAX = 8  # shards of which rows are sampled in one round


async def read(ask: Ask, before: Seen | None = None) -> Seen:
    """Everything, at about one moment. `ask` runs a text on a group's primary as a superuser, within a bound.

    A group that does not answer is not reachable, and nothing will be done with it. Raises what `ask` raises for group 0.
    """
    answer = (await ask(HOME, "SELECT pgherd.balance_facts(), pgherd.map()"))[0]
    cluster = store.parse_map(answer[1] or "{}")
    groups = list(cluster.groups)
    answers = await asyncio.gather(*(_sizes(ask, group) for group in groups), return_exceptions=True)
    sizes: list[tuple[int, int, int]] = []
    unreachable: set[GroupId] = set()
    for group, found in zip(groups, answers, strict=True):
        if isinstance(found, PgherdError | OSError | TimeoutError):
            unreachable.add(group)
        elif isinstance(found, BaseException):
            raise found
        else:
            sizes += found
    found = facts.seen(json.loads(answer[0] or "{}"), cluster, sizes, before, frozenset(unreachable))
    return found if found.now_s - found.disks_s < DISKS_S else await measured(ask, found)


async def measured(ask: Ask, seen: Seen) -> Seen:
    """The same with what the groups' disks have free now."""
    groups = [
        group for group in seen.cluster.groups if group not in seen.groups or seen.groups[group].reachable
    ]
    disks = await asyncio.gather(*(_disk(ask, group) for group in groups))
    return replace(seen, disks={group: disk for group, disk in disks if disk is not None}, disks_s=seen.now_s)


async def _disk(ask: Ask, group: GroupId) -> tuple[GroupId, Disk | None]:
    """What a group's disk has free, and in all, as preflight measures it; None: its server cannot tell."""
    try:
        free, total = (await ask(group, "SELECT d[1], d[2] FROM pgherd.disk() d"))[0]
    except (PgherdError, OSError, TimeoutError):
        return group, None
    return group, None if free is None else (int(free), int(total or 0))


async def _sizes(ask: Ask, group: GroupId) -> list[tuple[int, int, int]]:
    rows = await ask(group, "SELECT * FROM pgherd.shard_sizes()")
    return [(int(row[0] or 0), int(row[1] or 0), int(row[2] or 0)) for row in rows]


async def sampled(ask: Ask, seen: Seen, decisions: Iterable[Decision]) -> Seen:
    """The same with samples of rows for shards that should be split and of which no key is known."""
    wanted = [one for one in decisions if isinstance(one, Nothing) and one.code == "no_sample"]
    samples = dict(seen.row_samples)
    for one in wanted[:SAMPLED_MAX]:
        assert one.shard is not None and one.group is not None and one.keyspace is not None
        types = seen.cluster.keyspaces[one.keyspace].key_types
        try:
            rows = await ask(one.group, f"SELECT pgherd.shard_sample({int(one.shard)})")
        except (PgherdError, OSError, TimeoutError):
            continue
        samples[one.shard] = facts.row_sample(json.loads(rows[0][0] or "[]"), types)
    return replace(seen, row_samples=samples)
