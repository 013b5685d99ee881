"""Load counters: totals that fade, samples that weigh by time, sums of several sources, a compact document; and the picture made of them."""

from __future__ import annotations

import json
from datetime import date
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.balance.assemble import Seen, Size, log_rows, picture
from pgherd.balance.decide import decide
from pgherd.balance.decision import Split
from pgherd.balance.load import SAMPLE_MAX, LoadCounters, ShardLoad, from_json, merge_all, to_json
from pgherd.balance.picture import STATEMENT_S
from pgherd.catalog.model import ClusterMap, Group, GroupId, Keyspace, KeyspaceId, Node, Shard, ShardId

ONE = ShardId(1)


def counted(statements: int, seconds: float, *, every: int = 1, over_s: float = 10.0) -> ShardLoad:
    counters = LoadCounters(every=every)
    for number in range(statements):
        counters.record(ONE, (number % 1000,), seconds)
    counters.pass_time(over_s)
    return counters.loads()[ONE]


def test_rates_are_those_of_the_time_that_passed() -> None:
    load = counted(2000, 0.001)
    assert load.statements_per_s == pytest.approx(200)
    assert load.seconds_per_s == pytest.approx(0.2)
    assert counted(2000, 0.001, every=8).statements_per_s == pytest.approx(1600)


def test_rates_fade_when_nothing_comes() -> None:
    counters = LoadCounters()
    for _ in range(300):
        counters.record(ONE, (1,), 0.01)
        counters.pass_time(1.0)
    steady = counters.loads()[ONE].seconds_per_s
    counters.pass_time(300.0)
    assert counters.loads()[ONE].seconds_per_s == pytest.approx(steady / 2, rel=0.5)
    for _ in range(30):
        counters.pass_time(300.0)
    assert counters.loads() == {}


def test_a_sample_weighs_by_time_not_by_statements() -> None:
    counters = LoadCounters()
    chance = Random(1)
    for _ in range(20_000):
        slow = chance.random() < 0.1
        counters.record(ONE, ("slow" if slow else "quick",), 0.009 if slow else 0.001)
    sample = counters.loads()[ONE].keys
    assert SAMPLE_MAX // 2 <= len(sample.keys) <= SAMPLE_MAX
    share = sum(key == ("slow",) for key in sample.keys) / len(sample.keys)
    assert share == pytest.approx(0.5, abs=0.15)
    assert sum(sample.weights) == pytest.approx(20_000 * (0.0018 + STATEMENT_S), rel=0.05)


def test_the_sample_follows_a_load_that_went_elsewhere() -> None:
    counters = LoadCounters()
    for minute in range(60):
        for _ in range(500):
            counters.record(ONE, ("old" if minute < 30 else "new",), 0.002)
        counters.pass_time(60.0)
    sample = counters.loads()[ONE].sample
    assert sum(key == ("new",) for key in sample) > 0.9 * len(sample)


def test_keys_that_only_grow_are_seen() -> None:
    growing, scattered, chance = LoadCounters(), LoadCounters(), Random(2)
    for number in range(1000):
        growing.record(ONE, (number,), 0.001, True)
        scattered.record(ONE, (chance.randrange(1000),), 0.001, True)
        if number % 100 == 99:
            growing.pass_time(10.0)
    load = growing.loads()[ONE]
    assert load.appended == pytest.approx(1.0) and load.highest == (999,)
    assert load.advance == pytest.approx(10.0, rel=0.2)
    assert scattered.loads()[ONE].appended < 0.1


def test_one_long_statement_among_many_does_not_fill_the_sample() -> None:
    counters = LoadCounters()
    for number in range(100):
        counters.record(ONE, (number,), 0.001)
    counters.record(ONE, (-1,), 60.0)
    sample = counters.loads()[ONE].sample
    assert sum(key == (-1,) for key in sample) <= 8


