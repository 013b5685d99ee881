"""A small checker for list-append histories: does any cycle forbid snapshot isolation?

Each transaction appends unique values to lists and reads lists. Since a list shows the order of its appends, the order of
versions is known, and with it every dependency: ww (next append), wr (reads an append), rw (reads before an append).
Snapshot isolation allows a cycle only if it has two rw edges next to each other (Fekete et al., "Making snapshot
isolation serializable", 2005; after Kingsbury and Alvaro, "Elle", 2020).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["committed", "aborted", "unknown"]


@dataclass(frozen=True, slots=True)
class Append:
    key: int
    value: int


@dataclass(frozen=True, slots=True)
class Read:
    key: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """One transaction of a history, its operations in order."""

    id: int
    operations: tuple[Append | Read, ...]
    outcome: Outcome = "committed"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """`kind`: aborted read, intermediate read, incompatible order, lost append, cycle, own write unseen."""

    kind: str
    detail: str


Edges = dict[int, dict[int, set[str]]]


def check(history: Iterable[Done]) -> list[Anomaly]:
    """All anomalies found; empty: the history is possible under snapshot isolation (as far as its reads show)."""
    transactions = {done.id: done for done in history}
    writer = {
        (op.key, op.value): done.id
        for done in transactions.values()
        for op in done.operations
        if isinstance(op, Append)
    }
    orders, found = _orders(transactions)
    found += _own_and_aborted(transactions, writer, orders)
    found += _cycles(_edges(transactions, writer, orders))
    return found


def _orders(transactions: Mapping[int, Done]) -> tuple[dict[int, tuple[int, ...]], list[Anomaly]]:
    """The longest read of each key; every other read must be a prefix of it."""
    orders: dict[int, tuple[int, ...]] = {}
    found: list[Anomaly] = []
    for done in transactions.values():
        if done.outcome == "aborted":
            continue
        for op in done.operations:
            if isinstance(op, Read):
                known = orders.get(op.key, ())
                longer, shorter = (op.values, known) if len(op.values) > len(known) else (known, op.values)
                if longer[: len(shorter)] != shorter:
                    found.append(Anomaly("incompatible order", f"key {op.key}: {longer} and {shorter}"))
                orders[op.key] = longer
    return orders, found


def _own_and_aborted(
    transactions: Mapping[int, Done],
    writer: Mapping[tuple[int, int], int],
    orders: Mapping[int, tuple[int, ...]],
) -> list[Anomaly]:
    found: list[Anomaly] = []
    for done in transactions.values():
        mine: dict[int, list[int]] = {}
        for op in done.operations:
            if isinstance(op, Append):
                mine.setdefault(op.key, []).append(op.value)
                continue
            own = mine.get(op.key, [])
            if own and list(op.values[-len(own) :]) != own:
                found.append(Anomaly("own write unseen", f"transaction {done.id}, key {op.key}"))
            if done.outcome != "aborted":
                found += _foreign(transactions, writer, done.id, op)
    seen = {(key, value) for key, order in orders.items() for value in order}
    last_read = set(orders)
    for (key, value), id_ in writer.items():
        if transactions[id_].outcome == "committed" and key in last_read and (key, value) not in seen:
            found += _lost(transactions, key, value, id_)
    return found


def _foreign(
    transactions: Mapping[int, Done], writer: Mapping[tuple[int, int], int], reader: int, op: Read
) -> list[Anomaly]:
    found: list[Anomaly] = []
    for value in op.values:
        by = writer.get((op.key, value))
        if by is None or transactions[by].outcome == "aborted":
            found.append(Anomaly("aborted read", f"transaction {reader} read {value} of key {op.key}"))
    if op.values and (by := writer.get((op.key, op.values[-1]))) not in (None, reader):
        last = [o.value for o in transactions[by].operations if isinstance(o, Append) and o.key == op.key][-1]  # type: ignore[index]
        if last != op.values[-1]:
            found.append(
                Anomaly("intermediate read", f"transaction {reader} read {op.values[-1]} of key {op.key}")
            )
    return found


def _lost(transactions: Mapping[int, Done], key: int, value: int, id_: int) -> list[Anomaly]:
    """A committed append that the final read (by the transaction with the highest id) does not show."""
    final = max(transactions)
    reads = [op for op in transactions[final].operations if isinstance(op, Read) and op.key == key]
    return (
        [Anomaly("lost append", f"{value} to key {key} by transaction {id_}")]
        if reads and id_ != final
        else []
    )


def _edges(
    transactions: Mapping[int, Done],
    writer: Mapping[tuple[int, int], int],
    orders: Mapping[int, tuple[int, ...]],
) -> Edges:
    edges: Edges = {id_: {} for id_ in transactions}

    def add(a: int | None, b: int | None, kind: str) -> None:
        if a is not None and b is not None and a != b:
            edges[a].setdefault(b, set()).add(kind)

    for key, order in orders.items():
        for earlier, later in itertools.pairwise(order):
            add(writer.get((key, earlier)), writer.get((key, later)), "ww")
    for done in transactions.values():
        if done.outcome == "aborted":
            continue
        for op in done.operations:
            if not isinstance(op, Read):
                continue
            order = orders[op.key]
            if op.values:
                add(writer.get((op.key, op.values[-1])), done.id, "wr")
            if len(op.values) < len(order):
                add(done.id, writer.get((op.key, order[len(op.values)])), "rw")
    return edges


def _cycles(edges: Edges) -> list[Anomaly]:
    """A closed walk in which no two rw edges follow each other. States are (transaction, came by rw)."""
    graph: dict[tuple[int, bool], list[tuple[int, bool]]] = {}
    for a, targets in edges.items():
        for b, kinds in targets.items():
            if kinds & {"ww", "wr"}:
                graph.setdefault((a, False), []).append((b, False))
                graph.setdefault((a, True), []).append((b, False))
            if "rw" in kinds:
                graph.setdefault((a, False), []).append((b, True))
    cycle = _closed_walk(graph)
    if cycle is None:
        return []
    walk = " → ".join(str(node) for node, _ in cycle)
    steps = [sorted(edges[a[0]][b[0]]) for a, b in itertools.pairwise(cycle)]
    return [Anomaly("cycle", f"{walk} by {steps}")]


def _closed_walk(graph: Mapping[tuple[int, bool], list[tuple[int, bool]]]) -> list[tuple[int, bool]] | None:
    """Depth first, iterative: the first back edge closes a cycle."""
    state: dict[tuple[int, bool], int] = {}  # 1: on the path, 2: done
    for start in graph:
        path = [start]
        iterators = [iter(graph.get(start, ()))]
        if state.get(start):
            continue
        state[start] = 1
        while path:
            following = next(iterators[-1], None)
            if following is None:
                state[path.pop()] = 2
                iterators.pop()
            elif state.get(following) == 1:
                return [*path[path.index(following) :], following]
            elif not state.get(following):
                state[following] = 1
                path.append(following)
                iterators.append(iter(graph.get(following, ())))
    return None
