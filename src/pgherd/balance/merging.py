"""Which small, cold shards to join: neighbours by range, or the two halves of a hash modulus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgherd.balance import sentence
from pgherd.balance.decision import Merge, Move
from pgherd.balance.picture import KeyspacePicture, Picture, ShardPicture
from pgherd.balance.splitting import grows
from pgherd.balance.standing import Standing
from pgherd.catalog.model import GroupId, KeyspaceId, ShardId

Pair = tuple[ShardId, ShardId]
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two shards that would make one small, cold shard. They may lie in different groups."""

    left: ShardPicture
    right: ShardPicture

    @property
    def ids(self) -> Pair:
        return self.left.id, self.right.id


def shards_min(keyspace: KeyspacePicture, groups: int) -> int:
    """How many shards a keyspace keeps."""
    return keyspace.settings.shards_min or groups * (4 if keyspace.strategy == "hash" else 1)


def pairings(picture: Picture, standings: dict[GroupId, Standing]) -> list[Pairing]:
    """All disjoint pairs that stay far below the limits together, and of which neither grows; the coldest first."""
    small: dict[KeyspaceId, list[ShardPicture]] = {}
    limits = {
        keyspace.id: (keyspace.settings.merge_fill * keyspace.settings.size_max,
                      keyspace.settings.merge_fill * keyspace.settings.load_max)
        for keyspace in picture.keyspaces.values()
        if keyspace.settings.autosplit and keyspace.settings.automerge
    }  # fmt: skip
    for shard in picture.shards:
        limit = limits.get(shard.keyspace)
        if limit is not None and shard.bytes < limit[0] and shard.load < limit[1]:
            small.setdefault(shard.keyspace, []).append(shard)
    counts: dict[KeyspaceId, int] = dict.fromkeys(small, 0)
    for shard in picture.shards:
        if shard.keyspace in counts:
            counts[shard.keyspace] += 1
    found: list[Pairing] = []
    groups = sum(not group.draining for group in picture.groups)
    for keyspace_id, shards in small.items():
        keyspace = picture.keyspaces[keyspace_id]
        spare = counts[keyspace_id] - shards_min(keyspace, groups)
        if spare > 0:
            pairs = _neighbours(keyspace, shards)
            fitting = [pair for pair in pairs if _fits(picture, keyspace, pair, standings)]
            fitting.sort(
                key=lambda pair: (
                    pair.left.load + pair.right.load,
                    pair.left.bytes + pair.right.bytes,
                    pair.ids,
                )
            )
            found += _disjoint(fitting, spare)
    return found


def _neighbours(keyspace: KeyspacePicture, shards: list[ShardPicture]) -> Iterator[Pairing]:
    if keyspace.strategy == "hash":
        halves = {(shard.modulus, shard.remainder): shard for shard in shards}
        for shard in shards:
            other = halves.get((shard.modulus, shard.remainder + shard.modulus // 2))
            if shard.modulus % 2 == 0 and other is not None:
                yield Pairing(shard, other)
        return
    by_lower = {shard.lower: shard for shard in shards if shard.lower is not None}
    for shard in shards:
        if shard.upper is not None and shard.upper in by_lower:
            yield Pairing(shard, by_lower[shard.upper])


def _fits(
    picture: Picture, keyspace: KeyspacePicture, pair: Pairing, standings: dict[GroupId, Standing]
) -> bool:
    limits = keyspace.settings
    left, right = pair.left, pair.right
    size, load = left.bytes + right.bytes, left.load + right.load
    if size >= limits.merge_fill * limits.size_max or load >= limits.merge_fill * limits.load_max:
        return False
    if size + (left.growth + right.growth) * DAY_S > limits.size_max / 2 or grows(left) or grows(right):
        return False
    if picture.now_s - max(left.born_s, right.born_s, left.seen_s, right.seen_s) < limits.merge_after_s:
        return False
    there = standings[left.group]
    share = max(load / there.load_unit, size / there.bytes_unit)
    return share <= picture.rules.merge_share_max


def _disjoint(pairs: list[Pairing], most: int) -> list[Pairing]:
    used: set[ShardId] = set()
    chosen: list[Pairing] = []
    for pair in pairs:
        if len(chosen) < most and not used & set(pair.ids):
            used.update(pair.ids)
            chosen.append(pair)
    return chosen


def _figures(pair: Pairing) -> dict[str, float | int]:
    size, load = pair.left.bytes + pair.right.bytes, pair.left.load + pair.right.load
    return {"bytes": size, "load": round(load, 4), "left": pair.left.id, "right": pair.right.id}


def merge_of(picture: Picture, pair: Pairing) -> Merge:
    """The decision for a pair of one group."""
    limits = picture.keyspaces[pair.left.keyspace].settings
    size, load = pair.left.bytes + pair.right.bytes, pair.left.load + pair.right.load
    reason = (
        f"shards {pair.left.id} and {pair.right.id} are neighbours, small and cold: together {sentence.size(size)} of "
        f"{sentence.size(limits.size_max)} and {sentence.load(load)} of {sentence.load(limits.load_max)}"
    )
    return Merge(
        keyspace=pair.left.keyspace, shard=pair.left.id, right=pair.right.id, group=pair.left.group,
        code="small_and_cold", reason=reason, figures=_figures(pair),
    )  # fmt: skip


def move_to_merge(pair: Pairing) -> Move:
    """The decision that brings the smaller of a pair to the other's group."""
    small, large = sorted((pair.left, pair.right), key=lambda shard: (shard.bytes, shard.id))
    reason = (
        f"small and cold, as its neighbour shard {large.id} in group {large.group}: "
        f"{sentence.size(small.bytes)} go there, to be merged"
    )
    return Move(
        keyspace=small.keyspace, shard=small.id, group=small.group, to_group=large.group, bytes=small.bytes,
        code="to_merge", reason=reason, figures=_figures(pair),
    )  # fmt: skip
