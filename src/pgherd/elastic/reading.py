"""Reads what a round of decisions looks at: facts and map from group 0, sizes of shards from each group."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from pgherd.balance import facts
from pgherd.balance.assemble import Seen
from pgherd.balance.decision import Decision, Nothing
from pgherd.catalog import store
from pgherd.catalog.model import GroupId
from pgherd.engine.link import Row
from pgherd.errors import PgherdError

Ask = Callable[[GroupId, str], Awaitable[list[Row]]]
HOME = GroupId(0)
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
    return facts.seen(json.loads(answer[0] or "{}"), cluster, sizes, before, frozenset(unreachable))


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
