"""Each decision, and each reason for none, on a picture made for it: its code, and the sentence with its figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgherd.balance.decide import decide
from pgherd.balance.decision import Decision, Merge, Move, Nothing, Split
from pgherd.balance.memory import Memory, Round
from pgherd.balance.picture import GroupPicture, KeySample, KeyspacePicture, Picture, Running, ShardPicture
from pgherd.balance.settings import GIB, MIB, KeyspaceSettings, Window, changed
from pgherd.balance.spread import rebalance
from pgherd.balance.why import explain
from pgherd.catalog import keys
from pgherd.catalog.model import GroupId, KeyspaceId, ShardId
from pgherd.errors import BadSetting

NOW_S = 1_767_225_600.0 + 12 * 3600  # noon
USERS = KeyspaceId(1)


def shard(number: int, group: int = 0, **fields: Any) -> ShardPicture:
    return ShardPicture(id=ShardId(number), keyspace=USERS, group=GroupId(group), **fields)


def picture(
    *shards: ShardPicture, groups: int = 2, types: tuple[str, ...] = ("text",), strategy: Any = "range",
    samples: dict[int, KeySample] | None = None, rows: dict[int, KeySample] | None = None, **settings: Any,
) -> Picture:  # fmt: skip
    keyspace = KeyspacePicture(
        id=USERS, name="users", strategy=strategy, key_types=types, settings=KeyspaceSettings(**settings)
    )
    return Picture(
        now_s=NOW_S, groups=tuple(GroupPicture(id=GroupId(number)) for number in range(groups)),
        keyspaces={USERS: keyspace}, shards=shards,
        load_samples={ShardId(number): sample for number, sample in (samples or {}).items()},
        row_samples={ShardId(number): sample for number, sample in (rows or {}).items()},
    )  # fmt: skip


def rounds(seen: Picture, count: int = 3) -> Round:
    """The last of so many rounds over the same picture."""
    made = decide(seen)
    for _ in range(count - 1):
        made = decide(seen, made.memory)
    return made


def only(made: tuple[Decision, ...]) -> Decision:
    assert len(made) == 1, [(decision.kind, decision.reason) for decision in made]
    return made[0]


def names(*weighted: tuple[str, int]) -> KeySample:
    return KeySample(tuple((name,) for name, _ in weighted), tuple(float(weight) for _, weight in weighted))


# ---- splits ------------------------------------------------------------------------------------------

ALPHABET = KeySample.even([(letter + ending,) for letter in "ABCDEFGHIJKLM" for ending in ("dams", "ross")])


def test_a_hot_shard_is_split_where_its_load_halves_and_a_half_goes_where_less_is() -> None:
    seen = picture(shard(1, 0, upper=("N",), seconds=2.4, bytes=GIB), shard(2, 1, lower=("N",), seconds=0.2, bytes=GIB), samples={1: ALPHABET})  # fmt: skip
    made = only(rounds(seen).actions)
    assert isinstance(made, Split)
    assert (made.shard, made.at, made.code, made.to_group) == (1, ("G",), "too_hot", 1)
    assert made.reason == (
        "a load of 2.40 s/s is more than 1.00 s/s: split at 'G', which leaves 54 % of the load on the heavier side; "
        "the right part goes to group 1, which carries less"
    )


def test_a_limit_must_be_passed_for_several_pictures() -> None:
    seen = picture(shard(1, seconds=2.4), samples={1: ALPHABET}, groups=1)
    first = decide(seen)
    why_not = only(first.nothings)
    assert (first.actions, why_not.code) == ((), "sustain")
    assert why_not.reason == "above its limits for 1 of 3 pictures: 0 B, 2.40 s/s"
    calm = decide(replace(seen, shards=(shard(1, seconds=0.4),)), first.memory)
    assert rounds(seen, 2).actions == () and decide(seen, calm.memory).actions == ()
    assert only(rounds(seen, 3).actions).kind == "split"


def test_one_key_that_takes_the_load_cannot_be_split() -> None:
    sample = names(("Smith", 97), *((f"A{n}", 1) for n in range(24)))
    why_not = only(rounds(picture(shard(1, seconds=3.0), samples={1: sample}, groups=1)).nothings)
    assert isinstance(why_not, Nothing) and why_not.code == "hot_key"
    assert why_not.reason == (
        "one key, 'Smith', takes 80 % of the load: a split cannot help; use a composite key, "
        "so that it can be divided by the next column"
    )


def test_one_hot_value_of_a_composite_key_is_split_by_the_next_column() -> None:
    sample = KeySample.even([("Smith", number) for number in range(60)] + [("Adams", 1), ("Young", 1)] * 3)
    seen = picture(shard(1, seconds=3.0), types=("text", "bigint"), samples={1: sample}, groups=1)
    made = only(rounds(seen).actions)
    assert isinstance(made, Split) and made.at is not None
    assert made.at[0] == "Smith" and 25 <= made.at[1] <= 35


def test_a_point_has_as_few_columns_and_letters_as_will_do() -> None:
    sample = KeySample.even([(name, number) for name in ("Nelson", "Nguyen") for number in range(20)])
    seen = picture(shard(1, seconds=3.0), types=("text", "bigint"), samples={1: sample}, groups=1)
    made = only(rounds(seen).actions)
    assert isinstance(made, Split) and made.at == ("Ng",)


def test_keys_that_only_grow_are_split_at_the_end() -> None:
    grown = shard(1, bytes=9 * GIB, appended=0.97, highest=(5000,), advance=10.0, write_share=0.2)
    made = only(rounds(picture(grown, types=("bigint",), groups=1)).actions)
    assert isinstance(made, Split) and made.code == "grows" and made.at is not None
    assert made.at[0] > 5000 and made.right_share == 0.0
    assert "keys only grow: split at the end" in made.reason


def test_load_at_the_end_of_growing_keys_cannot_be_divided() -> None:
    hot = shard(1, seconds=3.0, appended=0.97, highest=(5000,), write_share=0.9)
    why_not = only(rounds(picture(hot, types=("bigint",), groups=1)).nothings)
    assert why_not.code == "hot_end"
    assert "a split would move that load, not divide it; a hash keyspace divides it" in why_not.reason


def test_a_hash_shard_doubles_its_modulus() -> None:
    halves = KeySample.even([(number,) for number in range(400)])
    hot = shard(1, seconds=3.0, modulus=4, remainder=1)
    made = only(
        rounds(picture(hot, types=("bigint",), strategy="hash", samples={1: halves}, groups=1)).actions
    )
    assert isinstance(made, Split) and made.at is None
    assert made.figures["modulus"] == 8
    assert 0.3 < made.right_share < 0.7


def test_one_key_of_a_hash_shard() -> None:
    key = next(number for number in range(100) if keys.partition_hash(("bigint",), (number,)) % 4 == 1)
    hot = shard(1, seconds=3.0, modulus=4, remainder=1)
    seen = picture(
        hot, types=("bigint",), strategy="hash", samples={1: KeySample.even([(key,)] * 30)}, groups=1
    )
    assert only(rounds(seen).nothings).code == "hot_key"


def test_too_few_keys_say_nothing() -> None:
    seen = picture(shard(1, seconds=3.0), samples={1: names(("A", 1), ("B", 1))}, groups=1)
    why_not = only(rounds(seen).nothings)
    assert (why_not.code, why_not.reason) == (
        "thin_sample", "only 2 keys were sampled of the 24 that a point needs: waits for more statements"
    )  # fmt: skip


def test_a_large_cold_shard_is_halved_by_rows_when_they_are_known() -> None:
    large = shard(1, bytes=20 * GIB)
    assert only(rounds(picture(large, groups=1)).nothings).code == "no_sample"
    made = only(
        rounds(picture(large, groups=1, rows={1: names(*((letter, 1) for letter in "ABCDEFGH"))})).actions
    )
    assert isinstance(made, Split) and made.at == ("E",)


# ---- what stands in the way --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "settings", "code", "text"),
    [
        ({}, {"autosplit": False}, "off", "autosplit is off for this keyspace"),
        ({}, {"window": Window(120, 300)}, "window", "waits for the daily window, 02:00-05:00 UTC"),
        ({"born_s": NOW_S - 60}, {}, "cooling", "was changed 60 s ago: cooled down in 240 s"),
        ({}, {"shards_max": 1}, "shards_max", "the keyspace has 1 shards, and shards_max is 1"),
    ],
)
def test_why_a_hot_shard_is_not_split(
    fields: dict[str, Any], settings: dict[str, Any], code: str, text: str
) -> None:
    seen = picture(shard(1, seconds=3.0, **fields), samples={1: ALPHABET}, groups=1, **settings)
    why_not = only(rounds(seen).nothings)
    assert (why_not.code, why_not.reason) == (code, text)
    assert rounds(seen).actions == ()


def test_a_group_that_takes_part_in_a_workflow_waits() -> None:
    running = Running(
        id=7, kind="move", shards=frozenset({ShardId(2)}), groups=frozenset({GroupId(0), GroupId(1)})
    )
    seen = picture(
        shard(1, seconds=3.0, upper=("N",)),
        shard(2, lower=("N",), seconds=9.0),
        samples={1: ALPHABET, 2: ALPHABET},
    )
    made = rounds(replace(seen, running=(running,)))
    assert made.actions == ()
    assert {(nothing.shard, nothing.code) for nothing in made.nothings} == {(1, "busy")}


def test_only_so_many_workflows_run_at_once() -> None:
    bounds = [None, *((letter,) for letter in "BCDEF"), None]
    shards = [
        shard(n + 1, n, lower=bounds[n], upper=bounds[n + 1], bytes=9 * GIB, seconds=0.1) for n in range(6)
    ]
    rows = {n + 1: names(*((letter + str(n), 1) for letter in "ABCDEFG" for n in range(9))) for n in range(6)}
    seen = picture(*shards, groups=6, rows=rows)
    made = rounds(replace(seen, rules=replace(seen.rules, workflows_max=2)))
    assert [action.kind for action in made.actions] == ["split", "split"]
    assert {nothing.reason for nothing in made.nothings} == {"waits until fewer than 2 workflows run"}


def test_a_reason_is_news_once() -> None:
    seen = picture(shard(1, seconds=3.0), samples={1: ALPHABET}, groups=1, autosplit=False)
    first = decide(seen)
    second = decide(seen, first.memory)
    assert [decision.code for decision in first.news] == ["off"]
    assert second.news == () and [nothing.code for nothing in second.nothings] == ["off"]


# ---- moves -------------------------------------------------------------------------------------------


def test_a_new_group_is_filled_with_what_costs_least() -> None:
    shards = [
        shard(n, n % 2, seconds=0.4, bytes=(1 + n % 5) * GIB, modulus=16, remainder=n) for n in range(16)
    ]
    seen = picture(*shards, groups=3, strategy="hash", shards_min=16, size_max=100 * GIB)
    made = rounds(seen).actions
    move = only(made)  # the new group takes one at a time
    assert isinstance(move, Move) and move.to_group == 2
    plan = rebalance(seen)
    assert {move.to_group for move in plan} == {2} and len(plan) <= 6
    assert len(rounds(replace(seen, groups=seen.groups[:2])).actions) == 0


def test_a_moved_shard_stays() -> None:
    shards = [shard(n, 0, seconds=0.5, modulus=8, remainder=n, moved_s=NOW_S - 1800) for n in range(8)]
    seen = picture(*shards, strategy="hash", shards_min=8)
    made = rounds(seen)
    assert made.actions == () and only(made.nothings).code == "cooling"
    assert only(made.nothings).reason.startswith("was changed 30 min ago: cooled down in 30 min")
    assert len(rounds(replace(seen, now_s=NOW_S + 1801)).actions) == 1


def test_a_shard_that_is_most_of_its_group_is_cut_for_the_sake_of_balance() -> None:
    seen = picture(
        shard(1, 0, upper=("N",), seconds=0.9), shard(2, 1, lower=("N",), seconds=0.1), samples={1: ALPHABET}
    )
    made = only(rounds(seen).actions)
    assert isinstance(made, Split) and (made.code, made.to_group) == ("to_balance", 1)
    assert made.reason.startswith(
        "its group has more than its part, and no whole shard of it fits elsewhere: split at 'G'"
    )


def test_when_no_move_would_help() -> None:
    hot = names(("Smith", 100), *((f"A{n}", 1) for n in range(24)))
    seen = picture(
        shard(1, 0, upper=("T",), seconds=0.9), shard(2, 1, lower=("T",), seconds=0.1), samples={1: hot}
    )
    made = rounds(seen)
    assert made.actions == ()
    assert [nothing.code for nothing in made.nothings if nothing.group == 0][-1] == "no_gain"
    assert made.nothings[-1].reason == (
        "group 0 carries 1.80 times its part, the lowest group 0.20: "
        "moving any of its shards there would not improve the balance by 10 %"
    )


def test_a_group_for_which_nothing_can_be_done_rests_until_it_has_changed_clearly() -> None:
    """A shard with one hot key, and a small one that could go as soon as there is room."""
    sample = names(("Smith", 100), *((f"A{n}", 1) for n in range(24)))

    def seen(hot: float, *, room: int) -> Picture:
        shards = (
            shard(1, 0, upper=("T",), seconds=hot),
            shard(2, 1, lower=("T",), upper=("Y",), seconds=0.1),
            shard(3, 0, lower=("Y",), seconds=0.15, bytes=GIB),
        )
        made = picture(*shards, samples={1: sample})
        return replace(made, groups=(made.groups[0], replace(made.groups[1], free_bytes=room, disk_bytes=0)))

    memory = rounds(seen(0.9, room=0), 4).memory
    assert GroupId(0) in memory.rest and not memory.spreading
    for hot in (0.8, 1.0, 0.9):  # noise
        made = decide(seen(hot, room=9 * GIB), memory)
        assert made.actions == (), made.actions
        memory = made.memory
    woken = decide(seen(0.15, room=9 * GIB), memory).memory
    assert GroupId(0) not in woken.rest
    assert only(rounds(seen(0.9, room=9 * GIB)).actions).shard == 3  # nothing that rests: it goes


def test_nobody_makes_way_for_a_shard_that_is_nearly_all_of_the_excess() -> None:
    sample = names(("Smith", 100), *((f"A{n}", 1) for n in range(24)))

    def seen(small: float) -> Picture:
        bounds = [None, *((f"T{n}",) for n in range(5)), None]
        shards = [
            shard(n + 1, 0, lower=bounds[n], upper=bounds[n + 1], seconds=small, bytes=GIB) for n in range(6)
        ]
        shards[0] = replace(shards[0], seconds=0.9)
        return picture(*shards, groups=4, samples={1: sample})

    assert rounds(seen(0.005)).actions == ()
    assert [nothing.code for nothing in rounds(seen(0.005)).nothings] == ["hot_key", "no_gain"]
    assert only(rounds(seen(0.05)).actions).kind == "move"


def test_groups_take_by_their_weight_and_their_room() -> None:
    shards = [shard(n, 0, bytes=GIB, modulus=8, remainder=n) for n in range(8)]
    seen = picture(*shards, groups=3, strategy="hash")
    heavy = replace(seen, groups=(seen.groups[0], replace(seen.groups[1], weight=2.0), seen.groups[2]))
    goes = [move.to_group for move in rebalance(heavy)]
    assert goes.count(GroupId(1)) > goes.count(GroupId(2)) > 0
    full = replace(
        seen, groups=(*seen.groups[:2], replace(seen.groups[2], free_bytes=GIB, disk_bytes=20 * GIB))
    )
    assert {move.to_group for move in rebalance(full)} == {1}


def test_a_drained_group_gives_its_largest_shard_first_whatever_the_settings_say() -> None:
    shards = [shard(n, n % 2, bytes=(n + 1) * GIB, modulus=4, remainder=n, moved_s=NOW_S) for n in range(4)]
    seen = picture(*shards, strategy="hash", autosplit=False, window=Window(0, 60))
    seen = replace(seen, groups=(seen.groups[0], replace(seen.groups[1], draining=True)))
    move = only(decide(seen).actions)
    assert isinstance(move, Move) and (move.shard, move.to_group, move.code) == (3, 0, "drain")
    assert (
        move.reason
        == "group 1 is being drained, 2 shards to go: 4.0 GiB go to group 0, which carries 0.40 of its part"
    )
    tight = replace(seen, groups=(replace(seen.groups[0], free_bytes=GIB), seen.groups[1]))
    nothing = only(decide(tight).nothings)
    assert nothing.code == "no_room" and nothing.reason == (
        "group 1 cannot be drained further, its smallest shard fits nowhere: no room on group 0 for a copy of shard 1: "
        "0 B free beside what must stay free, needs 2.4 GiB"
    )


def disk(seen: Picture, group: int, free: int, total: int = 100 * GIB) -> Picture:
    groups = [
        replace(one, free_bytes=free, disk_bytes=total) if one.id == group else one for one in seen.groups
    ]
    return replace(seen, groups=tuple(groups))


def test_a_half_goes_nowhere_where_there_is_no_room_for_it() -> None:
    shards = (
        shard(1, 0, upper=("N",), seconds=2.4, bytes=8 * GIB),
        shard(2, 1, lower=("N",), seconds=0.2, bytes=GIB),
    )
    seen = picture(*shards, samples={1: ALPHABET})
    for free, to_group in ((20, 1), (19, 0)):  # a tenth of the disk stays free, and the copy takes 9.6 GiB
        made = only(rounds(disk(seen, 1, free * GIB)).actions)
        assert isinstance(made, Split) and made.to_group == to_group
    made = rounds(disk(seen, 0, 12 * GIB))
    assert not made.actions and {nothing.reason for nothing in made.nothings if nothing.shard == 1} == {
        "no room on group 0 for a copy of shard 1: 2.0 GiB free beside what must stay free, needs 9.6 GiB"
    }


def test_no_move_goes_where_there_is_no_room_and_that_is_the_reason() -> None:
    shards = [shard(n, 0, seconds=0.4, bytes=3 * GIB, modulus=8, remainder=n) for n in range(8)]
    seen = picture(*shards, strategy="hash", shards_min=8, size_max=100 * GIB)
    assert only(rounds(disk(seen, 1, 14 * GIB)).actions).kind == "move"
    made = rounds(disk(seen, 1, 13 * GIB))
    assert made.actions == ()
    assert [nothing.reason for nothing in made.nothings if nothing.code == "no_room"] == [
        "group 0 carries 2.00 times its part, but: no room on group 1 for a copy of shard 0: 3.0 GiB free beside what must stay free, needs 3.6 GiB"
    ]


def test_neighbours_are_not_merged_where_there_is_no_room() -> None:
    bounds = [None, ("D",), None]
    shards = [shard(n + 1, 0, lower=bounds[n], upper=bounds[n + 1], bytes=10 * MIB) for n in range(2)]
    seen = picture(*shards, groups=1, shards_min=1)
    assert only(rounds(disk(seen, 0, 25 * MIB, 0)).actions).kind == "merge"
    made = rounds(disk(seen, 0, 23 * MIB, 0))
    assert made.actions == () and only(made.nothings).reason == (
        "no room on group 0 for a copy of shard 1: 23.0 MiB free beside what must stay free, needs 24.0 MiB"
    )


# ---- merges ------------------------------------------------------------------------------------------


def test_small_cold_neighbours_are_merged_down_to_what_a_keyspace_keeps() -> None:
    bounds = [None, ("D",), ("M",), ("S",), None]
    shards = [shard(n + 1, 0, lower=bounds[n], upper=bounds[n + 1], bytes=MIB) for n in range(4)]
    seen = picture(*shards, groups=1, shards_min=3)
    made = only(rounds(seen).actions)
    assert isinstance(made, Merge) and made.right == made.shard + 1
    assert "are neighbours, small and cold: together 2.0 MiB of 8.0 GiB" in made.reason
    assert rounds(picture(*shards, groups=1, shards_min=4)).actions == ()
    assert rounds(picture(*shards, groups=1, shards_min=3, automerge=False)).actions == ()
    new = [
        replace(one, seen_s=NOW_S - 7200) for one in shards
    ]  # made by hand, perhaps for rows that come tomorrow
    assert rounds(picture(*new, groups=1, shards_min=3)).actions == ()
    young = [replace(one, born_s=NOW_S - 7200) for one in shards]
    assert rounds(picture(*young, groups=1, shards_min=3)).actions == ()


def test_neighbours_in_two_groups_are_brought_together_first() -> None:
    seen = picture(
        shard(1, 0, upper=("M",), bytes=2 * MIB), shard(2, 1, lower=("M",), bytes=MIB), shards_min=1
    )
    move = only(rounds(seen).actions)
    assert isinstance(move, Move) and (move.shard, move.to_group, move.code) == (2, 0, "to_merge")


def test_neighbours_that_grow_or_weigh_much_in_a_small_cluster_are_not_merged() -> None:
    pair = (shard(1, 0, upper=("M",), bytes=200 * MIB), shard(2, 0, lower=("M",), bytes=200 * MIB))
    assert only(
        rounds(
            picture(
                shard(3, 0, upper=("A",), bytes=60 * GIB, moved_s=NOW_S),
                *_from_a(pair),
                groups=1,
                shards_min=1,
            )
        ).actions
    )
    growing = [replace(one, growth=50_000.0) for one in _from_a(pair)]
    assert (
        rounds(
            picture(
                shard(3, 0, upper=("A",), bytes=60 * GIB, moved_s=NOW_S), *growing, groups=1, shards_min=1
            )
        ).actions
        == ()
    )
    assert rounds(picture(*pair, groups=1, shards_min=1)).actions == ()  # two fifths of what a group has


def _from_a(pair: tuple[ShardPicture, ShardPicture]) -> list[ShardPicture]:
    return [replace(pair[0], lower=("A",)), pair[1]]


def test_halves_of_a_modulus_are_merged() -> None:
    seen = picture(
        *(shard(n + 1, 0, modulus=4, remainder=n) for n in range(4)), groups=1, strategy="hash", shards_min=3
    )
    made = only(rounds(seen).actions)
    assert isinstance(made, Merge) and (made.shard, made.right) in ((1, 3), (2, 4))


# ---- why, settings -----------------------------------------------------------------------------------


def test_why_a_shard_is_left_alone() -> None:
    seen = picture(
        shard(1, 0, upper=("N",), seconds=0.2, bytes=2 * GIB),
        shard(2, 1, lower=("N",), seconds=0.2, bytes=2 * GIB),
    )
    told = only(explain(seen, Memory(), ShardId(1)))
    assert told.code == "within_limits"
    assert told.reason == (
        "within its limits: 2.0 GiB of 8.0 GiB, a load of 0.20 s/s of 1.00 s/s; "
        "group 0 carries 1.00 times its part of the load and 1.00 of the bytes"
    )


def test_why_knows_what_was_passed_over() -> None:
    hot = names(("Smith", 100), *((f"A{n}", 1) for n in range(24)))
    seen = picture(shard(1, seconds=3.0), samples={1: hot}, groups=1)
    memory = rounds(seen, 4).memory
    assert "hot_key" in [told.code for told in explain(seen, memory, ShardId(1))]


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("autosplit", "off", "autosplit", False),
        ("size_max", "2GB", "size_max", 2 * GIB),
        ("size_max", "1.5 GiB", "size_max", 3 * GIB // 2),
        ("load_max", "0.5", "load_max", 0.5),
        ("window", "22:00-06:30", "window", Window(1320, 390)),
        ("window", "none", "window", None),
        ("cooldown", "10min", "cooldown_s", 600.0),
        ("merge_after", "2d", "merge_after_s", 172800.0),
    ],
)
def test_settings_as_people_write_them(name: str, text: str, field: str, value: object) -> None:
    assert getattr(changed(KeyspaceSettings(), name, text), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("autosplit", "maybe"), ("size_max", "2 parsecs"), ("size_max", "1kB"), ("load_max", "0"), ("window", "02:00-02:00"),
     ("window", "25:00-26:00"), ("merge_fill", "0.9"), ("nonsense", "1"), ("load_max", "nan")],
)  # fmt: skip
def test_settings_that_are_refused(name: str, text: str) -> None:
    with pytest.raises(BadSetting):
        changed(KeyspaceSettings(), name, text)


def test_a_window_may_lie_over_midnight() -> None:
    night = Window(1320, 390)
    assert [night.holds(hour * 3600.0) for hour in (21, 22, 0, 6, 7)] == [False, True, True, True, False]
