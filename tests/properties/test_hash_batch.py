"""Hashing many integers together gives what hashing each of them gives, and COPY divides by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.catalog.hashing import int_slots, partition_hash
from pgherd.catalog.model import GroupId, Keyspace, KeyspaceId, Shard, ShardId
from pgherd.engine import copy_quick
from pgherd.engine.copy import LineDivider
from pgherd.engine.copy_fields import Shape
from pgherd.engine.copy_place import Target
from pgherd.errors import PgherdError

VALUES = st.integers(0, 2**63 - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1])
KEYSPACE = Keyspace(
    id=KeyspaceId(1),
    name="k",
    strategy="hash",
    key_types=("bigint",),
    shards=tuple(
        Shard(id=ShardId(at), keyspace=KeyspaceId(1), group=GroupId(0), modulus=8, remainder=at)
        for at in range(8)
    ),
)


def divider(position: int) -> LineDivider:
    target = Target(table="t", columns=("a", "b"), positions=(position,), keyspace=KEYSPACE)
    return LineDivider(target, Shape(columns=2), remembered_max=1)


@given(st.lists(VALUES, max_size=50), st.integers(0, 8))
def test_slots_are_each_values_own(values: list[int], power: int) -> None:
    expected = [partition_hash(("bigint",), (value,)) % 2**power for value in values]
    assert list(int_slots(values, 2**power)) == expected


def test_more_than_one_batch() -> None:
    values = list(range(10_000))
    assert list(int_slots(values, 8)) == [partition_hash(("bigint",), (value,)) % 8 for value in values]


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("odd", ["5", "-5", " 7 ", "000000000000000000000000012"])
def test_blocks_of_plain_keys_and_others(monkeypatch: pytest.MonkeyPatch, position: int, odd: str) -> None:
    sizes: list[int] = []

    def counted(values: list[int], modulus: int) -> bytes:
        sizes.append(len(values))
        return int_slots(values, modulus)

    monkeypatch.setattr(copy_quick, "int_slots", counted)
    divide = divider(position)
    expected: dict[int, list[bytes]] = {}
    got: dict[int, bytes] = {}
    for block in range(4):
        keys = [str(number * 7919 + block) for number in range(500)] + [odd] * (block == 2)
        records = [(f"{key}\tx" if position == 0 else f"x\t{key}").encode() for key in keys]
        for key, record in zip(keys, records, strict=True):
            shard = KEYSPACE.locate((int(key),))
            assert shard is not None
            expected.setdefault(int(shard.id), []).append(record + b"\n")
        for shard_id, stream in divide.feed(b"\n".join(records) + b"\n").items():
            got[int(shard_id)] = got.get(int(shard_id), b"") + stream
    assert got == {shard: b"".join(records) for shard, records in expected.items()}
    # every block of plain keys is hashed as one; a block with a key written otherwise is not
    assert sizes == ([500, 500, 501, 500] if odd == "5" else [500, 500, 500])


def test_a_bad_record_is_named_by_its_line() -> None:
    divide = divider(1)
    divide.feed(b"".join(b"x\t%d\n" % number for number in range(100)))
    with pytest.raises(PgherdError) as caught:
        divide.feed(b"x\t1\nx\t2\nalone\nx\t4\n")
    assert caught.value.context is not None
    assert "line 103" in caught.value.context
