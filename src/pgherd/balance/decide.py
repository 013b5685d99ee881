"""One round of decisions: look at a picture, say what to do next, and why not the rest.

At most one change begins in each group and round, and none in a group that takes part in a workflow: first what drains, then
shards above their limits, then balance between groups, then merges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pgherd.balance import sentence
from pgherd.balance.decision import Action, Decision, Merge, Move, Nothing, Split
from pgherd.balance.gates import Movable, held_back
from pgherd.balance.memory import Memory, Rest, Round, Subject, subject
from pgherd.balance.merging import Pair, merge_of, move_to_merge, pairings, shards_min
from pgherd.balance.picture import Picture, ShardPicture
from pgherd.balance.splitting import split
from pgherd.balance.spread import Spread, drain_move, move_of
from pgherd.balance.standing import Standing
from pgherd.catalog.model import GroupId, KeyspaceId, ShardId

BIG_PART = 0.5  # of a group's fair part: a shard that is cut before others are moved out of its way
SMALL_PART = 0.25  # a shard that is cut when nothing can be moved
HOPELESS: Final = frozenset({"hot_key", "hot_end", "no_point"})
AGAIN_ROUNDS: Final = 8
FRUITLESS_MAX: Final = 8  # groups of a round for which nothing can be done, before the search ends
WAITING: Final = frozenset({"cooling", "window", "busy", "thin_sample", "no_sample"})
Step = Literal["begun", "waits", "stuck"]
TO_MERGE_MAX = 4  # moves of one round that only bring neighbours together


@dataclass(slots=True)
class _Work:
    """A round while it is made."""

    picture: Picture
    memory: Memory
    spread: Spread
    held: frozenset[ShardId]  # by running workflows
    left: int  # workflows that may begin yet
    actions: list[Action] = field(default_factory=list[Action])
    nothings: list[Nothing] = field(default_factory=list[Nothing])
    passed_over: dict[Subject, str] = field(
        default_factory=dict[Subject, str]
    )  # told before, and surely still so

    @property
    def blocked(self) -> set[GroupId]:
        return self.spread.blocked

    def act(self, action: Action) -> None:
        self.actions.append(action)
        self.left -= 1
        self.blocked.add(action.group)
        if not isinstance(action, Merge):
            self.blocked.add(action.to_group)


def decide(picture: Picture, memory: Memory | None = None) -> Round:
    """One round. Pure: the same picture and memory give the same answer."""
    memory = memory or Memory()
    held = frozenset(shard for running in picture.running for shard in running.shards)
    spread = Spread(picture, Movable(picture, held))
    work = _Work(picture, memory, spread, held, picture.rules.workflows_max - len(picture.running))
    _drain(work)
    over = _limits(work)
    uneven, spreading, rest = _even(work)
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


def _drain(work: _Work) -> None:
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
            if len(work.spread.targets()) > 0:
                text = f"group {source.group.id} cannot be drained further: no group has room for any of its {len(shards)} shards"
                work.nothings.append(Nothing(code="no_room", reason=text, group=source.group.id))


# ---- limits ------------------------------------------------------------------------------------------


def _limits(work: _Work) -> dict[ShardId, int]:
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
    counts = _counts(picture, {shard.keyspace for _, shard in excess})
    for _, shard in excess:
        seen = over[shard.id] = work.memory.over.get(shard.id, 0) + 1
        if shard.id not in work.held and not _hopeless(work, shard):
            _limit(work, shard, seen, counts)
    return over


def _hopeless(work: _Work, shard: ShardPicture) -> bool:
    """Whether a split was found to be of no help lately: that is looked at again in one round of `AGAIN_ROUNDS`."""
    code = work.memory.told.get(("shard", shard.id))
    if code not in HOPELESS or (work.memory.rounds + shard.id) % AGAIN_ROUNDS == 0:
        return False
    work.passed_over["shard", shard.id] = code
    return True


def _counts(picture: Picture, wanted: set[KeyspaceId]) -> dict[KeyspaceId, int]:
    counts = dict.fromkeys(wanted, 0)
    if wanted:
        for shard in picture.shards:
            if shard.keyspace in counts:
                counts[shard.keyspace] += 1
    return counts


def _limit(work: _Work, shard: ShardPicture, seen: int, counts: dict[KeyspaceId, int]) -> None:
    picture = work.picture
    why_not = held_back(picture, shard, "split", work.blocked) or _too_many(picture, shard, counts)
    if why_not is None and seen < picture.rules.sustain_rounds:
        why_not = _seen(shard, seen, picture.rules.sustain_rounds)
    if why_not is not None:
        work.nothings.append(why_not)
        return
    _try_split(work, shard, "", counts)


def _try_split(
    work: _Work, shard: ShardPicture, balance: str, counts: dict[KeyspaceId, int]
) -> Split | Nothing:
    verdict = split(work.picture, shard, balance=balance)
    if isinstance(verdict, Nothing):
        work.nothings.append(verdict)
    elif work.left > 0:
        verdict = _placed(work, shard, verdict)
        work.act(verdict)
        counts[shard.keyspace] += 1
    return verdict


def _placed(work: _Work, shard: ShardPicture, verdict: Split) -> Split:
    """The split with its right part where that does the balance good: both parts are copied anyway."""
    source = work.spread.standings[shard.group]
    if not work.picture.keyspaces[shard.keyspace].settings.automove:
        return verdict
    share = verdict.right_share
    load = shard.write_share * shard.appended if verdict.code == "grows" else share
    right = replace(
        shard,
        bytes=int(shard.bytes * share),
        seconds=shard.seconds * load,
        statements=shard.statements * load,
    )
    target = work.spread.better_place(right, source)
    if target is None:
        return verdict
    work.spread.hand_over(right, source, target)
    reason = f"{verdict.reason}; the right part goes to group {target.group.id}, which carries less"
    return replace(verdict, to_group=target.group.id, reason=reason)


def _too_many(picture: Picture, shard: ShardPicture, counts: dict[KeyspaceId, int]) -> Nothing | None:
    most = picture.keyspaces[shard.keyspace].settings.shards_max
    if counts[shard.keyspace] < most:
        return None
    text = f"the keyspace has {counts[shard.keyspace]} shards, and shards_max is {most}"
    return Nothing(code="shards_max", reason=text, keyspace=shard.keyspace, shard=shard.id, group=shard.group)


def _seen(shard: ShardPicture, seen: int, needed: int) -> Nothing:
    text = f"above its limits for {seen} of {needed} pictures: {sentence.size(shard.bytes)}, {sentence.load(shard.load)}"
    figures = {"seen": seen, "needed": needed, "bytes": shard.bytes, "load": round(shard.load, 4)}
    return Nothing(
        code="sustain",
        reason=text,
        keyspace=shard.keyspace,
        shard=shard.id,
        group=shard.group,
        figures=figures,
    )


# ---- balance -----------------------------------------------------------------------------------------


def _even(work: _Work) -> tuple[int, bool, Rest | None]:
    """Moves (and splits) that make the groups even. Answers the next memory's uneven, spreading and rest."""
    memory, spread, rules = work.memory, work.spread, work.picture.rules
    high, low = spread.bounds()
    uneven = memory.uneven + 1 if spread.uneven(rules.trigger) else 0
    spreading = memory.spreading or uneven >= rules.sustain_rounds
    if not spreading or not spread.uneven(rules.settle):
        return uneven, False, None
    shape = hash(
        (
            len(work.picture.shards),
            tuple((g.id, g.weight, g.draining, g.reachable) for g in work.picture.groups),
        )
    )
    rest = memory.rest
    if rest is not None and _rests(rest, high, low, shape, rules.trigger / 2):
        return uneven, False, rest
    begun, fruitless, waits = 0, 0, False
    for source in spread.sources():
        if (
            work.left <= 0
            or fruitless > FRUITLESS_MAX
            or source.peak <= 1
            or (source.peak <= 1 + rules.settle and not _lacking(spread))
        ):
            break
        if source.group.id in work.blocked:
            continue
        step = _step(work, source)
        begun += step == "begun"
        fruitless += step != "begun"
        waits = waits or step == "waits"
    if begun or waits or any(group.id in work.blocked for group in work.picture.groups):
        return uneven, True, None
    return uneven, False, Rest(high=high, low=low, shape=shape)


