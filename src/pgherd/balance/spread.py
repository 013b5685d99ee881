"""Which shard goes where so that groups get even, with few bytes moved.

Greedy: the group with the highest peak gives, one of the lowest takes, and of all shards the one with the most benefit for
its bytes travels. Every move leaves the higher of both peaks lower than before: the sorted list of peaks falls with each,
so a plan ends and the worst group never gets worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest

from pgherd.balance import sentence
from pgherd.balance.decision import Move, MoveCode
from pgherd.balance.picture import Picture, ShardPicture
from pgherd.balance.settings import MIB, Rules
from pgherd.balance.standing import Standing, standings
from pgherd.catalog.model import GroupId, ShardId

TARGETS = 6  # the lowest groups that are looked at for each shard
CANDIDATES = 96  # shards of one group that are looked at closely


@dataclass(frozen=True, slots=True)
class Choice:
    """One possible move and its benefit for each byte."""

    shard: ShardPicture
    source: Standing
    target: Standing
    score: float
    pull: bool


class Spread:
    """A working copy of the groups, into which chosen moves are put. `movable` says which shards may travel."""

    def __init__(
        self, picture: Picture, movable: Callable[[ShardPicture], bool], rules: Rules | None = None
    ) -> None:
        self.picture, self.movable = picture, movable
        self.rules = rules or picture.rules
        self.standings = standings(picture, self.rules)
        self.ordered = sorted(self.standings.values(), key=_by_peak)
        self.blocked = {group.id for group in picture.groups if group.busy or not group.reachable}
        for running in picture.running:
            self.blocked |= running.groups
        self._heeds_room = True
        self._heaviest = max((group.weight for group in picture.groups), default=1.0)
        self._held: dict[GroupId, dict[ShardId, ShardPicture]] | None = None
        self._candidates: dict[GroupId, dict[ShardId, ShardPicture]] = {}

    @property
    def held(self) -> dict[GroupId, dict[ShardId, ShardPicture]]:
        """The shards of each group; one that was put elsewhere is in none, since it travels once."""
        if self._held is None:
            self._held = {group: {} for group in self.standings}
            for shard in self.picture.shards:
                self._held[shard.group][shard.id] = shard
        return self._held

    def targets(self) -> list[Standing]:
        """The groups that may take a shard, the lowest first."""
        return [s for s in self.ordered if not s.group.draining and s.group.id not in self.blocked]

    def bounds(self) -> tuple[float, float]:
        """The highest and the lowest peak of the groups that do not drain."""
        peaks = [s.peak for s in self.ordered if not s.group.draining]
        return (peaks[-1], peaks[0]) if peaks else (1.0, 1.0)

    def uneven(self, within: float) -> bool:
        """Whether any group's peak is further from 1 than `within`."""
        high, low = self.bounds()
        return high > 1 + within or low < 1 - within

    def sources(self) -> list[Standing]:
        """The groups that have more than their part, the highest first."""
        found = (s for s in reversed(self.ordered) if s.peak > 1 and not s.group.draining)
        return [s for s in found if s.group.id not in self.blocked]

    def choose(
        self,
        source: Standing,
        allowed: Callable[[ShardPicture], bool] | None = None,
        *,
        landing: bool = False,
    ) -> Choice | None:
        """The best move away from `source`, if any helps. `landing`: only such that the target does not become overloaded itself."""
        over = source.peak > 1 + self.rules.settle
        targets = self.targets()
        lowest = [t for t in targets[:TARGETS] if over or t.peak < 1 - self.rules.settle]
        if over and targets:
            lowest += [
                t for t in (min(targets, key=_by_load), min(targets, key=_by_bytes)) if t not in lowest
            ]
        lowest = [target for target in lowest if target is not source]
        if not lowest:
            return None
        best: Choice | None = None
        low = min(target.peak for target in lowest)
        for shard in self._near(source, allowed or self.movable):
            load, size = source.parts(shard)
            if low + max(load, size) * source.group.weight / self._heaviest >= source.peak:
                continue  # it fits nowhere
            for target in lowest:
                score = self._score(shard, source, target, pull=not over, landing=landing)
                if score > 0 and (best is None or (score, -shard.id) > (best.score, -best.shard.id)):
                    best = Choice(shard, source, target, score, not over)
        return best

    def crowded(self, source: Standing) -> Choice | None:
        """The move that `choose` would have made if there were room everywhere."""
        self._heeds_room = False
        try:
            return self.choose(source)
        finally:
            self._heeds_room = True

    def _near(self, source: Standing, allowed: Callable[[ShardPicture], bool]) -> Iterable[ShardPicture]:
        """The shards of a group that are worth looking at: all, or of very many those that promise most."""
        shards = self.held[source.group.id].values()
        if len(shards) <= CANDIDATES:
            return [shard for shard in shards if allowed(shard)]
        kept = self._candidates.get(source.group.id)
        if kept is None or len(kept) <= CANDIDATES // 2 or allowed is not self.movable:
            by_load = source.load >= source.bytes
            cost = self.rules.move_cost_bytes

            def promise(shard: ShardPicture) -> tuple[float, int]:
                return (shard.load if by_load else shard.bytes) / (shard.bytes + cost), -shard.id

            best = nlargest(CANDIDATES, (shard for shard in shards if allowed(shard)), key=promise)
            kept = {shard.id: shard for shard in best}
            if allowed is self.movable:
                self._candidates[source.group.id] = kept
        return kept.values()

    def lands(self, shard: ShardPicture, source: Standing) -> bool:
        """Whether some group could take the shard and stay below the trigger."""
        most = 1 + self.rules.trigger
        for target in self.targets()[:TARGETS]:
            load, size = target.parts(shard)
            if (
                target is not source
                and target.fits(shard.bytes)
                and max(target.load + load, target.bytes + size) <= most
            ):
                return True
        return False

    def _score(
        self, shard: ShardPicture, source: Standing, target: Standing, *, pull: bool, landing: bool
    ) -> float:
        if self._heeds_room and not target.fits(shard.bytes):
            return 0.0
        load, size = source.parts(shard)
        load_there, size_there = target.parts(shard)
        after_load, after_bytes = target.load + load_there, target.bytes + size_there
        margin = max(self.rules.gain_min * (source.peak - target.peak), 0.02)
        limit = source.peak - margin
        if landing and limit > 1 + self.rules.trigger:
            limit = 1 + self.rules.trigger
        if after_load > limit or after_bytes > limit:
            return 0.0
        if max(source.load - load, source.bytes - size) >= source.peak:
            return 0.0
        fine = 1 + self.rules.settle  # a part that is not too large may grow up to here
        weight, weight_there = source.group.weight, target.group.weight
        benefit = 0.0
        if pull or source.load > 1:
            benefit += weight * (source.load**2 - (source.load - load) ** 2)
            benefit += weight_there * (target.load**2 - after_load**2)
        elif after_load > fine:
            benefit -= weight_there * (after_load**2 - max(fine, target.load) ** 2)
        if pull or source.bytes > 1:
            benefit += weight * (source.bytes**2 - (source.bytes - size) ** 2)
            benefit += weight_there * (target.bytes**2 - after_bytes**2)
        elif after_bytes > fine:
            benefit -= weight_there * (after_bytes**2 - max(fine, target.bytes) ** 2)
        return benefit / (shard.bytes + self.rules.move_cost_bytes) if benefit > 1e-9 else 0.0

    def better_place(self, shard: ShardPicture, source: Standing, size: int) -> Standing | None:
        """Where a shard (or a part of one that comes to be) would do the balance most good; None: where it is. `size`: bytes that it must have room for."""
        pull = source.peak <= 1 + self.rules.settle
        best: tuple[float, Standing] | None = None
        for target in self.targets()[:TARGETS]:
            low = not pull or target.peak < 1 - self.rules.settle
            if target is not source and low and target.fits(size):
                score = self._score(shard, source, target, pull=pull, landing=False)
                if score > 0 and (best is None or score > best[0]):
                    best = score, target
        return best[1] if best else None

    def refuge(self, shard: ShardPicture, source: Standing) -> Standing | None:
        """The group that stands lowest with a shard that must leave `source`; None if none has room."""
        best: tuple[float, GroupId] | None = None
        for target in self.targets():
            if best is not None and target.peak >= best[0]:
                break
            if target is source or not target.fits(shard.bytes):
                continue
            load, size = target.parts(shard)
            after = max(target.load + load, target.bytes + size)
            if best is None or (after, target.group.id) < best:
                best = (after, target.group.id)
        return None if best is None else self.standings[best[1]]

    def put(self, shard: ShardPicture, target: Standing) -> None:
        """Let a shard be in another group from now on."""
        del self.held[shard.group][shard.id]
        self._candidates.get(shard.group, {}).pop(shard.id, None)
        self.hand_over(shard, self.standings[shard.group], target)

    def hand_over(self, shard: ShardPicture, source: Standing, target: Standing) -> None:
        """Let what a shard weighs count elsewhere."""
        source.take(shard, -1)
        target.take(shard, +1)
        self.ordered.sort(key=_by_peak)


