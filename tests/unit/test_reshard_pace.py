"""The pace of a copy: full where nobody suffers, slower the more somebody does, never at a stand; and the end while there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgherd.reshard import pace
from pgherd.reshard.pace import Load

LOADS = st.lists(
    st.builds(Load, lag_bytes=st.integers(0, 1 << 40), waiting=st.integers(0, 10_000)), max_size=4
).map(tuple)


def test_full_speed_where_nobody_waits() -> None:
    assert pace.speed(()) == 1.0
    assert pace.speed((Load(lag_bytes=16 << 20, waiting=4), Load())) == 1.0
    assert pace.pause_s(1.0, 3.0) == 0.0


def test_half_way_is_half_the_speed() -> None:
    assert pace.speed((Load(waiting=18), Load())) == 0.5
    assert pace.speed((Load(), Load(lag_bytes=136 << 20))) == 0.5
    assert pace.pause_s(0.5, 0.25) == 0.25


def test_a_copy_never_stands() -> None:
    assert pace.speed((Load(lag_bytes=1 << 40),)) == pace.SLOWEST
    assert pace.pause_s(pace.SLOWEST, 100.0) == pace.PAUSE_MAX_S


@given(LOADS, st.integers(0, 1 << 30), st.integers(0, 100))
def test_more_load_is_never_faster(loads: tuple[Load, ...], lag: int, waiting: int) -> None:
    before = pace.speed(loads)
    assert pace.SLOWEST <= before <= 1.0
    assert pace.speed((*loads, Load(lag_bytes=lag, waiting=waiting))) <= before


def test_a_slot_may_hold_half_of_the_room() -> None:
    assert pace.held_max(8 << 30, 0, None) == 8 << 30
    assert pace.held_max(8 << 30, 0, 100 << 30) == 8 << 30
    assert pace.held_max(8 << 30, 2 << 30, 2 << 30) == 2 << 30


@given(st.integers(1, 1 << 45), st.integers(0, 1 << 45))
def test_a_slot_ends_before_the_disk_is_full(limit: int, room: int) -> None:
    assert pace.held_max(limit, room, 0) <= room / 2