loads = st.builds(
    lambda statements, seconds, span, keys: ShardLoad(
        statements=statements, seconds=seconds, writes=statements / 2, span_s=span, step_s=0.01,
        sample=tuple((key,) for key in keys), highest=(max(keys),) if keys else None,
    ),
    st.floats(1, 1e6), st.floats(0, 1e3), st.floats(1, 1e4), st.lists(st.integers(-1000, 1000), max_size=SAMPLE_MAX),
)  # fmt: skip


@given(st.lists(loads, min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_sources_add_up_in_any_order(found: list[ShardLoad]) -> None:
    one, two = merge_all(found), merge_all(reversed(found))
    assert one.statements_per_s == pytest.approx(sum(load.statements_per_s for load in found))
    assert (
        one.seconds_per_s
        == pytest.approx(two.seconds_per_s)
        == pytest.approx(sum(x.seconds_per_s for x in found))
    )
    assert len(one.sample) <= SAMPLE_MAX and one.highest == two.highest


@given(loads)
@settings(max_examples=80, deadline=None)
def test_a_document_brings_back_what_was_written(load: ShardLoad) -> None:
    text = json.dumps(to_json(load, ("bigint",)))
    back = from_json(text, ("bigint",))
    assert sorted(back.sample) == sorted(load.sample) and back.highest == load.highest
    assert back.statements_per_s == pytest.approx(load.statements_per_s, rel=1e-2)
    assert len(text) < 6000


def test_keys_of_all_types_travel() -> None:
    types = ("text", "uuid", "date", "numeric", "timestamp with time zone")
    from pgherd.catalog import keys

    key = tuple(
        keys.decode_text(kind, text)
        for kind, text in zip(
            types, ("O'Neil", "0" * 32, str(date(2026, 1, 1)), "1.50", "2026-01-01 00:00:00+00"), strict=True
        )
    )
    load = ShardLoad(statements=1.0, span_s=1.0, sample=(key,), highest=key)
    assert from_json(json.dumps(to_json(load, types)), types).sample == (key,)


def test_a_picture_of_what_gateways_wrote() -> None:
    node = Node(id=1, group=GroupId(0), host="h", port=1, database="d")
    shards = (
        Shard(id=ONE, keyspace=KeyspaceId(1), group=GroupId(0), upper=("N",)),
        Shard(id=ShardId(2), keyspace=KeyspaceId(1), group=GroupId(0), lower=("N",)),
    )
    users = Keyspace(id=KeyspaceId(1), name="users", strategy="range", key_types=("text",), shards=shards)
    cluster = ClusterMap(
        epoch=1, groups={GroupId(0): Group(id=GroupId(0), nodes=(node,))}, keyspaces={users.id: users}
    )
    counters = LoadCounters()
    for number in range(20_000):
        counters.record(ONE, (chr(65 + number % 13) + str(number),), 0.001)
    counters.pass_time(10.0)
    document = to_json(counters.loads()[ONE], ("text",))
    seen = Seen(
        now_s=1e9, cluster=cluster, sizes={ONE: Size(bytes=1000, rows=10)}, settings=[("users", "load_max", "2.5")],
        loads=[(ONE, 3.0, document), (ONE, 5.0, document), (ONE, 600.0, document), (ShardId(9), 1.0, document)],
    )  # fmt: skip
    made = picture(seen)
    first = made.shards[0]
    assert first.seconds == pytest.approx(4.0, rel=0.01)  # two gateways; the third is gone
    assert made.keyspaces[users.id].settings.load_max == 2.5
    decided = decide(made, decide(made, decide(made).memory).memory)
    (action,) = decided.actions
    assert isinstance(action, Split) and action.at in (("G",), ("H",))
    (row,) = log_rows(decided.actions, {KeyspaceId(1): "users"})
    assert (row["kind"], row["keyspace"], row["shard"], row["from_group"], row["code"]) == (
        "split",
        "users",
        1,
        0,
        "too_hot",
    )
    json.dumps(row)
