"""The gateway in front of real replicated groups (Patroni, etcd): load goes on through a switchover, a crash, and a primary that is cut off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from pgherd.deploy.local import LocalCluster
from pgherd.deploy.switchover import switchover
from pgherd.testing import coverage, nodes
from pgherd.testing.nodes import NodeFaults

pytestmark = pytest.mark.timeout(180)

Connection = psycopg.Connection[tuple[Any, ...]]
GROUP = 1  # the group whose primary goes away


@pytest.fixture(scope="module")
def dsn(replicated_cluster: LocalCluster) -> Iterator[str]:
    """A gateway in front of the run's replicated cluster, for this module alone, with tables of its own."""
    herd = replicated_cluster
    nodes.wait_healthy(herd)
    uri = herd.dsn(herd.up())
    with psycopg.connect(uri, autocommit=True) as db:
        for name in ("kept", "counter", "purse"):
            db.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, v int NOT NULL) PARTITION BY HASH (id)")  # type: ignore[arg-type]
        db.execute("INSERT INTO counter SELECT n, 0 FROM generate_series(1, 40) n")
        db.execute("INSERT INTO purse SELECT n, 0 FROM generate_series(1, 40) n")
    yield uri
    herd.gateway.stop()
    nodes.wait_healthy(herd)


def keys(dsn: str, group: int) -> list[int]:
    """Ids of table counter that lie in a group."""
    with psycopg.connect(dsn, autocommit=True) as db:
        shown = {
            n: "\n".join(
                row[0] for row in db.execute(f"EXPLAIN SELECT * FROM counter WHERE id = {n}").fetchall()
            )
            for n in range(1, 20)
        }
    return [n for n, text in shown.items() if f"on group {group}" in text]


@dataclass(slots=True)
class Load:
    """Clients that repeat a job on a connection each, until the end of the block; and what came of it."""

    dsn: str
    done: dict[str, int] = field(default_factory=dict[str, int])
    longest_s: dict[str, float] = field(default_factory=dict[str, float])
    last: dict[str, float] = field(default_factory=dict[str, float])
    errors: list[tuple[str, str | None, str]] = field(default_factory=list[tuple[str, str | None, str]])
    acknowledged: list[int] = field(default_factory=list[int])
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list[threading.Thread])

    def repeat(self, name: str, job: Callable[[Connection], None], options: str = "") -> None:
        self.done[name], self.longest_s[name], self.last[name] = 0, 0.0, 0.0
        thread = threading.Thread(target=self._run, args=(name, job, options), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, name: str, job: Callable[[Connection], None], options: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True, options=options) as db:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    job(db)
                    self.done[name] += 1
                    self.last[name] = time.monotonic()
                except psycopg.Error as error:
                    self.errors.append((name, error.sqlstate, str(error)))
                self.longest_s[name] = max(self.longest_s[name], time.monotonic() - begun)
                time.sleep(0.005)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive(), "a client hangs"


