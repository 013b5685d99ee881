"""The gateway when things break: a group that is down, a map that is old, clients and gateways that vanish."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.local import LocalCluster
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(90)

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    """Two groups, each a server of its own, and a gateway."""
    return yard.cluster("gateway_faults", embedded=False, groups=2)


@pytest.fixture(scope="module")
def dsn(herd: LocalCluster) -> str:
    uri = herd.dsn(herd.existing())
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v int) PARTITION BY HASH (id)")
        db.execute("INSERT INTO t SELECT n, 0 FROM generate_series(1, 100) n")
    return uri


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def second(yard: Yard, herd: LocalCluster, dsn: str) -> Iterator[str]:
    """Another gateway of the same cluster, whose poll of the epoch is too rare to help."""
    del dsn
    settings = {**herd.gateway_settings(herd.existing()), "port": yard.port(), "epoch_poll": 3600}
    directory = yard.directory / "second_gateway"
    directory.mkdir()
    process = GatewayProcess(directory=directory, mortal=True)
    process.start(settings)
    yield f"postgresql://postgres@127.0.0.1:{settings['port']}/pgherd"
    process.stop()


def ids_by_group(db: Connection) -> dict[int, list[int]]:
    """Ids of table t that lie in each group, found through EXPLAIN's own words."""
    found: dict[int, list[int]] = {0: [], 1: []}
    for number in range(1, 21):
        shown = "\n".join(
            row[0] for row in db.execute(f"EXPLAIN SELECT * FROM t WHERE id = {number}").fetchall()
        )
        found[1 if "group 1" in shown else 0].append(number)
    return found


def wait_until_it_answers(db: Connection, sql: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            db.execute(sql)  # type: ignore[arg-type]
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def test_a_group_that_is_down_is_named_and_the_others_answer(herd: LocalCluster, db: Connection) -> None:
    by_group = ids_by_group(db)
    server = herd.servers(herd.existing())[1]
    server.stop(immediate=True)
    try:
        for number in by_group[0]:
            assert db.execute("SELECT v FROM t WHERE id = %s", (number,)).fetchone() == (0,)
        start = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="group 1") as caught:
            db.execute("SELECT v FROM t WHERE id = %s", (by_group[1][0],))
        assert caught.value.sqlstate == "08006"
        with pytest.raises(psycopg.OperationalError, match="group 1"):
            db.execute("SELECT count(*) FROM t")
        with pytest.raises(psycopg.OperationalError):
            db.execute("UPDATE t SET v = 1")
        assert time.monotonic() - start < 30
        assert db.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.start()
    wait_until_it_answers(db, "SELECT count(*) FROM t")
    assert db.execute("SELECT sum(v) FROM t").fetchone() == (0,)


def test_a_lost_write_is_said_to_be_unknown(herd: LocalCluster, db: Connection, dsn: str) -> None:
    number = ids_by_group(db)[1][0]
    server = herd.servers(herd.existing())[1]
    with psycopg.connect(dsn, autocommit=True) as waiting, psycopg.connect(dsn) as holder:
        holder.execute("UPDATE t SET v = v WHERE id = %s", (number,))
        waiting.pgconn.send_query(f"UPDATE t SET v = v + 1 WHERE id = {number}".encode())
        wait_for_lock(server.uri("pgherd"))
        server.stop(immediate=True)
        while waiting.pgconn.is_busy():
            waiting.pgconn.consume_input()
        result = waiting.pgconn.get_result()
        assert result is not None
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"08007"
        server.start()
        while waiting.pgconn.get_result() is not None:
            pass
        wait_until_it_answers(waiting, "SELECT count(*) FROM t")
        with pytest.raises(psycopg.Error):
            holder.execute("SELECT 1 FROM t WHERE id = %s", (number,))
        holder.rollback()
    assert db.execute("SELECT sum(v) FROM t").fetchone() == (0,)


def wait_for_lock(uri: str) -> None:
    with psycopg.connect(uri, autocommit=True) as look:
        deadline = time.monotonic() + 10
        while look.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
            assert time.monotonic() < deadline


def test_an_old_map_is_noticed(db: Connection, second: str) -> None:
    db.execute("CREATE TABLE words (word text PRIMARY KEY, n int) PARTITION BY RANGE (word)")
    with psycopg.connect(second, autocommit=True) as other:
        other.execute("INSERT INTO words VALUES ('apple', 1), ('pear', 2)")
        assert other.execute("SELECT n FROM words WHERE word = 'pear'").fetchone() == (2,)
        db.execute("DELETE FROM words")
        db.execute("CALL pgherd.split('words', 'm')")
        other.execute("INSERT INTO words VALUES ('pear', 3)")
        other.execute("INSERT INTO words VALUES ('apple', 1)")
        assert other.execute("SELECT n FROM words WHERE word = %s", ("pear",)).fetchone() == (3,)
        db.execute("DELETE FROM words")
        last = db.execute("SELECT max(id) FROM pgherd.shards WHERE keyspace = 'words'").fetchone()
        assert last is not None
        db.execute(f"CALL pgherd.move({last[0]}, 1)")
        other.execute("INSERT INTO words VALUES ('apple', 5), ('zebra', 6)")
        assert other.execute("SELECT sum(n) FROM words").fetchone() == (11,)
        assert other.execute("UPDATE words SET n = n + 1").rowcount == 2
        db.execute("DROP TABLE words")
        with pytest.raises(errors.UndefinedTable):
            other.execute("SELECT * FROM words")


def test_a_client_that_vanishes_leaves_no_locks(db: Connection, dsn: str) -> None:
    vanishing = psycopg.connect(dsn)
    vanishing.execute("UPDATE t SET v = v + 1 WHERE id <= 10")
    with socket.socket(fileno=os.dup(vanishing.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    db.execute("SET lock_timeout = '5s'")
    assert db.execute("UPDATE t SET v = 0").rowcount == 100
    vanishing.close()


def test_a_gateway_that_is_killed_loses_no_acknowledged_write(
    yard: Yard, herd: LocalCluster, db: Connection
) -> None:
    settings = {**herd.gateway_settings(herd.existing()), "port": yard.port()}
    directory = yard.directory / "third_gateway"
    directory.mkdir()
    process = GatewayProcess(directory=directory, mortal=True)
    process.start(settings)
    uri = f"postgresql://postgres@127.0.0.1:{settings['port']}/pgherd"
    with psycopg.connect(uri) as other:
        other.execute("UPDATE t SET v = 7")
        other.commit()
        other.execute("UPDATE t SET v = 8")
        pid = process.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
    db.execute("SET lock_timeout = '10s'")
    assert db.execute("SELECT sum(v) FROM t").fetchone() == (700,)
    assert db.execute("UPDATE t SET v = 0").rowcount == 100
