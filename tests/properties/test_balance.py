"""The decision code against what it promises: balance gets better or nothing is done, little is moved, nothing flaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pgherd.balance.decide import decide
from pgherd.balance.decision import Action, Merge, Move, Nothing, Split
from pgherd.balance.memory import Memory, Round
from pgherd.balance.picture import GroupPicture, KeySample, KeyspacePicture, Picture, Running, ShardPicture
from pgherd.balance.points import NEARLY, inside
from pgherd.balance.settings import GIB, MIB, KeyspaceSettings, Rules
from pgherd.balance.splitting import split
from pgherd.balance.spread import rebalance
from pgherd.balance.standing import standings
from pgherd.catalog.model import GroupId, Key, KeyspaceId, ShardId
from pgherd.simulate import workloads
from pgherd.simulate.run import run
from pgherd.simulate.workloads import Use, Zipf
from pgherd.simulate.world import World

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
few = settings(max_examples=6, deadline=None)
NOW_S = 1_767_225_600.0


@st.composite
def pictures(draw: st.DrawFn, *, draining: bool = True) -> Picture:
    """Up to six groups, two keyspaces (range and hash) with up to 40 shards, all old enough to be changed.

    In some all shards are small, in some a few are above their limits.
    """
    chance = Random(draw(st.integers(0, 2**32)))
    part_max = draw(st.sampled_from([0.3, 1.5, 2.5, 3.5]))
    count = draw(st.integers(2, 6))
    groups = [
        GroupPicture(
            id=GroupId(number),
            weight=chance.choice((1.0, 1.0, 2.0)),
            draining=draining and number > 0 and chance.random() < 0.05,
            busy=chance.random() < 0.05,
        )
        for number in range(count)
    ]
    limits = KeyspaceSettings(
        autosplit=draw(st.booleans()) or draw(st.booleans()),
        shards_min=draw(st.integers(0, 3)),
        merge_after_s=0.0,
    )
    ranged = KeyspacePicture(
        id=KeyspaceId(1), name="r", strategy="range", key_types=("bigint",), settings=limits
    )
    hashed = KeyspacePicture(id=KeyspaceId(2), name="h", strategy="hash", key_types=("bigint",))
    number = draw(st.integers(1, 32))
    bounds: list[Key | None] = [None, *((at * 100,) for at in range(1, number)), None]
    shards = [
        replace(_shard(chance, at + 1, count, part_max), lower=bounds[at], upper=bounds[at + 1])
        for at in range(number)
    ]
    for at in range(draw(st.sampled_from([0, 4, 8]))):
        shard = _shard(chance, 100 + at, count, part_max)
        shards.append(replace(shard, keyspace=KeyspaceId(2), modulus=8 if at >= 4 else 4, remainder=at % 8))
    samples = {
        shard.id: KeySample.even([(_key(chance, shard),) for _ in range(chance.choice((10, 40)))])
        for shard in shards
    }
    running = ()
    if chance.random() < 0.2:
        shard = chance.choice(shards)
        running = (
            Running(id=1, kind="move", shards=frozenset({shard.id}), groups=frozenset({shard.group, GroupId(0)})),
        )  # fmt: skip
    return Picture(
        now_s=NOW_S, groups=tuple(groups), keyspaces={ranged.id: ranged, hashed.id: hashed}, shards=tuple(shards),
        load_samples=samples, row_samples=samples, running=running,
    )  # fmt: skip


def _shard(chance: Random, number: int, groups: int, part_max: float) -> ShardPicture:
    return ShardPicture(
        id=ShardId(number), keyspace=KeyspaceId(1), group=GroupId(chance.randrange(groups)),
        bytes=int(chance.uniform(0, part_max) ** 2 * GIB), seconds=chance.choice((0.0, chance.uniform(0, part_max) ** 2 / 8)),
    )  # fmt: skip


def _key(chance: Random, shard: ShardPicture) -> int:
    low = shard.lower[0] if shard.lower else 0
    return low + int(chance.random() ** 2 * 100)


def settled(picture: Picture) -> Round:
    """The round in which everything has been seen often enough."""
    memory = Memory()
    for _ in range(picture.rules.sustain_rounds - 1):
        memory = decide(picture, memory).memory
    return decide(picture, memory)


def peaks(picture: Picture, moves: Sequence[Move] = (), rules: Rules | None = None) -> list[float]:
    """The groups' peaks after the moves, the highest first."""
    goes = {move.shard: move.to_group for move in moves}
    shards = tuple(replace(shard, group=goes.get(shard.id, shard.group)) for shard in picture.shards)
    found = standings(replace(picture, shards=shards), rules)
    rounded = (round(stands.peak, 9) for stands in found.values() if not stands.group.draining)
    return sorted(rounded, reverse=True)


