"""Which ids nodes have when they come, move and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.catalog.model import GroupId, Node
from pgherd.catalog.nodes import Arrangement, arrange
from pgherd.errors import DeployError

NOTHING = Arrangement(nodes=(), managed=frozenset(), next_node=0)


def node(name: str, group: int = 0, port: int = 1, number: int = -1) -> Node:
    return Node(id=number, group=GroupId(group), host="h", port=port, database="d", name=name)


def ids(arrangement: Arrangement) -> dict[str, int]:
    return {n.name or f"group {n.group}": n.id for n in arrangement.nodes}


def test_new_nodes_are_numbered_in_order_and_known_ones_keep_their_ids() -> None:
    first = arrange(NOTHING, [node("", 0), node("", 1)], ())
    assert ids(first) == {"group 0": 0, "group 1": 1}
    moved = arrange(first, [node("", 1, port=9, number=77), node("", 0), node("", 2)], ())
    assert ids(moved) == {"group 0": 0, "group 1": 1, "group 2": 2}
    assert moved.nodes[1].port == 9


def test_an_id_is_never_used_again() -> None:
    first = arrange(NOTHING, [node("a"), node("b")], (GroupId(0),))
    without = arrange(first, [node("a")], first.managed)
    again = arrange(without, [node("a"), node("b")], first.managed)
    assert ids(again) == {"a": 0, "b": 2}


@pytest.mark.parametrize("name", ["a", ""])
def test_nodes_that_cannot_be_told_apart_are_refused(name: str) -> None:
    with pytest.raises(DeployError):
        arrange(NOTHING, [node(name, port=1), node(name, port=2)], ())


@given(st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1), min_size=1, max_size=8))
def test_whatever_comes_and_goes_ids_stay_and_the_same_wish_changes_nothing(steps: list[set[str]]) -> None:
    now, ever = NOTHING, dict[int, str]()
    for names in steps:
        before = ids(now)
        now = arrange(now, [node(name) for name in sorted(names)], (GroupId(0),))
        assert set(ids(now)) == names
        for name, number in ids(now).items():
            assert before.get(name, number) == number
            assert name in before or number not in ever
            ever[number] = name
        assert arrange(now, [replace(n, id=-1) for n in now.nodes], now.managed) == now