@contextmanager
def load(dsn: str) -> Iterator[Load]:
    """Writes and reads of both groups, and transfers over both; then the books are checked: nothing acknowledged is lost, nothing is
    there twice, the sum over groups was never wrong."""
    here, there = keys(dsn, GROUP), keys(dsn, 0)
    found = Load(dsn)
    numbers = iter(range(time.time_ns() // 1000, 2**62))

    def insert(db: Connection) -> None:
        number = next(numbers)
        db.execute("INSERT INTO kept VALUES (%s, 1)", (number,))
        found.acknowledged.append(number)

    def transfer(db: Connection) -> None:
        with db.transaction():
            db.execute("UPDATE purse SET v = v - 1 WHERE id = %s", (here[0],))
            db.execute("UPDATE purse SET v = v + 1 WHERE id = %s", (there[0],))

    def look(db: Connection) -> None:
        assert db.execute("SELECT sum(v) FROM purse").fetchone() == (0,)

    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("UPDATE counter SET v = 0")
    found.repeat("insert", insert)
    for name, key in (("here", here[1]), ("there", there[1])):
        found.repeat(
            f"count {name}",
            lambda db, key=key: db.execute("UPDATE counter SET v = v + 1 WHERE id = %s", (key,)) and None,
        )
        found.repeat(
            f"read {name}",
            lambda db, key=key: db.execute("SELECT v FROM counter WHERE id = %s", (key,)) and None,
        )
    found.repeat("transfer", transfer)
    found.repeat("sum", look)
    found.repeat(
        "near",
        lambda db: db.execute("SELECT v FROM counter WHERE id = %s", (here[1],)) and None,
        "-c pgherd.read=eventual",
    )
    nodes.wait_for(lambda: all(count > 20 for count in found.done.values()), 30, "the load to run")
    yield found
    found.end()
    with psycopg.connect(dsn, autocommit=True) as db:
        there_now = {row[0] for row in db.execute("SELECT id FROM kept").fetchall()}
        assert set(found.acknowledged) <= there_now
        assert db.execute("SELECT sum(v) FROM purse").fetchone() == (0,)
        for name, key in (("here", here[1]), ("there", there[1])):
            row = db.execute("SELECT v FROM counter WHERE id = %s", (key,)).fetchone()
            unknown = sum(error[:2] == (f"count {name}", "08007") for error in found.errors)
            assert row is not None
            assert found.done[f"count {name}"] <= row[0] <= found.done[f"count {name}"] + unknown
    unknown = sum(code == "08007" for _, code, _ in found.errors)
    coverage.covered(
        "failovers under load", {"inserts": len(found.acknowledged), "outcomes unknown": unknown}
    )


def goes_on(found: Load) -> None:
    """Wait until each client has had an answer to what it asked after this moment."""
    now = time.monotonic()
    nodes.wait_for(lambda: all(last > now + 0.5 for last in found.last.values()), 40, "all clients to go on")


def test_a_switchover_is_no_error_to_anybody(replicated_cluster: LocalCluster, dsn: str) -> None:
    herd = replicated_cluster
    old = nodes.primary(herd, GROUP)
    with load(dsn) as found:
        asyncio.run(switchover(NodeFaults(herd, old).process.config, GROUP, None, lambda _: None))
        goes_on(found)
    assert nodes.primary(herd, GROUP) != old
    assert found.errors == []


def test_a_crash_is_an_error_only_to_what_was_under_way(replicated_cluster: LocalCluster, dsn: str) -> None:
    herd = replicated_cluster
    nodes.wait_healthy(herd)
    old = nodes.primary(herd, GROUP)
    with load(dsn) as found:
        NodeFaults(herd, old).kill("postgres")
        goes_on(found)
    for name, code, text in found.errors:  # one statement of each client at most
        assert code in ("08007", "40001"), (name, code, text)
        assert "there" not in name and not name.startswith(("read", "near", "sum")), (name, code, text)
    assert len(found.errors) == len({name for name, _, _ in found.errors})


def test_a_primary_that_was_cut_off_does_not_answer(replicated_cluster: LocalCluster, dsn: str) -> None:
    """Its Patroni and its supervisor stand still while PostgreSQL goes on: whatever was read after the new primary took a write, sees it."""
    herd = replicated_cluster
    nodes.wait_healthy(herd)
    old = nodes.primary(herd, GROUP)
    key = keys(dsn, GROUP)[2]
    newest = 0
    wrong: list[tuple[int, int]] = []
    stop = threading.Event()

    def watch() -> None:
        with psycopg.connect(dsn, autocommit=True) as db:
            while not stop.is_set():
                least = newest
                row = db.execute("SELECT v FROM counter WHERE id = %s", (key,)).fetchone()
                if row is None or row[0] < least:
                    wrong.append((least, -1 if row is None else row[0]))

    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("UPDATE counter SET v = 0 WHERE id = %s", (key,))
        readers = [threading.Thread(target=watch, daemon=True) for _ in range(3)]
        for reader in readers:
            reader.start()
        faults = NodeFaults(herd, old)
        faults.freeze("supervisor")
        faults.freeze("patroni")
        try:
            deadline = time.monotonic() + 40
            while (newest < 200 or another(herd, old) is None) and time.monotonic() < deadline:
                db.execute("UPDATE counter SET v = %s WHERE id = %s", (newest + 1, key))
                newest += 1
                time.sleep(0.005)
            for _ in range(100):
                db.execute("UPDATE counter SET v = %s WHERE id = %s", (newest + 1, key))
                newest += 1
        finally:
            stop.set()
            for reader in readers:
                reader.join(40)
            faults.thaw()
    assert wrong == []
    assert another(herd, old) is not None


def another(herd: LocalCluster, old: str) -> str | None:
    """The group's primary, if it is another one than `old`."""
    found = herd.replicated(herd.existing()).primary(GROUP)
    return found.name if found is not None and found.name != old else None
