"""Commits that a standby has not confirmed: they are never called done, whoever stopped their wait, and no client can switch the wait off
for a distributed transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from replica_world import Herd, Later, make_herd, one_in, table_behind, wait_until

from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(120)

Connection = psycopg.Connection[tuple[Any, ...]]
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[Herd]:
    made = make_herd(yard, "ur")
    yield made
    made.close()


@pytest.fixture(scope="module")
def dsn(herd: Herd) -> Iterator[str]:
    with table_behind(herd, "ur_gateway") as uri:
        yield uri


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def waits(herd: Herd, group: int) -> bool:
    return int(herd.ask(herd.names[group][0], WAITS)) > 0


@pytest.mark.parametrize("how", ["simple", "extended", "first time", "rows", "several shards"])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_cancelled_wait_is_an_unknown_outcome(
    herd: Herd, dsn: str, db: Connection, how: str, quiet: bool
) -> None:
    number = one_in(db, 0)
    primary, standby = herd.names[0]
    sql, params, prepare = "UPDATE t SET v = v + 1 WHERE id = %s", (number,), how == "extended"
    with psycopg.connect(dsn, autocommit=True) as session:
        session.prepare_threshold = 0 if prepare else None
        if quiet:
            session.execute("SET client_min_messages = 'error'")
        jobs = {
            "simple": lambda: session.execute(f"UPDATE t SET v = v + 1 WHERE id = {number}"),
            "extended": lambda: session.execute(sql, params),
            "first time": lambda: session.execute(f"{sql} AND v > -{int(time.time())}", params),
            "rows": lambda: session.execute(f"{sql} RETURNING v", params).fetchall(),
            "several shards": lambda: session.execute(
                f"UPDATE t SET v = v + 1 WHERE id IN ({number}, {number + 1})"
            ),
        }
        if how in ("simple", "extended"):  # so that it runs on the fast path
            for _ in range(3):
                jobs[how]()
        with herd.frozen(standby):
            job = Later(jobs[how])
            wait_until(lambda: waits(herd, 0))
            session.cancel()
            if (
                how == "several shards"
            ):  # its commit is a transaction's: no cancel reaches it, but an operator's does
                time.sleep(0.3)
                assert waits(herd, 0)
                herd.ask(primary, CANCEL)
            else:
                job.join(10)
            if how != "several shards":
                assert job.sqlstate() == "08007", job.outcome
        if how == "several shards":
            assert job.sqlstate() in (None, "08007"), job.outcome
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_commit_is_never_cancelled_by_its_client_and_unknown_if_an_operator_does(
    herd: Herd, dsn: str, db: Connection
) -> None:
    number = one_in(db, 0)
    primary, standby = herd.names[0]
    with psycopg.connect(dsn) as session:
        session.execute("UPDATE t SET v = v + 1 WHERE id = %s", (number,))
        with herd.frozen(standby):
            job = Later(session.commit)
            wait_until(lambda: waits(herd, 0))
            session.cancel()
            time.sleep(0.5)  # nothing may come of it
            assert job.is_alive() and waits(herd, 0)
        assert job.sqlstate() is None
        session.execute("UPDATE t SET v = v + 1 WHERE id = %s", (number,))
        with herd.frozen(standby):
            job = Later(session.commit)
            wait_until(lambda: waits(herd, 0))
            herd.ask(primary, CANCEL)
            assert job.sqlstate() == "08007"


def test_a_distributed_commit_survives_cancelled_waits(herd: Herd, dsn: str, db: Connection) -> None:
    """Whichever of its commands stops waiting: in the end both groups have it, or neither, and COMMIT is told only with the standbys'."""
    numbers = one_in(db, 0), one_in(db, 1)
    outcomes: set[str | None] = set()
    for group in (0, 1):
        primary, standby = herd.names[group]
        with psycopg.connect(dsn) as session:
            before = [db.execute("SELECT v FROM t WHERE id = %s", (n,)).fetchone() for n in numbers]
            for n in numbers:
                session.execute("UPDATE t SET v = v + 1 WHERE id = %s", (n,))
            with herd.frozen(standby):
                job = Later(session.commit)
                for _ in range(2):
                    wait_until(lambda: waits(herd, group) or not job.is_alive())  # noqa: B023
                    herd.ask(primary, CANCEL)
                    time.sleep(0.2)
                told = job.is_alive()
                # nothing that is not on the standby was called committed
                assert told or job.sqlstate() is not None
            outcomes.add(job.sqlstate())
        wait_until(lambda: herd.ask(herd.names[0][0], "SELECT count(*) FROM pg_prepared_xacts") == "0")
        wait_until(lambda: herd.ask(herd.names[1][0], "SELECT count(*) FROM pg_prepared_xacts") == "0")
        after = [db.execute("SELECT v FROM t WHERE id = %s", (n,)).fetchone() for n in numbers]
        moved = {b[0] - a[0] for a, b in zip(before, after, strict=True) if a is not None and b is not None}
        assert moved in ({0}, {1})
        assert moved == {1} or job.sqlstate() is not None


@pytest.mark.parametrize("weaken", ["SET", "SET LOCAL", "set_config", "startup", "role"])
def test_nobody_switches_the_wait_off_for_a_distributed_commit(
    herd: Herd, dsn: str, db: Connection, weaken: str
) -> None:
    numbers = one_in(db, 0), one_in(db, 1)
    options = "-c synchronous_commit=off" if weaken == "startup" else ""
    user = {}
    if weaken == "role":
        db.execute("DROP ROLE IF EXISTS hasty")
        db.execute("CREATE ROLE hasty LOGIN SUPERUSER")
        for group in herd.names:
            herd.run(group[0], "ALTER ROLE hasty SET synchronous_commit = off")
        user = {"user": "hasty"}
    with psycopg.connect(dsn, options=options, autocommit=True, **user) as session:
        if weaken == "SET":
            session.execute("SET synchronous_commit = off")
        session.execute("BEGIN")
        if weaken == "SET LOCAL":
            session.execute("SET LOCAL synchronous_commit = local")
        elif weaken == "set_config":
            session.execute("SELECT set_config('synchronous_commit', 'off', false)")
        for n in numbers:
            session.execute("UPDATE t SET v = v + 1 WHERE id = %s", (n,))
        with herd.frozen(herd.names[0][1]), herd.frozen(herd.names[1][1]):
            job = Later(lambda: session.execute("COMMIT"))
            wait_until(lambda: waits(herd, 0) or waits(herd, 1))
            time.sleep(0.3)
            assert job.is_alive()
        assert job.sqlstate() is None
        for group in (0, 1):  # COMMIT PREPARED waits, too
            session.execute("BEGIN")
            for n in numbers:
                session.execute("UPDATE t SET v = v + 1 WHERE id = %s", (n,))
            with herd.frozen(herd.names[group][1]):
                job = Later(lambda: session.execute("COMMIT"))
                wait_until(lambda: waits(herd, group))  # noqa: B023
                assert job.is_alive()
            assert job.sqlstate() is None