def _by_peak(standing: Standing) -> tuple[float, int]:
    return standing.peak, standing.group.id


def _by_load(standing: Standing) -> tuple[float, int]:
    return standing.load, standing.group.id


def _by_bytes(standing: Standing) -> tuple[float, int]:
    return standing.bytes, standing.group.id


def move_of(choice: Choice) -> Move:
    """The decision, with its sentence, before it is put into the standings."""
    shard, source, target = choice.shard, choice.source, choice.target
    what = "load" if source.load >= source.bytes else "bytes"
    load, size = source.parts(shard)
    load_there, size_there = target.parts(shard)
    before = f"group {source.group.id} carries {source.peak:.2f} times its part of the {what}"
    if choice.pull:
        before = f"group {target.group.id} carries only {target.peak:.2f} of its part"
    after = max(source.load - load, source.bytes - size)
    there = max(target.load + load_there, target.bytes + size_there)
    reason = (
        f"{before}: moving {sentence.size(shard.bytes)} with a load of {sentence.load(shard.load)} leaves group "
        f"{source.group.id} at {after:.2f} and brings group {target.group.id} from {target.peak:.2f} to {there:.2f}"
    )
    figures = {"source_before": source.peak, "source_after": after, "target_before": target.peak}
    return _move(
        shard, target, "underused" if choice.pull else "overloaded", reason, figures | {"target_after": there}
    )


