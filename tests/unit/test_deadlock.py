"""The joined wait graph: which cycles are deadlocks that only pgherd can see, and who is cancelled."""

from __future__ import annotations

from dataclasses import replace

from pgherd.catalog.model import GroupId
from pgherd.transaction.deadlock import Process, Waits, find, joined

A, B = GroupId(0), GroupId(1)


def waits(
    *edges: tuple[Process, Process],
    same: dict[Process, Process],
    since: dict[Process, int],
    busy: tuple[Process, ...] = (),
) -> Waits:
    waiters = frozenset(waiter for waiter, _ in edges)
    return Waits(edges=frozenset(edges), same=same, since_us=since, cancellable=waiters - set(busy))


# Two transactions: first branches (A, 1) and (B, 2), later ones (B, 11) and (A, 12)
SAME: dict[Process, Process] = {(B, 11): (A, 1), (A, 12): (B, 2)}
SINCE = {(A, 1): 100, (B, 11): 300, (B, 2): 200, (A, 12): 250}
CROSSED = (((B, 11), (B, 2)), ((A, 12), (A, 1)))


def test_the_youngest_transaction_is_cancelled_where_it_waits() -> None:
    (found,) = find(waits(*CROSSED, same=SAME, since=SINCE))
    assert found.victim == (
        A,
        12,
    )  # its transaction began at 200, the other at 100, whatever the branches' own ages
    assert "process 1 of group 0 waits for process 2 of group 1" in found.text


def test_who_yields_is_cancelled_before_anybody_younger() -> None:
    found = find(replace(waits(*CROSSED, same=SAME, since=SINCE), yielding=frozenset({(A, 1), (B, 11)})))
    assert [deadlock.victim for deadlock in found] == [(B, 11)]


def test_who_prepares_or_commits_is_never_cancelled() -> None:
    (found,) = find(waits(*CROSSED, same=SAME, since=SINCE, busy=((A, 12),)))
    assert found.victim == (B, 11)
    assert find(waits(*CROSSED, same=SAME, since=SINCE, busy=((A, 12), (B, 11)))) == []


def test_a_cycle_inside_one_group_is_postgresqls_own() -> None:
    assert find(waits(((A, 1), (A, 2)), ((A, 2), (A, 1)), same={}, since={(A, 1): 1, (A, 2): 2})) == []


def test_a_read_beside_the_transaction_waits_for_somebody_who_waits_for_it() -> None:
    edges = (((A, 21), (A, 3)), ((A, 3), (A, 1)))  # 21 works for 1; 3 wants to change the table
    (found,) = find(waits(*edges, same={(A, 21): (A, 1)}, since={(A, 1): 1, (A, 3): 2, (A, 21): 3}))
    assert found.victim == (A, 3)


def test_a_chain_is_no_cycle() -> None:
    assert find(waits(((B, 11), (B, 2)), ((A, 5), (A, 1)), same=SAME, since=SINCE)) == []


def test_a_longer_cycle_among_bystanders() -> None:
    edges = (((B, 11), (B, 2)), ((A, 12), (A, 7)), ((A, 7), (A, 1)), ((B, 9), (B, 2)), ((A, 8), (A, 7)))
    (found,) = find(waits(*edges, same=SAME, since={**SINCE, (A, 7): 50, (A, 8): 999, (B, 9): 999}))
    assert found.victim == (A, 12)


def test_the_rows_of_a_scan() -> None:
    rows = [
        (A, ("wait", "12", "1", "true")),
        (A, ("wait", "13", "0", "true")),  # waits for a prepared transaction: recovery's business
        (A, ("same", "12", "1", "2")),
        (A, ("since", "12", "250", None)),
    ]
    assert joined(rows) == Waits(
        edges=frozenset({((A, 12), (A, 1))}),
        same={(A, 12): (B, 2)},
        since_us={(A, 12): 250},
        cancellable=frozenset({(A, 12)}),
    )
