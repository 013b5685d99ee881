"""Deadlocks across groups: the groups' wait graphs joined, the youngest transaction of each cycle cancelled; before it, one that
offers itself (YIELDING), as a cutover does, which is tried again without anybody noticing.

Inside one group PostgreSQL finds deadlocks itself. Across groups, a later branch of a transaction names its first one by
an advisory lock (see `Transaction.opening`), so that pg_locks alone says which processes are one transaction.
The groups' graphs are not read at the same moment: only a cycle that two rounds see is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.errors import PgherdError
from pgherd.transaction.perform import Lender
from pgherd.transaction.recovery import ask

LOOK_S = 1.0  # a group that hangs must not keep the others' deadlocks
Process = tuple[GroupId, int]  # a server process: its group and its pid

TAG = 0x7067 << 48  # advisory lock keys that say "same transaction as process <pid> of group <group>"

YIELDING = "pgherd cutover"  # the application_name of transactions that would rather be cancelled than others

# One row each: ('wait', pid, blocker, may be cancelled), ('same', pid, group of the first branch, its pid), ('since', pid, µs), ('yields', pid)
SCAN = f"""WITH waiting AS MATERIALIZED (
    SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
SELECT 'wait', w.pid::text, b.pid::text, (w.query !~* '^\\s*(select pg_catalog.set_config\\(''synchronous_commit''|lock table pgherd.home_gate|commit|prepare transaction)')::text
    FROM waiting w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) b(pid)
UNION ALL
SELECT 'same', l.pid::text, (l.classid::int8 & 65535)::text, l.objid::text
    FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid::int8 >> 16 = 28775 AND l.pid IS NOT NULL
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'since', a.pid::text, (extract(epoch FROM a.xact_start) * 1000000)::int8::text, NULL
    FROM pg_stat_activity a WHERE a.datname = current_database() AND a.xact_start IS NOT NULL
UNION ALL
SELECT 'yields', a.pid::text, NULL, NULL FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = '{YIELDING}'"""


# What the victim's user is told instead of "canceling statement due to user request"
FIELDS = {
    "C": "40P01",
    "M": "deadlock detected",
    "D": "Transactions that span groups waited for each other; the gateway's log names them.",
    "H": "Run the transaction again.",
}


def yielding() -> str:
    """What a transaction runs after BEGIN, in each group, to be the one that is cancelled."""
    return f"SET LOCAL application_name = '{YIELDING}'"


def same_as(link: Link) -> str:
    """What a connection runs after BEGIN to say that it works for the same transaction as `link`; it answers no row."""
    if link.pid == 0:
        return ""
    return f"; SELECT WHERE pg_advisory_xact_lock_shared({TAG | (link.group << 32) | link.pid}) IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """The joined wait graph. `same`: later branch → first branch. `since_us`: start of each process's transaction."""

    edges: frozenset[tuple[Process, Process]]
    same: dict[Process, Process]
    since_us: dict[Process, int]
    cancellable: frozenset[Process]
    yielding: frozenset[Process] = frozenset()

    def owner(self, process: Process) -> Process:
        """The first branch of the transaction that `process` works for."""
        return self.same.get(process, process)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlock:
    """A cycle of transactions (each named by its first branch) and the waiting process to cancel."""

    cycle: tuple[Process, ...]
    victim: Process

    @property
    def text(self) -> str:
        names = [f"process {pid} of group {group}" for group, pid in self.cycle]
        return "; ".join(f"{a} waits for {b}" for a, b in zip(names, names[1:] + names[:1], strict=True))


def find(waits: Waits) -> list[Deadlock]:
    """Every cycle that PostgreSQL cannot see, as it leads through two processes of one transaction; and its victim: a
    waiting process that yields, or else one of the youngest transaction that may be cancelled."""
    graph: dict[Process, set[Process]] = {}
    for waiter, blocker in waits.edges:
        a, b = waits.owner(waiter), waits.owner(blocker)
        if a != b:
            graph.setdefault(a, set()).add(b)
    found: list[Deadlock] = []
    for cycle in cycles(graph):
        inside = [(w, b) for w, b in waits.edges if waits.owner(w) in cycle and waits.owner(b) in cycle]
        hidden = any(waits.owner(process) != process for edge in inside for process in edge)
        if hidden and (victim := _victim(waits, cycle)) is not None:
            found.append(Deadlock(cycle=cycle, victim=victim))
    return found