def _rests(rest: Rest, high: float, low: float, shape: int, tolerance: float) -> bool:
    return shape == rest.shape and high <= rest.high + tolerance and low >= rest.low - tolerance


def _lacking(spread: Spread) -> bool:
    targets = spread.targets()
    return bool(targets) and targets[0].peak < 1 - spread.rules.settle


def _step(work: _Work, source: Standing) -> Step:
    """One change for a group that has too much: cut the one shard that is too large to go anywhere, or move what fits elsewhere."""
    spread = work.spread
    tried = _split_largest(work, source, BIG_PART) if source.peak > 1 + spread.rules.trigger else "stuck"
    if tried != "stuck":
        return tried
    choice = spread.choose(source, landing=True)
    if choice is None and _waits(work, source):
        return "waits"
    choice = choice or spread.choose(source)
    if choice is not None:
        work.act(move_of(choice))
        spread.put(choice.shard, choice.target)
        return "begun"
    if source.peak <= 1 + spread.rules.trigger:
        return "stuck"
    tried = _split_largest(work, source, SMALL_PART)
    if tried == "stuck":
        work.nothings.append(_no_gain(source, spread.bounds()[1]))
    return tried


def _waits(work: _Work, source: Standing) -> bool:
    """Whether a shard would fit elsewhere as soon as it has cooled down, or its window comes."""

    def later(shard: ShardPicture) -> bool:
        settings = work.picture.keyspaces[shard.keyspace].settings
        return settings.autosplit and settings.automove and shard.id not in work.held

    choice = work.spread.choose(source, later, landing=True)
    why_not = None if choice is None else held_back(work.picture, choice.shard, "move", work.blocked)
    if why_not is None:
        return False
    work.nothings.append(why_not)
    return True