@given(pictures(draining=False))
@many
def test_balance_gets_better_or_nothing_is_done(picture: Picture) -> None:
    moves = [action for action in settled(picture).actions if isinstance(action, Move)]
    moves = [move for move in moves if move.code in ("overloaded", "underused")]
    for number in range(len(moves)):
        before, after = peaks(picture, moves[:number]), peaks(picture, moves[: number + 1])
        assert after < before, moves[
            number
        ].reason  # lists compare at the first difference: the highest peaks
        assert after[0] <= before[0]


@given(pictures(draining=False))
@many
def test_a_plan_makes_the_worst_group_better_with_each_move(picture: Picture) -> None:
    plan = rebalance(picture)
    rules = replace(picture.rules, floor_load=0.001, floor_bytes=MIB)
    assert len({move.shard for move in plan}) == len(plan)
    for number in range(len(plan)):
        before, after = peaks(picture, plan[:number], rules), peaks(picture, plan[: number + 1], rules)
        assert after < before, (before, after, plan[number].reason)


@given(pictures())
@many
def test_a_group_takes_part_in_one_change_at_a_time(picture: Picture) -> None:
    made = settled(picture)
    taken = [group.id for group in picture.groups if group.busy]
    taken += [group for running in picture.running for group in running.groups]
    for action in made.actions:
        assert not isinstance(action, Nothing)
        groups = {action.group} if isinstance(action, Merge) else {action.group, action.to_group}
        assert not groups & set(taken), action.reason
        taken += groups


@given(pictures())
@many
def test_nothing_is_decided_where_autosplit_is_off(picture: Picture) -> None:
    off = {
        number: replace(keyspace, settings=replace(keyspace.settings, autosplit=False))
        for number, keyspace in picture.keyspaces.items()
    }
    made = settled(replace(picture, keyspaces=off))
    assert [action for action in made.actions if action.code != "drain"] == []


@given(pictures())
@many
def test_the_same_picture_gives_the_same_decisions(picture: Picture) -> None:
    shuffled = replace(picture, shards=tuple(reversed(picture.shards)))
    assert settled(picture) == settled(picture)
    assert set(map(_what, settled(picture).actions)) == set(map(_what, settled(shuffled).actions))


def _what(action: Action | Nothing) -> tuple[object, ...]:
    return action.kind, action.shard, getattr(action, "to_group", None), getattr(action, "at", None)


@given(pictures())
@many
def test_what_is_decided_can_be_done(picture: Picture) -> None:
    shards = {shard.id: shard for shard in picture.shards}
    for action in settled(picture).actions:
        assert action.shard is not None
        shard = shards[action.shard]
        assert shard.group == action.group
        match action:
            case Split(at=at):
                assert (at is None) == (shard.modulus > 0)
                assert at is None or inside(shard, at)
                assert 0 <= action.right_share <= 1
            case Move():
                assert action.to_group != action.group
                assert not next(group for group in picture.groups if group.id == action.to_group).draining
            case Merge():
                right = shards[action.right]
                assert (right.keyspace, right.group) == (shard.keyspace, shard.group)
                if shard.modulus:
                    assert (right.modulus, right.remainder) == (
                        shard.modulus,
                        shard.remainder + shard.modulus // 2,
                    )
                else:
                    assert right.lower is not None and right.lower == shard.upper
            case Nothing():
                pytest.fail("not an action")


@given(
    st.lists(st.integers(1, 999), min_size=24, max_size=128),
    st.lists(st.integers(1, 50), min_size=128, max_size=128),
)
@many
def test_a_split_halves_the_sampled_load(found: list[int], weights: list[int]) -> None:
    shard = ShardPicture(
        id=ShardId(1), keyspace=KeyspaceId(1), group=GroupId(0), lower=(1,), upper=(1000,), seconds=3.0
    )
    keyspace = KeyspacePicture(id=KeyspaceId(1), name="r", strategy="range", key_types=("bigint",))
    sample = KeySample(tuple((key,) for key in found), tuple(map(float, weights[: len(found)])))
    total, by_key = sum(sample.weights), dict[int, float]()
    for (key,), weight in zip(sample.keys, sample.weights, strict=True):
        by_key[key] = by_key.get(key, 0) + weight / total
    heaviest = max(by_key.values())
    assume(len(by_key) > 1 and heaviest <= 0.5)
    picture = Picture(
        now_s=NOW_S, groups=(GroupPicture(id=GroupId(0)),), keyspaces={keyspace.id: keyspace}, shards=(shard,),
        load_samples={shard.id: sample},
    )  # fmt: skip
    verdict = split(picture, shard)
    assert isinstance(verdict, Split) and verdict.at is not None
    assert (1,) < verdict.at < (1000,)
    right = sum(weight for key, weight in by_key.items() if (key,) >= verdict.at)
    assert right == pytest.approx(verdict.right_share, abs=1e-3)
    assert max(right, 1 - right) <= 0.5 + heaviest / 2 + NEARLY + 1e-9


