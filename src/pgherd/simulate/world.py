"""A simulated cluster: shards over cells of a key space, groups that hold them, changes that take time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from pgherd.balance.decision import Action, Merge, Move, Split
from pgherd.balance.picture import GroupPicture, KeySample, KeyspacePicture, Picture, Running, ShardPicture
from pgherd.balance.settings import KeyspaceSettings, Rules
from pgherd.catalog.model import GroupId, KeyspaceId, ShardId
from pgherd.simulate.workloads import Use, Workload

KEYSPACE = KeyspaceId(1)
STATEMENTS_PER_BUSY_S = 2000.0  # half a millisecond each
SAMPLE = 64
EPOCH_S = 1_767_225_600.0  # the simulation begins at midnight, 2026-01-01


@dataclass(slots=True)
class SimShard:
    """A shard: cells `start` to `end` of the workload. `load` is what was measured lately."""

    id: ShardId
    group: GroupId
    start: int
    end: int
    born_s: float = 0.0
    moved_s: float = 0.0
    load: float = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long changes take: bytes per second of a copy, and seconds around it. `noise`: how far one measurement of load is off."""

    copy_bytes_s: float = 50e6
    around_s: float = 5.0
    noise: float = 0.1


class World:
    """The cluster as time goes on. All chance comes from the seed."""

    def __init__(
        self, workload: Workload, *, groups: int, shards: int, seed: int, settings: KeyspaceSettings | None = None,
        rules: Rules | None = None, speed: Speed | None = None,
    ) -> None:  # fmt: skip
        self.workload, self.speed, self.rules = workload, speed or Speed(), rules or Rules()
        self.chance = Random(f"{seed} world")
        self.now_s = 0.0
        self.groups = [GroupId(group) for group in range(groups)]
        self.keyspace = KeyspacePicture(
            id=KEYSPACE, name="simulated", strategy="range", key_types=workload.key_types,
            settings=settings or KeyspaceSettings(),
        )  # fmt: skip
        starts = [0, *workload.bounds(shards)]
        ends = [*starts[1:], len(workload.keys)]
        self.shards: dict[ShardId, SimShard] = {}
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
            group = self.groups[self.chance.randrange(groups)]
            self.shards[ShardId(number)] = SimShard(ShardId(number), group, start, end, -1e9, -1e9)
        self._next = len(self.shards) + 1
        self._running: list[tuple[float, int, Action]] = []
        self._begun = 0
        self.moved_bytes = 0.0
        self.done = {"split": 0, "move": 0, "merge": 0}
        self.use: Use = workload.use(0.0)

    # ---- time ----------------------------------------------------------------------------------------

    def pass_until(self, now_s: float) -> None:
        """Let time pass: what ends until then happens."""
        while self._running and self._running[0][0] <= now_s:
            self.now_s, _, action = heappop(self._running)
            self._finish(action)
        self.now_s = now_s
        self.use = self.workload.use(now_s)

    @property
    def next_end_s(self) -> float | None:
        """When the next change ends."""
        return self._running[0][0] if self._running else None

    def begin(self, action: Action) -> None:
        """Begin a change; it ends when its bytes have been copied."""
        size = self._bytes(self.shards[action.shard])
        if isinstance(action, Merge):
            size += self._bytes(self.shards[action.right])
        self._begun += 1
        ends_s = self.now_s + size / self.speed.copy_bytes_s + self.speed.around_s
        heappush(self._running, (ends_s, self._begun, action))

    def _finish(self, action: Action) -> None:
        shard = self.shards[action.shard]
        self.done[action.kind] += 1
        if isinstance(action, Move):
            self.moved_bytes += self._bytes(shard)
            shard.group, shard.moved_s = action.to_group, self.now_s
        elif isinstance(action, Merge):
            right = self.shards.pop(action.right)
            assert right.start == shard.end and right.group == shard.group
            del self.shards[shard.id]
            self._add(shard.group, shard.start, right.end, shard.moved_s)
        else:
            self._split(action, shard)

    def _split(self, action: Split, shard: SimShard) -> None:
        assert action.at is not None
        at = bisect_left(self.workload.keys, action.at)
        if not shard.start < at < shard.end:
            return  # a cell is not divided: nothing to cut
        del self.shards[shard.id]
        self._add(shard.group, shard.start, at, shard.moved_s)
        moved_s = shard.moved_s if action.to_group == action.group else self.now_s
        right = self._add(action.to_group, at, shard.end, moved_s)
        if action.to_group != action.group:
            self.moved_bytes += self._bytes(right)

    def _add(self, group: GroupId, start: int, end: int, moved_s: float) -> SimShard:
        shard = SimShard(ShardId(self._next), group, start, end, self.now_s, moved_s)
        self._next += 1
        self.shards[shard.id] = shard
        return shard

    # ---- what can be seen ----------------------------------------------------------------------------

    def load(self, shard: SimShard) -> float:
        """The true load of a shard."""
        return (self.use.load[shard.end] - self.use.load[shard.start]) * self.use.factor

    def _bytes(self, shard: SimShard) -> float:
        return self.use.bytes[shard.end] - self.use.bytes[shard.start]

    def totals(self) -> tuple[list[float], list[float]]:
        """The true load and bytes of each group."""
        loads, sizes = [0.0] * len(self.groups), [0.0] * len(self.groups)
        for shard in self.shards.values():
            loads[shard.group] += self.load(shard)
            sizes[shard.group] += self._bytes(shard)
        return loads, sizes

    def picture(self) -> Picture:
        """What the controller sees: loads as measured, a little off and smoothed."""
        sizes, keys, last = self.use.bytes, self.workload.keys, len(self.workload.keys)
        random, noise, now = self.chance.random, self.speed.noise, self.now_s + EPOCH_S
        shards: list[ShardPicture] = []
        for shard in self.shards.values():
            start, end = shard.start, shard.end
            seen = self.load(shard) * (1 + noise * (2 * random() - 1))
            shard.load = seen if shard.load < 0 else (shard.load + seen) / 2
            shards.append(
                ShardPicture(
                    id=shard.id, keyspace=KEYSPACE, group=shard.group, lower=keys[start] if start else None,
                    upper=keys[end] if end < last else None, bytes=int(sizes[end] - sizes[start]),
                    statements=shard.load * STATEMENTS_PER_BUSY_S, seconds=shard.load * 0.9, write_share=self.use.writes,
                    appended=self.use.appended if end == last else 0.0,
                    highest=keys[self.use.end - 1] if end == last and self.use.appended else None,
                    advance=1e6, born_s=shard.born_s + EPOCH_S, moved_s=shard.moved_s + EPOCH_S,
                )
            )  # fmt: skip
        running = tuple(
            Running(id=number, kind=action.kind, shards=_shards(action), groups=_groups(action))
            for _, number, action in sorted(self._running, key=lambda item: item[1])
        )
        return Picture(
            now_s=now, groups=tuple(GroupPicture(id=group) for group in self.groups), keyspaces={KEYSPACE: self.keyspace},
            shards=tuple(shards), load_samples=Samples(self, self.use.load), row_samples=Samples(self, self.use.bytes),
            running=running, rules=self.rules,
        )  # fmt: skip