def _victim(waits: Waits, cycle: tuple[Process, ...]) -> Process | None:
    candidates = [
        (waiter in waits.yielding, _age_us(waits, waits.owner(waiter)), waiter)
        for waiter, blocker in waits.edges
        if waits.owner(waiter) in cycle and waits.owner(blocker) in cycle and waiter in waits.cancellable
    ]
    return max(candidates)[-1] if candidates else None


def _age_us(waits: Waits, owner: Process) -> int:
    starts = [since for process, since in waits.since_us.items() if waits.owner(process) == owner]
    return min(starts, default=0)


def cycles(graph: dict[Process, set[Process]]) -> list[tuple[Process, ...]]:
    """Disjoint cycles of a directed graph, at least one in every strongly connected part; the same for the same graph."""
    found: list[tuple[Process, ...]] = []
    done: set[Process] = set()
    for start in sorted(graph):
        path: list[Process] = []
        node: Process | None = start
        while node is not None and node not in done:
            if node in path:
                cycle = path[path.index(node) :]
                at = cycle.index(min(cycle))
                found.append(tuple(cycle[at:] + cycle[:at]))
                break
            path.append(node)
            node = next((n for n in sorted(graph.get(node, ())) if n not in done), None)
            if node is None:  # a dead end: it waits for nobody, so it is on no cycle; go back a step
                done.add(path.pop())
                node = path.pop() if path else None
        done.update(path)
    return found


async def scan(lender: Lender, groups: Sequence[GroupId]) -> Waits:
    """Read the wait graphs of all groups that answer."""
    looks = (ask(lender, group, SCAN, LOOK_S) for group in groups)
    answers = await asyncio.gather(*looks, return_exceptions=True)
    rows: list[tuple[GroupId, tuple[str | None, ...]]] = []
    for group, answer in zip(groups, answers, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, PgherdError):
                raise answer
            continue
        rows += [(group, row) for row in answer]
    return joined(rows)


def joined(rows: Iterable[tuple[GroupId, tuple[str | None, ...]]]) -> Waits:
    """The graph that the groups' rows of SCAN describe."""
    edges: set[tuple[Process, Process]] = set()
    same: dict[Process, Process] = {}
    since: dict[Process, int] = {}
    cancellable: set[Process] = set()
    yielding: set[Process] = set()
    for group, (kind, pid, a, b) in rows:
        process = (group, int(pid or 0))
        match kind:
            case "wait":
                if a != "0":  # 0: a prepared transaction, which recovery settles
                    edges.add((process, (group, int(a or 0))))
                    if b in ("true", "t", "True"):
                        cancellable.add(process)
            case "same":
                same[process] = (GroupId(int(a or 0)), int(b or 0))
            case "yields":
                yielding.add(process)
            case _:
                since[process] = int(a or 0)
    return Waits(
        edges=frozenset(edges),
        same=same,
        since_us=since,
        cancellable=frozenset(cancellable),
        yielding=frozenset(yielding),
    )


class Detector:
    """Looks at intervals of the caller's choice; cancels what it has seen twice."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self.cancelled = 0
        self._seen: frozenset[tuple[Process, ...]] = frozenset()

    async def look(self, groups: Sequence[GroupId]) -> list[Deadlock]:
        """One round; answers the deadlocks that it broke."""
        waits = await scan(self.lender, groups)
        found = find(waits)
        broken = [deadlock for deadlock in found if deadlock.cycle in self._seen]
        self._seen = frozenset(deadlock.cycle for deadlock in found)
        for deadlock in broken:
            await self._cancel(deadlock, waits.since_us.get(deadlock.victim, 0))
        return broken

    async def _cancel(self, deadlock: Deadlock, since_us: int) -> None:
        """Only a process that still waits for a lock in the same transaction. Its coordinator makes the 57014 a 40P01."""
        group, pid = deadlock.victim
        rows = await ask(
            self.lender,
            group,
            f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock' "
            f"AND (extract(epoch FROM xact_start) * 1000000)::int8 = {since_us}",
        )
        self.cancelled += len(rows)
