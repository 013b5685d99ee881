"""Hashing many integers together gives what hashing each of them gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgherd.catalog.hashing import int_slots, partition_hash

VALUES = st.integers(0, 2**63 - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1])


@given(st.lists(VALUES, max_size=50), st.integers(0, 8))
def test_slots_are_each_values_own(values: list[int], power: int) -> None:
    expected = [partition_hash(("bigint",), (value,)) % 2**power for value in values]
    assert list(int_slots(values, 2**power)) == expected


def test_more_than_one_batch() -> None:
    values = list(range(10_000))
    assert list(int_slots(values, 8)) == [partition_hash(("bigint",), (value,)) % 8 for value in values]