def _shards(action: Action) -> frozenset[ShardId]:
    return frozenset((action.shard, action.right) if isinstance(action, Merge) else (action.shard,))


def _groups(action: Action) -> frozenset[GroupId]:
    return frozenset((action.group,) if isinstance(action, Merge) else (action.group, action.to_group))


class Samples(Mapping[ShardId, KeySample]):
    """Keys drawn as often as the sums say, made when somebody looks."""

    def __init__(self, world: World, sums: Sequence[float]) -> None:
        self._world, self._sums = world, sums

    def __getitem__(self, shard_id: ShardId) -> KeySample:
        shard, sums = self._world.shards[shard_id], self._sums
        low, high = sums[shard.start], sums[shard.end]
        if high <= low:
            raise KeyError(shard_id)
        keys: list[tuple[object, ...]] = []
        offset = self._world.chance.random()
        for number in range(SAMPLE):  # at even distances of load, as the counters do
            at = (
                bisect_left(sums, low + (number + offset) / SAMPLE * (high - low), shard.start, shard.end) - 1
            )
            keys.append(self._world.workload.keys[max(at, shard.start)])
        return KeySample.even(keys)

    def __iter__(self) -> Iterator[ShardId]:
        return iter(self._world.shards)

    def __len__(self) -> int:
        return len(self._world.shards)