def drain_move(shard: ShardPicture, source: Standing, target: Standing, left: int) -> Move:
    """The decision for a shard of a group that shall become empty; `left` shards are in it, this one included."""
    reason = (
        f"group {source.group.id} is being drained, {left} shard{'' if left == 1 else 's'} to go: "
        f"{sentence.size(shard.bytes)} go to group {target.group.id}, which carries {target.peak:.2f} of its part"
    )
    return _move(shard, target, "drain", reason, {"left": left, "target_before": target.peak})


def _move(
    shard: ShardPicture, target: Standing, code: MoveCode, reason: str, figures: dict[str, float]
) -> Move:
    rounded = {name: round(value, 4) for name, value in figures.items()}
    return Move(
        keyspace=shard.keyspace, shard=shard.id, group=shard.group, to_group=target.group.id, bytes=shard.bytes,
        code=code, reason=reason, figures=rounded | {"bytes": shard.bytes, "load": round(shard.load, 4)},
    )  # fmt: skip


def rebalance(picture: Picture, *, moves_max: int = 100_000) -> tuple[Move, ...]:
    """The whole plan of moves that empties draining groups and makes the others even, in order.

    Somebody asked for it: settings, window and cool-down do not count, and small differences do. Shards and groups of
    running workflows are left alone.
    """
    rules = replace(picture.rules, floor_load=0.001, floor_bytes=MIB)
    held = {shard for running in picture.running for shard in running.shards}
    moved: set[ShardId] = set()
    spread = Spread(picture, lambda shard: shard.id not in held and shard.id not in moved, rules)
    moves = drain(spread, moves_max)
    moved |= {move.shard for move in moves}
    while len(moves) < moves_max and spread.uneven(rules.settle):
        choice = _first(spread)
        if choice is None:
            break
        moves.append(move_of(choice))
        moved.add(choice.shard.id)
        spread.put(choice.shard, choice.target)
    return tuple(moves)


def _first(spread: Spread) -> Choice | None:
    """The best move of the highest group that has any."""
    for source in spread.sources():
        choice = spread.choose(source)
        if choice is not None:
            return choice
    return None


def drain(spread: Spread, moves_max: int) -> list[Move]:
    """Moves that empty the draining groups, the largest shards first; what has no room elsewhere stays."""
    moves: list[Move] = []
    for source in [s for s in spread.ordered if s.group.draining and s.group.id not in spread.blocked]:
        shards = leaving(spread, source)
        for shard in shards:
            target = spread.refuge(shard, source)
            if target is None or len(moves) >= moves_max:
                continue
            moves.append(drain_move(shard, source, target, len(shards)))
            spread.put(shard, target)
    return moves


def leaving(spread: Spread, source: Standing) -> Sequence[ShardPicture]:
    """The shards of a draining group that may travel, the one that adds most elsewhere first."""
    shards = [shard for shard in spread.held[source.group.id].values() if spread.movable(shard)]
    return sorted(shards, key=lambda shard: (-max(source.parts(shard)), shard.id))
