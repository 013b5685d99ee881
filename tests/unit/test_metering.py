"""What a process counts of its statements: how many are timed, and what they stand for."""

from __future__ import annotations

import pytest

from pgherd.catalog.model import ClusterMap, Group, GroupId, Keyspace, KeyspaceId, Node, Shard, ShardId
from pgherd.engine.metering import TIMED_MAX, Meter

ONE = ShardId(1)
NODE = Node(id=0, group=GroupId(0), host="h", port=1, database="d")
PEOPLE = Keyspace(
    id=KeyspaceId(1), name="people", strategy="range", key_types=("text",),
    shards=(Shard(id=ONE, keyspace=KeyspaceId(1), group=GroupId(0), lower=None, upper=None),),
)  # fmt: skip
MAP = ClusterMap(
    epoch=1,
    groups={GroupId(0): Group(id=GroupId(0), nodes=(NODE,))},
    keyspaces={KeyspaceId(1): PEOPLE},
)


def use(meter: Meter, statements: int) -> int:
    """So many statements of one shard; answers how many were timed."""
    timed = 0
    for number in range(statements):
        if meter.count():
            meter.end(meter.begin(ONE, (f"key {number}",), False))
            timed += 1
    return timed


def test_timed_statements_stand_for_all() -> None:
    meter = Meter(8)
    assert 1000 < use(meter, 10_000) < 1500
    (row,) = meter.rows(MAP, 100.0, 1e9)
    assert row["shard"] == ONE and row["load"]["n"] / row["load"]["t"] == pytest.approx(100, rel=0.15)


def test_where_there_are_very_many_fewer_are_timed() -> None:
    meter = Meter(8)
    use(meter, 20_000)
    meter.rows(MAP, 1.0, 1e9)
    timed = use(meter, 20_000)
    assert 0.6 * TIMED_MAX < timed < 1.7 * TIMED_MAX
    (row,) = meter.rows(MAP, 1.0, 1e9)
    assert row["load"]["n"] == pytest.approx(40_000, rel=0.4)


def test_counting_can_be_off_and_forgets_shards_that_are_no_more() -> None:
    assert use(Meter(0), 1000) == 0
    meter = Meter(1)
    meter.end(meter.begin(ShardId(9), None, True))
    assert meter.rows(MAP, 1.0, 300.0) == []