@given(pictures())
@many
def test_a_drain_ends_with_an_empty_group(picture: Picture) -> None:
    leaving = GroupId(1)
    picture = replace(
        picture,
        running=(),
        groups=tuple(replace(group, busy=False, draining=group.id == leaving) for group in picture.groups),
    )
    memory = Memory()
    for _ in range(len(picture.shards) + 1):
        made = decide(picture, memory)
        memory, goes = made.memory, {a.shard: a.to_group for a in made.actions if isinstance(a, Move)}
        assert leaving not in goes.values()
        picture = replace(
            picture,
            shards=tuple(replace(shard, group=goes.get(shard.id, shard.group)) for shard in picture.shards),
        )
    assert [shard.id for shard in picture.shards if shard.group == leaving] == []


@given(st.integers(0, 2**32), st.integers(2, 8))
@many
def test_movement_is_bounded(seed: int, groups: int) -> None:
    """With shards that are small against a group, the plan moves at most twice the bytes that any plan would have to."""
    chance = Random(seed)
    shards = tuple(
        replace(_shard(chance, number + 1, groups, 1.0), bytes=(size := chance.randrange(GIB, 2 * GIB)), seconds=size / GIB / 100)
        for number in range(groups * 40)
    )  # fmt: skip
    keyspace = KeyspacePicture(id=KeyspaceId(1), name="r", strategy="range", key_types=("bigint",))
    picture = Picture(
        now_s=NOW_S, groups=tuple(GroupPicture(id=GroupId(number)) for number in range(groups)),
        keyspaces={keyspace.id: keyspace}, shards=shards,
    )  # fmt: skip
    settle = picture.rules.settle
    fair = sum(shard.bytes for shard in shards) / groups
    held = [sum(shard.bytes for shard in shards if shard.group == number) for number in range(groups)]
    over = sum(max(0.0, size - fair * (1 + settle)) for size in held)
    under = sum(max(0.0, fair * (1 - settle) - size) for size in held)
    plan = rebalance(picture)
    assert sum(move.bytes for move in plan) <= 2 * max(over, under) + groups * 2 * GIB
    assert peaks(picture, plan)[0] <= 1 + settle + 1e-9
    assert peaks(picture, plan)[-1] >= 1 - settle - 1e-9


class Steady(Zipf):
    """A load that stays as it is, but for the noise of measuring it."""

    def use(self, now_s: float) -> Use:
        return replace(super().use(now_s), factor=1.0)


@given(st.integers(0, 2**32), st.floats(0.2, 6.0), st.floats(0.0, 0.12))
@few
def test_nothing_flaps_under_a_steady_noisy_load(seed: int, load: float, noise: float) -> None:
    groups, shards = 5, 60
    world = World(Steady(shards, load * groups, Random(seed)), groups=groups, shards=shards, seed=seed)
    world.speed = replace(world.speed, noise=noise)
    done = run(world, days=2.0)
    before = sum(hour.splits + hour.moves + hour.merges for hour in done.hours[:24])
    after = sum(hour.splits + hour.moves + hour.merges for hour in done.hours[24:])
    # one shard whose load lies at its limit may still pass it by noise, once; or a group that lies at the trigger from the beginning
    # passes it for the first time: then it is made even in one go, and stays so
    late = [hour for hour in done.hours[24:] if hour.splits + hour.moves + hour.merges]
    first = before == 0 and len(late) == 1 and late[0].load_balance < 1.25
    assert after <= 1 or first, (before, late)


@given(st.sampled_from(workloads.NAMES), st.integers(0, 2**32))
@few
def test_the_same_seed_gives_the_same_run(name: str, seed: int) -> None:
    def once() -> dict[str, object]:
        made = workloads.make(name, shards=40, days=0.5, load=12.0, chance=Random(seed))
        return run(World(made, groups=4, shards=40, seed=seed), days=0.5).document()

    assert once() == once()
