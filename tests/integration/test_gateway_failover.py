"""The gateway when a group's primary goes away: what waits, what is sent again, what is reported, and who does not notice.

The tests promote standbys and keep leases themselves, so each step happens when they say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from replica_world import Herd, Later, kill, make_herd, one_in, table_behind, wait_until

from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(120)

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def herd(yard: Yard, request: pytest.FixtureRequest) -> Iterator[Herd]:
    """Two groups of a primary and a synchronous standby each: `<name>a0`, `<name>b0`, `<name>a1`, `<name>b1`."""
    made = make_herd(yard, f"fo{abs(hash(request.node.name)) % 10_000}")
    yield made
    made.close()


@pytest.fixture
def dsn(herd: Herd) -> Iterator[str]:
    with table_behind(herd, f"{herd.name}_gateway") as uri:
        yield uri


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def trusted(db: Connection, name: str) -> bool:
    """Whether the gateway takes a node for the primary."""
    return any(row[0] == name and row[9] == "t" for row in db.execute("SHOW pgherd.nodes").fetchall())


def test_statements_wait_for_the_new_primary_and_other_groups_do_not_notice(
    herd: Herd, dsn: str, db: Connection
) -> None:
    one, two = one_in(db, 0), one_in(db, 1)
    old = herd.end_lease(1)
    kill(herd.server(old))
    wait_until(lambda: not trusted(db, old))  # what it sends before it knows of nothing may be unknown
    with psycopg.connect(dsn, autocommit=True) as other, psycopg.connect(dsn, autocommit=True) as third:
        write = Later(lambda: other.execute("UPDATE t SET v = v + 1 WHERE id = %s", (two,)).rowcount)
        whole = Later(lambda: third.execute("SELECT count(*) FROM t").fetchone())
        slowest = 0.0
        for _ in range(20):
            begun = time.monotonic()
            assert db.execute("UPDATE t SET v = v + 1 WHERE id = %s", (one,)).rowcount == 1
            slowest = max(slowest, time.monotonic() - begun)
        assert write.is_alive() and whole.is_alive(), (write.outcome, whole.outcome)
        herd.promote(1, herd.names[1][1])
        assert write.result() == 1
        assert whole.result() == (100,)
    assert slowest < 1.5
    assert db.execute("SELECT v FROM t WHERE id = %s", (two,)).fetchone() == (1,)
    assert db.execute("SELECT v FROM t WHERE id = %s", (one,)).fetchone() == (20,)


def test_who_waits_can_be_cancelled(herd: Herd, dsn: str, db: Connection) -> None:
    two = one_in(db, 1)
    herd.end_lease(1, at_once=True)
    wait_until(lambda: not trusted(db, herd.names[1][0]))
    with psycopg.connect(dsn, autocommit=True) as other:
        waits = Later(lambda: other.execute("UPDATE t SET v = 1 WHERE id = %s", (two,)))
        while waits.is_alive():  # until its statement has begun to wait
            other.cancel()
            time.sleep(0.1)
        assert isinstance(waits.result(), psycopg.errors.QueryCanceled)
        other.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            other.execute("UPDATE t SET v = 1 WHERE id = %s", (two,))
        other.execute("RESET statement_timeout")
        herd.primary[1] = herd.names[1][0]
        assert other.execute("UPDATE t SET v = 2 WHERE id = %s", (two,)).rowcount == 1


def test_reads_over_groups_wait_and_no_group_is_read_without_trust(
    herd: Herd, dsn: str, db: Connection
) -> None:
    """Gathered, federated and windowed reads, whose connections were made while the old primary was trusted."""
    joined = "SELECT count(*) FROM t a JOIN t b ON a.v + 1 = b.id"
    for sql in ("SELECT sum(v) FROM t", joined):
        db.execute(sql)  # type: ignore[arg-type]
    old = herd.end_lease(1)
    wait_until(lambda: not trusted(db, old))
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as two:
        total = Later(lambda: one.execute("SELECT sum(v) FROM t").fetchone())
        join = Later(lambda: two.execute(joined).fetchone())  # type: ignore[arg-type]
        time.sleep(1.0)  # nothing may happen meanwhile
        assert total.is_alive()
        herd.promote(1, herd.names[1][1])
        herd.run(herd.names[1][1], *(f"UPDATE {shard} SET v = 1" for shard in shards(herd, herd.names[1][1])))
        assert total.result() is not None and join.result() == (100,)
    assert db.execute("SELECT sum(v) FROM t WHERE v >= 0").fetchone() != (0,)
    kill(herd.server(old))


def shards(herd: Herd, name: str) -> list[str]:
    """The real tables of t on a node."""
    found = herd.ask(
        name,
        "SELECT string_agg(relnamespace::regnamespace || '.t', ' ') FROM pg_class WHERE relname = 't' AND relkind = 'r'",
    )
    return found.split()


def test_an_open_transaction_is_told_to_run_again(herd: Herd, dsn: str, db: Connection) -> None:
    two = one_in(db, 1)
    with psycopg.connect(dsn) as session:
        session.execute("UPDATE t SET v = 7 WHERE id = %s", (two,))
        old = herd.end_lease(1)
        kill(herd.server(old))
        herd.promote(1, herd.names[1][1])
        with pytest.raises(psycopg.errors.SerializationFailure) as caught:
            session.execute("UPDATE t SET v = 8 WHERE id = %s", (two,))
        assert caught.value.diag.message_hint == "Run the transaction again: nothing of it was committed."
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            session.execute("SELECT 1")
        session.rollback()
        session.execute("UPDATE t SET v = 9 WHERE id = %s", (two,))
        session.commit()
    assert db.execute("SELECT v FROM t WHERE id = %s", (two,)).fetchone() == (9,)


def test_a_primary_without_trust_answers_nobody(herd: Herd, dsn: str, db: Connection) -> None:
    """Its lease runs out, PostgreSQL goes on: reads, transactions and COMMIT wait, and the old one hears nothing of them."""
    two = one_in(db, 1)
    with psycopg.connect(dsn) as session, psycopg.connect(dsn, autocommit=True) as reader:
        session.execute("SELECT v FROM t WHERE id = %s", (two,))
        session.execute("UPDATE t SET v = 5 WHERE id = %s", (two,))
        old = herd.end_lease(1)
        wait_until(lambda: float(herd.ask(old, "SELECT lease_ms FROM pgherd.node_state()")) == 0)
        read = Later(lambda: reader.execute("SELECT v FROM t WHERE id = %s", (two,)).fetchone())
        commit = Later(session.commit)
        time.sleep(1.0)  # nothing may happen meanwhile, so there is nothing to wait for
        assert read.is_alive() and commit.is_alive()
        herd.promote(1, herd.names[1][1])
        assert read.result() == (0,)
        assert isinstance(commit.result(), psycopg.errors.SerializationFailure)
        session.rollback()
        # the old primary is still there, and was told nothing
        assert herd.ask(old, "SELECT pg_is_in_recovery()") == "False"
    assert db.execute("SELECT v FROM t WHERE id = %s", (two,)).fetchone() == (0,)


def test_a_pause_holds_new_statements_and_lets_open_transactions_end(
    herd: Herd, dsn: str, db: Connection
) -> None:
    two = one_in(db, 1)
    with psycopg.connect(dsn) as open_one, psycopg.connect(dsn, autocommit=True) as other:
        open_one.execute("UPDATE t SET v = 1 WHERE id = %s", (two,))
        pause = herd.ask(herd.names[1][0], "SELECT pgherd.announce_pause(0, 15000)")
        while Later(lambda: other.execute("SELECT v FROM t WHERE id = %s", (two,))).ended_within(0.3):
            pass  # the gateway has not heard of it yet
        open_one.execute("UPDATE t SET v = v + 1 WHERE id = %s", (two,))
        # a read of its own needs a second connection to the group
        assert open_one.execute(
            "SELECT count(*) FROM t a JOIN t b ON a.id = b.v WHERE b.v > 5"
        ).fetchone() == (0,)
        open_one.commit()
        herd.ask(herd.names[1][0], f"SELECT pgherd.take_back_pause({pause})")
    assert db.execute("SELECT v FROM t WHERE id = %s", (two,)).fetchone() == (2,)