def _split_largest(work: _Work, source: Standing, least: float) -> Step:
    """Cut a group's largest shard if it is at least so much of a fair part and fits nowhere whole, so that a half does."""
    what = "load" if source.load >= source.bytes else "bytes"
    place = 0 if what == "load" else 1
    shards = [shard for shard in work.spread.held[source.group.id].values() if shard.id not in work.held]
    largest = max(shards, key=lambda shard: (source.parts(shard)[place], -shard.id), default=None)
    if largest is None or source.parts(largest)[place] < least or work.spread.lands(largest, source):
        return "stuck"
    if _hopeless(work, largest):
        return "stuck"
    counts = _counts(work.picture, {largest.keyspace})
    why_not = held_back(work.picture, largest, "split", work.blocked) or _too_many(
        work.picture, largest, counts
    )
    if why_not is None:
        why_not = _try_split(work, largest, what, counts)
        if isinstance(why_not, Split):
            return "begun"
    else:
        work.nothings.append(why_not)
    return "waits" if why_not.code in WAITING else "stuck"


def _no_gain(source: Standing, low: float) -> Nothing:
    text = (
        f"group {source.group.id} carries {source.peak:.2f} times its part, the lowest group {low:.2f}: "
        "moving any of its shards there would not improve the balance by 10 %"
    )
    return Nothing(
        code="no_gain", reason=text, group=source.group.id, figures={"high": source.peak, "low": low}
    )


# ---- merges ------------------------------------------------------------------------------------------


def _merges(work: _Work) -> dict[Pair, int]:
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
        if together:
            work.act(merge_of(picture, pair))
        elif moves < TO_MERGE_MAX:
            move = move_to_merge(pair)
            if _welcome(work, move):
                work.act(move)
                moves += 1
    return cold


def _welcome(work: _Work, move: Move) -> bool:
    target = work.spread.standings[move.to_group]
    fits = not target.group.draining and move.bytes <= target.room
    return fits and target.peak <= 1 + work.picture.rules.settle


# ---- news --------------------------------------------------------------------------------------------


def _news(work: _Work) -> tuple[tuple[Decision, ...], dict[Subject, str]]:
    """What the log does not know yet: every action, and each reason for doing nothing when it is another one than last time."""
    told: dict[Subject, str] = dict(work.passed_over)
    news: list[Decision] = list(work.actions)
    for nothing in work.nothings:
        about = subject(nothing)
        if nothing.code not in (work.memory.told.get(about), told.get(about)):
            news.append(nothing)
        told[about] = nothing.code
    return tuple(news), told


def shards_kept(picture: Picture) -> dict[KeyspaceId, int]:
    """How many shards each keyspace keeps, however cold they are."""
    groups = sum(not group.draining for group in picture.groups)
    return {keyspace.id: shards_min(keyspace, groups) for keyspace in picture.keyspaces.values()}
