"""Reads on replicas through the gateway: which statements go there, how fresh they are, and what happens when a replica cannot answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from replica_world import Herd, kill, make_herd, one_in, table_behind, wait_until

from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(120)

Connection = psycopg.Connection[tuple[Any, ...]]
READ = "SELECT v, inet_server_port() FROM t WHERE id = %s"


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[Herd]:
    """Two groups; each commit waits for its standby to have it (but not for it to show it)."""
    made = make_herd(yard, "rr")
    yield made
    made.close()


@pytest.fixture(scope="module")
def dsn(herd: Herd) -> Iterator[str]:
    """A gateway in the zone of the standbys."""
    with table_behind(herd, "rr_gateway", region="here", zone="b") as uri:
        with psycopg.connect(uri, autocommit=True) as db:
            db.execute("CREATE TABLE lone (id int, v int)")
        yield uri


@pytest.fixture
def db(dsn: str, herd: Herd) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE t SET v = 0")
        for group in range(2):
            herd.caught_up(group)
        yield connection


def ports(herd: Herd, group: int) -> tuple[int, int]:
    first, second = herd.names[group]
    return herd.server(first).port, herd.server(second).port


@pytest.mark.parametrize("level", ["eventual", "bounded 5s", "session"])
@pytest.mark.parametrize("prepare", [False, True])
def test_the_nearest_replica_answers(herd: Herd, dsn: str, db: Connection, level: str, prepare: bool) -> None:
    number = one_in(db, 0)
    primary, replica = ports(herd, 0)
    with psycopg.connect(dsn, autocommit=True) as reader:
        assert reader.execute(READ, (number,), prepare=prepare).fetchone() == (0, primary)
        reader.execute(f"SET pgherd.read = '{level}'")  # type: ignore[arg-type]
        assert reader.execute("SHOW pgherd.read").fetchone() == (level,)
        seen = {reader.execute(READ, (number,), prepare=prepare).fetchone() for _ in range(20)}
        assert (0, replica) in seen
        # what may do more than read, and writes, stay on the primary
        assert reader.execute(f"{READ} FOR UPDATE", (number,)).fetchone() == (0, primary)
        assert reader.execute(f"{READ} AND random() < 2", (number,)).fetchone() == (0, primary)
        reader.execute("RESET pgherd.read")
        assert reader.execute(READ, (number,), prepare=prepare).fetchone() == (0, primary)


def test_a_session_reads_its_own_writes_and_never_goes_back(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 0)
    primary, replica = ports(herd, 0)
    answered: list[int] = []
    with psycopg.connect(dsn, autocommit=True) as session, herd.paused(0):
        session.execute("SET pgherd.read = 'session'")
        for value in range(1, 30):
            session.execute("UPDATE t SET v = %s WHERE id = %s", (value, number))
            found = session.execute(READ, (number,)).fetchone()
            assert found is not None and found[0] == value
            answered.append(found[1])
            if value == 10:
                herd.ask(herd.names[0][1], "SELECT pg_wal_replay_resume()")
            elif value > 10:
                herd.caught_up(0)
    assert set(answered[:9]) == {primary}
    assert replica in answered[11:]


def test_a_token_takes_what_was_seen_to_another_session(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 1)
    primary, replica = ports(herd, 1)
    options = "-c pgherd.read=session"
    with herd.paused(1):
        db.execute("UPDATE t SET v = 3 WHERE id = %s", (number,))
        row = db.execute("SELECT pgherd.session_token()").fetchone()
        assert row is not None
        with psycopg.connect(dsn, autocommit=True, options=options) as stranger:
            assert stranger.execute(READ, (number,)).fetchone() == (0, replica)
        with psycopg.connect(dsn, autocommit=True, options=options) as follower:
            follower.execute(f"SET pgherd.session_token = '{row[0]}'")
            assert follower.execute(READ, (number,)).fetchone() == (3, primary)
        with psycopg.connect(
            dsn, autocommit=True, options=f"{options} -c pgherd.session_token={row[0]}"
        ) as follower:
            assert follower.execute(READ, (number,)).fetchone() == (3, primary)
    herd.caught_up(1)
    with psycopg.connect(dsn, autocommit=True, options=options) as follower:
        follower.execute("SELECT set_config('pgherd.session_token', %s, false)", (row[0],))
        assert follower.execute(READ, (number,)).fetchone() == (3, replica)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            follower.execute("SET pgherd.session_token = 'pgherd1.nonsense'")


def test_a_bound_is_never_overstated(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 0)
    primary, replica = ports(herd, 0)
    with psycopg.connect(dsn, autocommit=True) as reader:
        reader.execute("SET pgherd.read = 'bounded 1s'")
        wait_until(lambda: reader.execute(READ, (number,)).fetchone() == (0, replica))
        time.sleep(2.0)  # an idle group: the replica is not behind
        assert reader.execute(READ, (number,)).fetchone() == (0, replica)
        with herd.paused(0):
            db.execute("UPDATE t SET v = 1 WHERE id = %s", (number,))
            written = time.monotonic()
            while True:
                found = reader.execute(READ, (number,)).fetchone()
                if found == (1, primary):
                    break
                assert found == (0, replica)
                # asked before it was a second old; this machine may have been slow in between
                assert time.monotonic() - written < 3
            reader.execute("SET pgherd.read = 'eventual'")
            assert reader.execute(READ, (number,)).fetchone() == (0, replica)


def test_reads_over_groups_use_replicas_too(herd: Herd, dsn: str, db: Connection) -> None:
    """Both gathered and federated ones; seen by what paused replicas do not show."""
    with (
        psycopg.connect(dsn, autocommit=True) as reader,
        herd.paused(0),
        herd.paused(1),
    ):
        db.execute("UPDATE t SET v = 1")
        assert reader.execute("SELECT sum(v) FROM t").fetchone() == (100,)
        reader.execute("SET pgherd.read = 'eventual'")
        assert reader.execute("SELECT sum(v) FROM t").fetchone() == (0,)
        assert len(reader.execute("SELECT id FROM t WHERE v = 0").fetchall()) == 100
        joined = (
            "SELECT count(*) FROM t a JOIN t b ON a.v = b.id"  # the other group's rows come from its primary
        )
        federated = reader.execute(joined).fetchone()
        assert federated is not None and federated != (100,)
        reader.execute("SET pgherd.read = 'session'")  # it has seen the primaries
        assert reader.execute("SELECT sum(v) FROM t").fetchone() == (100,)
        reader.execute("UPDATE t SET v = 2")
        assert reader.execute("SELECT sum(v) FROM t").fetchone() == (200,)
        assert reader.execute("SELECT count(*) FROM t a JOIN t b ON a.v = b.id").fetchone() == (100,)


def test_read_only_transactions(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 0)
    primary, replica = ports(herd, 0)
    with psycopg.connect(dsn, autocommit=True, options="-c pgherd.read=eventual") as reader:
        reader.execute("BEGIN READ ONLY")
        for _ in range(3):
            assert reader.execute(READ, (number,)).fetchone() == (0, replica)
        reader.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("SELECT pg_advisory_lock(1) FROM t WHERE id = %s", (number,))
        reader.execute("ROLLBACK TO s")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (100,)
        reader.execute("COMMIT")
        reader.execute("BEGIN")  # it may write: the primary
        assert reader.execute(READ, (number,)).fetchone() == (0, primary)
        reader.execute("ROLLBACK")
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")  # one snapshot: the primaries
        assert reader.execute(READ, (number,)).fetchone() == (0, primary)
        reader.execute("COMMIT")
        reader.execute("RESET pgherd.read")
        reader.execute("SET pgherd.read = 'strong'")
        reader.execute("BEGIN READ ONLY")
        reader.execute("SET LOCAL pgherd.read = 'eventual'")
        assert reader.execute("SHOW pgherd.read").fetchone() == ("eventual",)
        reader.execute("COMMIT")
        assert reader.execute("SHOW pgherd.read").fetchone() == ("strong",)
        reader.execute("BEGIN")
        reader.execute("SET pgherd.read = 'session'")
        reader.execute("ROLLBACK")
        assert reader.execute("SHOW pgherd.read").fetchone() == ("strong",)


def test_values_that_are_none(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"pgherd\.read") as caught:
            db.execute("SET pgherd.read = 'sometimes'")
        assert "bounded 5s" in (caught.value.diag.message_hint or "")
        with pytest.raises(psycopg.errors.UndefinedObject):
            db.execute("SET pgherd.reed = 'strong'")
    with pytest.raises(psycopg.OperationalError, match=r"pgherd\.read"):
        psycopg.connect(dsn, options="-c pgherd.read=sometimes")


def test_a_role_may_have_a_level_of_its_own(dsn: str, db: Connection) -> None:
    db.execute("DROP ROLE IF EXISTS reporter")
    db.execute("CREATE ROLE reporter LOGIN")
    db.execute("ALTER ROLE reporter SET pgherd.read = 'bounded 5s'")
    with psycopg.connect(dsn, user="reporter", autocommit=True) as reader:
        assert reader.execute("SHOW pgherd.read").fetchone() == ("bounded 5s",)
        reader.execute("SET pgherd.read = 'strong'")
        assert reader.execute("SHOW pgherd.read").fetchone() == ("strong",)
        reader.execute("RESET ALL")
        assert reader.execute("SHOW pgherd.read").fetchone() == ("bounded 5s",)
    with psycopg.connect(dsn, user="reporter", options="-c pgherd.read=eventual", autocommit=True) as reader:
        assert reader.execute("SHOW pgherd.read").fetchone() == ("eventual",)


def test_what_a_replica_does_not_know_yet_the_primary_answers(herd: Herd, dsn: str, db: Connection) -> None:
    with psycopg.connect(dsn, autocommit=True, options="-c pgherd.read=eventual") as reader:
        with herd.paused(0):
            db.execute("CREATE TABLE young (id int)")
            db.execute("INSERT INTO young VALUES (1)")
            assert reader.execute("SELECT * FROM young").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            reader.execute("SELECT 1 / v FROM t WHERE id = %s", (one_in(db, 0),))
        assert reader.execute("SELECT 1").fetchone() == (1,)


def test_a_replica_that_dies_is_not_noticed(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 1)
    primary, replica = ports(herd, 1)
    name = herd.names[1][1]
    with psycopg.connect(dsn, autocommit=True, options="-c pgherd.read=eventual") as reader:
        assert reader.execute(READ, (number,)).fetchone() == (0, replica)
        kill(herd.server(name))
        for _ in range(5):
            assert reader.execute(READ, (number,)).fetchone() == (0, primary)
        herd.server(name).start()
        wait_until(lambda: reader.execute(READ, (number,)).fetchone() == (0, replica))


def test_without_a_primary_replicas_answer_at_once(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 1)
    primary, replica = ports(herd, 1)
    with psycopg.connect(dsn, autocommit=True, options="-c pgherd.read=bounded\\ 60s") as reader:
        old = herd.end_lease(1, at_once=True)
        try:
            begun = time.monotonic()
            wait_until(lambda: herd.ask(old, "SELECT lease_ms FROM pgherd.node_state()") == "0")
            time.sleep(0.6)  # the gateway asks twice a second
            assert reader.execute(READ, (number,)).fetchone() == (0, replica)
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (100,)
            assert time.monotonic() - begun < 5
        finally:
            herd.primary[1] = old
        wait_until(lambda: db.execute(READ, (number,)).fetchone() == (0, primary))


def test_explain_and_show_say_which_node(herd: Herd, dsn: str, db: Connection) -> None:
    number = one_in(db, 0)
    with psycopg.connect(dsn, autocommit=True, options="-c pgherd.read=eventual") as reader:
        lines = [row[0] for row in reader.execute(f"EXPLAIN SELECT * FROM t WHERE id = {number}").fetchall()]
        assert any(herd.names[0][1] in line and "nearest of 2" in line for line in lines), lines
        lines = [
            row[0] for row in reader.execute(f"EXPLAIN UPDATE t SET v = 0 WHERE id = {number}").fetchall()
        ]
        assert any(herd.names[0][0] in line and "primary" in line for line in lines), lines
        shown = {row[0]: row for row in reader.execute("SHOW pgherd.nodes").fetchall()}
    assert shown.keys() == {name for group in herd.names for name in group}
    assert shown[herd.names[0][0]][5] == "primary" and shown[herd.names[0][0]][9] == "t"
    assert shown[herd.names[0][1]][5] == "standby" and shown[herd.names[0][1]][9] == "f"
