"""One round of decisions: look at a picture, say what to do next, and why not the rest.

At most one change begins in each group and round, and none in a group that takes part in a workflow: first what drains, then
shards above their limits, then balance between groups, then merges.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pgherd.balance import sentence
from pgherd.balance.decision import Decision, Move, Nothing, left_alone
from pgherd.balance.evening import even
from pgherd.balance.memory import Memory, Round, Subject, subject
from pgherd.balance.merging import Pair, merge_of, move_to_merge, pairings
from pgherd.balance.obstacles import Movable, held_back
from pgherd.balance.picture import Picture, ShardPicture
from pgherd.balance.spread import Spread, drain_move
from pgherd.balance.standing import Standing
from pgherd.balance.work import Work, hopeless, no_room, too_many, try_split
from pgherd.catalog.model import ShardId

TO_MERGE_MAX: Final = 4  # moves of one round that only bring neighbours together


def decide(picture: Picture, memory: Memory | None = None) -> Round:
    """One round. Pure: the same picture and memory give the same answer."""
    memory = memory or Memory()
    held = frozenset(shard for running in picture.running for shard in running.shards)
    spread = Spread(picture, Movable(picture, held))
    work = Work(picture, memory, spread, held, picture.rules.workflows_max - len(picture.running))
    _drain(work)
    over = _limits(work)
    uneven, spreading, rest = even(work)
    cold = _merges(work)
    news, told = _news(work)
    after = Memory(
        over=over,
        cold=cold,
        uneven=uneven,
        spreading=spreading,
        rest=rest,
        told=told,
        rounds=memory.rounds + 1,
    )
    high, low = spread.bounds()
    return Round(
        actions=tuple(work.actions),
        nothings=tuple(work.nothings),
        news=news,
        memory=after,
        high=high,
        low=low,
    )


# ---- drain -------------------------------------------------------------------------------------------


def _drain(work: Work) -> None:
    """Groups that shall become empty give a shard each, whatever the settings of keyspaces say: somebody asked for it."""
    for source in [s for s in work.spread.ordered if s.group.draining]:
        shards = [shard for shard in work.spread.held[source.group.id].values() if shard.id not in work.held]
        if not shards or source.group.id in work.blocked or work.left <= 0:
            continue
        for shard in sorted(shards, key=lambda shard: (-max(source.parts(shard)), shard.id)):
            target = work.spread.refuge(shard, source)
            if target is not None:
                work.act(drain_move(shard, source, target, len(shards)))
                work.spread.put(shard, target)
                break
        else:
            roomiest = max(work.spread.targets(), key=lambda target: target.room, default=None)
            if roomiest is not None:
                work.nothings.append(_full_up(source, min(shards, key=lambda one: one.bytes), roomiest))


def _full_up(source: Standing, smallest: ShardPicture, roomiest: Standing) -> Nothing:
    found = no_room(smallest, roomiest, smallest.bytes)
    text = (
        f"group {source.group.id} cannot be drained further, its smallest shard fits nowhere: {found.reason}"
    )
    return replace(found, reason=text, keyspace=None, shard=None, group=source.group.id)


# ---- limits ------------------------------------------------------------------------------------------


def _limits(work: Work) -> dict[ShardId, int]:
    """Split what is above its limits, the worst first. Answers how often each was seen above them."""
    picture = work.picture
    limits = {k.id: (k.settings.size_max, k.settings.load_max) for k in picture.keyspaces.values()}
    excess: list[tuple[float, ShardPicture]] = []
    for shard in picture.shards:
        size_max, load_max = limits[shard.keyspace]
        if shard.bytes > size_max or shard.load > load_max:
            excess.append((max(shard.bytes / size_max, shard.load / load_max), shard))
    excess.sort(key=lambda item: (-item[0], item[1].id))
    over: dict[ShardId, int] = {}
    for _, shard in excess:
        seen = over[shard.id] = work.memory.over.get(shard.id, 0) + 1
        if shard.id not in work.held and not hopeless(work, shard):
            _limit(work, shard, seen)
    return over


def _limit(work: Work, shard: ShardPicture, seen: int) -> None:
    picture = work.picture
    why_not = held_back(picture, shard, "split", work.blocked) or too_many(work, shard)
    if why_not is None and seen < picture.rules.sustain_rounds:
        why_not = _seen(shard, seen, picture.rules.sustain_rounds)
    if why_not is None and work.left <= 0:
        why_not = _full(shard, picture.rules.workflows_max)
    if why_not is not None:
        work.nothings.append(why_not)
        return
    try_split(work, shard, "")


def _full(shard: ShardPicture, most: int) -> Nothing:
    text = f"waits until fewer than {most} workflows run"
    return left_alone(shard, "busy", text)


def _seen(shard: ShardPicture, seen: int, needed: int) -> Nothing:
    text = f"above its limits for {seen} of {needed} pictures: {sentence.size(shard.bytes)}, {sentence.load(shard.load)}"
    figures = {"seen": seen, "needed": needed, "bytes": shard.bytes, "load": round(shard.load, 4)}
    return left_alone(shard, "sustain", text, figures)


# ---- merges ------------------------------------------------------------------------------------------


def _merges(work: Work) -> dict[Pair, int]:
    """Join small, cold neighbours; bring them together first where they lie apart. Answers how often each pair was seen."""
    picture, cold = work.picture, dict[Pair, int]()
    moves = 0
    for pair in pairings(picture, work.spread.standings):
        seen = cold[pair.ids] = work.memory.cold.get(pair.ids, 0) + 1
        if seen < picture.rules.sustain_rounds or work.left <= 0 or work.held & set(pair.ids):
            continue
        together = pair.left.group == pair.right.group
        change = "merge" if together else "move"
        if any(held_back(picture, shard, change, work.blocked) for shard in (pair.left, pair.right)):
            continue
        if together and not work.spread.standings[pair.left.group].fits(pair.left.bytes + pair.right.bytes):
            there = work.spread.standings[pair.left.group]
            work.nothings.append(no_room(pair.left, there, pair.left.bytes + pair.right.bytes))
        elif together:
            work.act(merge_of(picture, pair))
        elif moves < TO_MERGE_MAX:
            move = move_to_merge(pair)
            if _welcome(work, move):
                work.act(move)
                moves += 1
    return cold


def _welcome(work: Work, move: Move) -> bool:
    target = work.spread.standings[move.to_group]
    fits = not target.group.draining and target.fits(move.bytes)
    return fits and target.peak <= 1 + work.picture.rules.settle


# ---- news --------------------------------------------------------------------------------------------


def _news(work: Work) -> tuple[tuple[Decision, ...], dict[Subject, str]]:
    """What the log does not know yet: every action, and each reason for doing nothing when it is another one than last time."""
    told: dict[Subject, str] = dict(work.passed_over)
    news: list[Decision] = list(work.actions)
    for nothing in work.nothings:
        about = subject(nothing)
        if nothing.code not in (work.memory.told.get(about), told.get(about)):
            news.append(nothing)
        told[about] = nothing.code
    return tuple(news), told
