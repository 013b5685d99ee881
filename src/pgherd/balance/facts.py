"""What the servers answer, read into `assemble.Seen`: pgherd.balance_facts, pgherd.shard_sizes and pgherd.shard_sample. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pgherd.balance.assemble import Seen, Size
from pgherd.balance.picture import GroupPicture, KeySample, Running
from pgherd.balance.settings import read_rules
from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId, Key, ShardId

FAILED_S, DAY_S = 300.0, 86400.0


def seen(
    facts: Mapping[str, Any], cluster: ClusterMap, sizes: Iterable[tuple[int, int, int]], before: Seen | None = None,
    unreachable: frozenset[GroupId] = frozenset(),
) -> Seen:  # fmt: skip
    """A round's input. `facts`: pgherd.balance_facts() of group 0; `sizes`: rows (shard, bytes, rows) of all groups' shard_sizes().

    `before` is the round's before, for growth; samples of rows go over from it. Groups of which `sizes` were not to be had
    belong into `unreachable`.
    """
    now_s = float(facts["now"])
    found = {ShardId(shard): Size(bytes=size, rows=rows) for shard, size, rows in sizes}
    known = {} if before is None else before.sizes
    for keyspace in cluster.keyspaces.values():  # a group that does not answer has what it had
        for one in keyspace.shards:
            found.setdefault(one.id, known.get(one.id, Size()))
    for name in ("born", "moved"):
        for shard, at in facts[name].items():
            number = ShardId(int(shard))
            found[number] = replace(found.get(number, Size()), **{f"{name}_s": float(at)})
    elapsed_s = 0.0 if before is None else now_s - before.now_s
    found = {shard: _since(size, known.get(shard), now_s, elapsed_s) for shard, size in found.items()}
    made = Seen(
        now_s=now_s, cluster=cluster, sizes=found, rules=read_rules(facts["rules"]),
        running=(*map(_running, facts["running"]), *_resting(facts["failed"], now_s)),
        loads=[(ShardId(shard), float(age_s), load) for shard, age_s, load in facts["loads"]],
        settings=[(keyspace, name, value) for keyspace, name, value in facts["settings"]],
        groups=_groups(facts["groups"], cluster, unreachable),
    )  # fmt: skip
    if before is None:
        return made
    return replace(made, row_samples=before.row_samples, disks=before.disks, disks_s=before.disks_s)


def _since(size: Size, before: Size | None, now_s: float, elapsed_s: float) -> Size:
    """With the time when the shard was first seen, and growth in bytes per second, smoothed over some ten rounds."""
    if before is None or elapsed_s <= 0:
        return replace(size, seen_s=now_s)
    growth = 0.9 * before.growth + 0.1 * max(0.0, (size.bytes - before.bytes) / elapsed_s)
    return replace(size, growth=growth, seen_s=before.seen_s)


def _groups(
    rows: Sequence[Mapping[str, Any]], cluster: ClusterMap, unreachable: frozenset[GroupId]
) -> dict[GroupId, GroupPicture]:
    found = {GroupId(row["group_id"]): row for row in rows}
    return {
        group: GroupPicture(
            id=group, weight=float(found.get(group, {}).get("weight", 1.0)),
            draining=bool(found.get(group, {}).get("draining", False)), reachable=group not in unreachable,
        )
        for group in cluster.groups
    }  # fmt: skip


def _resting(rows: Sequence[Mapping[str, Any]], now_s: float) -> Iterable[Running]:
    """Shards with which the controller has failed, or was told to stop: each time they are left alone for twice as long."""
    for row in rows:
        if now_s < float(row["at"]) + min(FAILED_S * 2.0 ** (row["times"] - 1), DAY_S):
            shards = frozenset((ShardId(row["shard"]),))
            yield Running(id=row["id"], kind=row["kind"], shards=shards, groups=frozenset())


def _running(row: Mapping[str, Any]) -> Running:
    return Running(
        id=row["id"], kind=row["kind"], shards=frozenset(ShardId(shard) for shard in row["shards"] if shard),
        groups=frozenset(GroupId(group) for group in row["groups"]),
    )  # fmt: skip


def row_sample(pairs: Sequence[tuple[str, float]], key_types: tuple[str, ...]) -> KeySample:
    """The answer of pgherd.shard_sample: first columns of keys, which are points as good as whole keys (range keyspaces)."""
    found: list[tuple[Key, float]] = []
    for text, weight in pairs:
        try:
            found.append(((keys.decode_text(key_types[0], text),), float(weight)))
        except (keys.Undecodable, ValueError):
            continue
    return KeySample(tuple(key for key, _ in found), tuple(weight for _, weight in found))
