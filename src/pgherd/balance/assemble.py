"""From rows as the controller reads them to a picture, and from decisions to rows of pgherd.decisions_log. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgherd.balance.decision import Decision, Merge, Nothing
from pgherd.balance.load import ShardLoad, from_json, merge_all
from pgherd.balance.picture import (
    GroupPicture,
    KeySample,
    KeyspacePicture,
    Picture,
    Running,
    ShardPicture,
)
from pgherd.balance.settings import Rules, read
from pgherd.catalog.model import ClusterMap, GroupId, KeyspaceId, ShardId

Disk = tuple[int, int]  # bytes free, and in all
FRESH_S = 60.0  # what a source wrote longer ago does not count: it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a shard takes on its group's primary, all tables of the keyspace together, and since when it is what it is.

    `born_s`, `moved_s`: seconds since 1970 of the workflow that made or moved it, 0 for long ago; `seen_s`: when it was first seen.
    """

    bytes: int = 0
    rows: int = 0
    growth: float = 0.0  # bytes per second
    born_s: float = 0.0
    moved_s: float = 0.0
    seen_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the controller has read. `loads` are rows (shard, age in seconds, document) of pgherd.shard_load, `settings` rows
    (keyspace, name, value) of pgherd.keyspace_settings. Groups that are not named have weight 1 and endless room.
    `disks`: bytes free and in all on the groups' disks, as measured at `disks_s`, where servers can tell."""

    now_s: float
    cluster: ClusterMap
    sizes: Mapping[ShardId, Size]
    loads: Sequence[tuple[ShardId, float, Mapping[str, Any]]] = ()
    settings: Sequence[tuple[str, str, str]] = ()
    groups: Mapping[GroupId, GroupPicture] = field(default_factory=dict[GroupId, GroupPicture])
    running: tuple[Running, ...] = ()
    row_samples: Mapping[ShardId, KeySample] = field(default_factory=dict[ShardId, KeySample])
    rules: Rules = field(default_factory=Rules)
    disks: Mapping[GroupId, Disk] = field(default_factory=dict[GroupId, Disk])
    disks_s: float = 0.0


class LoadSamples(Mapping[ShardId, KeySample]):
    """The samples of keys, taken out of the loads when they are asked for."""

    def __init__(self, loads: Mapping[ShardId, ShardLoad]) -> None:
        self._loads = loads

    def __getitem__(self, shard: ShardId) -> KeySample:
        return self._loads[shard].keys

    def __iter__(self) -> Iterator[ShardId]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)


def picture(seen: Seen) -> Picture:
    """The picture of what was read."""
    texts: dict[str, dict[str, str]] = {}
    for keyspace, name, value in seen.settings:
        texts.setdefault(keyspace, {})[name] = value
    keyspaces = {
        keyspace.id: KeyspacePicture(
            id=keyspace.id, name=keyspace.name, strategy=keyspace.strategy, key_types=keyspace.key_types,
            settings=read(texts.get(keyspace.name, {})),
        )
        for keyspace in seen.cluster.keyspaces.values()
    }  # fmt: skip
    loads = _loads(seen)
    groups = tuple(_group(seen, group) for group in sorted(seen.cluster.groups))
    return Picture(
        now_s=seen.now_s, groups=groups, keyspaces=keyspaces, shards=tuple(_shards(seen, loads)),
        load_samples=LoadSamples(loads), row_samples=seen.row_samples, running=seen.running, rules=seen.rules,
    )  # fmt: skip


def _group(seen: Seen, group: GroupId) -> GroupPicture:
    known, disk = seen.groups.get(group, GroupPicture(id=group)), seen.disks.get(group)
    return known if disk is None else replace(known, free_bytes=disk[0], disk_bytes=disk[1])


def _loads(seen: Seen) -> dict[ShardId, ShardLoad]:
    types = {
        shard.id: keyspace.key_types
        for keyspace in seen.cluster.keyspaces.values()
        for shard in keyspace.shards
    }
    found: dict[ShardId, list[ShardLoad]] = {}
    for shard, age_s, document in seen.loads:
        if shard in types and age_s <= FRESH_S:
            found.setdefault(shard, []).append(from_json(document, types[shard]))
    return {shard: merge_all(loads) for shard, loads in found.items()}


def _shards(seen: Seen, loads: Mapping[ShardId, ShardLoad]) -> Iterator[ShardPicture]:
    nothing, unknown = ShardLoad(), Size()
    for keyspace in seen.cluster.keyspaces.values():
        for shard in keyspace.shards:
            load, size = loads.get(shard.id, nothing), seen.sizes.get(shard.id, unknown)
            yield ShardPicture(
                id=shard.id, keyspace=keyspace.id, group=shard.group, lower=shard.lower, upper=shard.upper,
                modulus=shard.modulus, remainder=shard.remainder, bytes=size.bytes, rows=size.rows,
                statements=load.statements_per_s, seconds=load.seconds_per_s, write_share=load.write_share,
                growth=size.growth, appended=load.appended, highest=load.highest,
                advance=load.advance, born_s=size.born_s, moved_s=size.moved_s, seen_s=size.seen_s,
            )  # fmt: skip


def group_ids(decision: Decision) -> tuple[GroupId | None, GroupId | None]:
    """The groups that a decision is about: from, to."""
    if isinstance(decision, Merge | Nothing):
        return decision.group, None
    return decision.group, decision.to_group


def log_rows(decisions: Iterable[Decision], names: Mapping[KeyspaceId, str]) -> list[dict[str, Any]]:
    """What pgherd.log_decisions takes. `names`: keyspaces' names by id."""
    rows: list[dict[str, Any]] = []
    for decision in decisions:
        source, target = group_ids(decision)
        figures = dict(decision.figures)
        if isinstance(decision, Merge):
            figures["right"] = decision.right
        rows.append(
            {
                "kind": decision.kind, "keyspace": names.get(decision.keyspace or KeyspaceId(0)), "shard": decision.shard,
                "from_group": source, "to_group": target, "code": decision.code, "reason": decision.reason,
                "figures": figures,
            }
        )  # fmt: skip
    return rows
