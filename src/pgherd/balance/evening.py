"""Moves, and splits for their sake, that make the groups even.

It begins when a group has been out of bounds by the trigger for several pictures, and goes on until all are within the settled
bounds. A group for which nothing can be done rests until it has changed clearly, so that noise does not wake it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from pgherd.balance.decision import Nothing, Split
from pgherd.balance.memory import Rest
from pgherd.balance.obstacles import held_back
from pgherd.balance.picture import ShardPicture
from pgherd.balance.spread import Choice, Spread, move_of
from pgherd.balance.standing import Standing
from pgherd.balance.work import Work, hopeless, no_room, too_many, try_split
from pgherd.catalog.model import GroupId

BIG_PART: Final = 0.5  # of a group's fair part: a shard that is cut before others are moved out of its way
SMALL_PART: Final = 0.25  # a shard that is cut when nothing can be moved
FRUITLESS_MAX: Final = 8  # groups of a round for which nothing can be done, before the search ends
WAITING: Final = frozenset({"cooling", "window", "busy", "thin_sample", "no_sample"})
Step = Literal["begun", "waits", "stuck"]


def even(work: Work) -> tuple[dict[GroupId, int], bool, dict[GroupId, Rest]]:
    """One round of it. Answers the next memory's uneven, spreading and rest."""
    spread, rules = work.spread, work.spread.rules
    rest = {group: found for group, found in work.memory.rest.items() if _rests(spread, group, found)}
    awake = [s for s in spread.ordered if not s.group.draining and s.group.id not in rest]
    out = [s.group.id for s in awake if abs(s.peak - 1) > rules.trigger]
    uneven = {group: work.memory.uneven.get(group, 0) + 1 for group in out}
    spreading = work.memory.spreading or any(seen >= rules.sustain_rounds for seen in uneven.values())
    if not spreading or all(abs(s.peak - 1) <= rules.settle for s in awake):
        return uneven, False, rest
    stuck, pending = _sources(work, rest)
    if not pending:  # nobody gives any more: what is too empty stays so
        stuck += [s for s in awake if s.peak < 1 - rules.settle]
    rest |= {s.group.id: Rest(peak=s.peak, shards=len(spread.held[s.group.id])) for s in stuck}
    return uneven, pending, rest


def _rests(spread: Spread, group: GroupId, rest: Rest) -> bool:
    """Whether a group is still as it was when nothing could be done for it."""
    stands = spread.standings.get(group)
    if stands is None or stands.group.draining or abs(stands.peak - 1) <= spread.rules.settle:
        return False
    return abs(stands.peak - rest.peak) <= spread.rules.trigger and len(spread.held[group]) == rest.shards


def _sources(work: Work, rest: Mapping[GroupId, Rest]) -> tuple[list[Standing], bool]:
    """A step for each group that has too much, the worst first: which are stuck, and whether anything was begun or will be."""
    spread, settled = work.spread, 1 + work.spread.rules.settle
    stuck: list[Standing] = []
    busy = any(group.busy for group in work.picture.groups)
    pending = busy or bool(work.picture.running) or bool(work.actions)  # what is under way may make room
    for source in spread.sources():
        if work.left <= 0 or len(stuck) > FRUITLESS_MAX:
            return stuck, True
        if source.peak <= 1 or (source.peak <= settled and not _lacking(spread, rest)):
            break
        if source.group.id in work.blocked or source.group.id in rest:
            continue
        step = _step(work, source)
        if step != "stuck":
            pending = True
        elif source.peak > settled:
            stuck.append(source)
    return stuck, pending


def _lacking(spread: Spread, rest: Mapping[GroupId, Rest]) -> bool:
    """Whether a group that may take shards has too little."""
    low = next((target for target in spread.targets() if target.group.id not in rest), None)
    return low is not None and low.peak < 1 - spread.rules.settle


def _step(work: Work, source: Standing) -> Step:
    """One change for a group that has too much: cut the one shard that is too large to go anywhere, or move what fits elsewhere."""
    spread = work.spread
    tried = _split_largest(work, source, BIG_PART) if source.peak > 1 + spread.rules.trigger else "stuck"
    if tried != "stuck":
        return tried
    if _owes_it_to_one(work, source):
        work.nothings.append(_no_gain(source, spread.bounds()[1]))
        return "stuck"
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
    crowded = spread.crowded(source) if tried != "begun" else None
    if crowded is not None:
        work.nothings.append(_crowded(source, crowded))
    elif tried == "stuck":
        work.nothings.append(_no_gain(source, spread.bounds()[1]))
    return tried


def _waits(work: Work, source: Standing) -> bool:
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


def _split_largest(work: Work, source: Standing, least: float) -> Step:
    """Cut a group's largest shard if it is at least so much of a fair part and fits nowhere whole, so that a half does."""
    what, largest, part = _largest(work, source)
    if largest is None or part < least or work.spread.lands(largest, source):
        return "stuck"
    if hopeless(work, largest):
        return "stuck"
    why_not = held_back(work.picture, largest, "split", work.blocked) or too_many(work, largest)
    if why_not is None:
        why_not = try_split(work, largest, what)
        if isinstance(why_not, Split):
            return "begun"
    else:
        work.nothings.append(why_not)
    return "waits" if why_not.code in WAITING else "stuck"


def _largest(work: Work, source: Standing) -> tuple[str, ShardPicture | None, float]:
    """What the group has too much of ("load" or "bytes"), the shard that has most of that, and how much it is of a fair part."""
    what = "load" if source.load >= source.bytes else "bytes"
    place = 0 if what == "load" else 1
    shards = [shard for shard in work.spread.held[source.group.id].values() if shard.id not in work.held]
    largest = max(shards, key=lambda shard: (source.parts(shard)[place], -shard.id), default=None)
    return what, largest, source.parts(largest)[place] if largest is not None else 0.0


def _owes_it_to_one(work: Work, source: Standing) -> bool:
    """Whether one shard that fits nowhere makes all but a tenth of the excess: to move the others would change little."""
    _, largest, part = _largest(work, source)
    if largest is None or part <= 1 or work.spread.lands(largest, source):
        return False
    return source.peak - part < work.spread.rules.gain_min * (source.peak - 1)


def _crowded(source: Standing, choice: Choice) -> Nothing:
    found = no_room(choice.shard, choice.target, choice.shard.bytes)
    text = f"group {source.group.id} carries {source.peak:.2f} times its part, but: {found.reason}"
    return replace(found, reason=text, keyspace=None, shard=None, group=source.group.id)


def _no_gain(source: Standing, low: float) -> Nothing:
    text = (
        f"group {source.group.id} carries {source.peak:.2f} times its part, the lowest group {low:.2f}: "
        "moving any of its shards there would not improve the balance by 10 %"
    )
    return Nothing(
        code="no_gain", reason=text, group=source.group.id, figures={"high": source.peak, "low": low}
    )
