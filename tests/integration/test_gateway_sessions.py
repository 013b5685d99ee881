"""What one session leaves behind never reaches another, and sessions survive what happens around them."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors

from pgherd.deploy.local import LocalCluster
from pgherd.gateway import wire
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(60)

Connection = psycopg.Connection[tuple[Any, ...]]
PATH = '"$user", public'


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    return yard.cluster("gateway_sessions", embedded=True, groups=2)


@pytest.fixture(scope="module")
def dsn(herd: LocalCluster) -> str:
    """The same two tables, one distributed and one single, in the schemas public and other."""
    uri = herd.dsn(herd.existing())
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("CREATE SCHEMA other")
        for schema in ("public", "other"):
            db.execute(f"CREATE TABLE {schema}.t (id int PRIMARY KEY, v text) PARTITION BY HASH (id)")
            db.execute(f"INSERT INTO {schema}.t SELECT i, '{schema}' FROM generate_series(1, 50) AS i")
            db.execute(f"CREATE TABLE {schema}.u (a int, v text)")
            db.execute(f"INSERT INTO {schema}.u VALUES (1, '{schema}')")
    return uri


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def server(herd: LocalCluster) -> Iterator[Connection]:
    """Group 0's server itself."""
    with psycopg.connect(uris(herd)[0], autocommit=True) as connection:
        yield connection


def one(db: Connection, sql: str, *args: Any) -> Any:
    row = db.execute(sql, args or None).fetchone()  # type: ignore[arg-type]
    return None if row is None else row[0]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.02)


def seen(db: Connection) -> set[str]:
    """Which schema's rows the session gets: of a shard, of all shards, of a single table."""
    return {
        one(db, "SELECT v FROM t WHERE id = 1"),
        one(db, "SELECT v FROM t ORDER BY id LIMIT 1"),
        one(db, "SELECT v FROM u"),
    }


# ---- settings end with what they were made in --------------------------------------------------------------


def test_rollback_undoes_settings(db: Connection) -> None:
    db.execute("BEGIN")
    db.execute("SET search_path = other")
    db.execute("SET work_mem = '7MB'")
    assert seen(db) == {"other"}
    db.execute("ROLLBACK")
    assert seen(db) == {"public"}
    assert (one(db, "SHOW search_path"), one(db, "SHOW work_mem")) == (PATH, "4MB")


def test_a_failed_commit_undoes_settings(db: Connection) -> None:
    db.execute("BEGIN")
    db.execute("SET search_path = other")
    with pytest.raises(errors.DivisionByZero):
        db.execute("SELECT 1 / 0")
    assert db.execute("COMMIT").statusmessage == "ROLLBACK"
    assert seen(db) == {"public"}


@pytest.mark.parametrize(
    "sql", ["SET LOCAL search_path = other", "SELECT set_config('search_path', 'other', true)"]
)
def test_local_settings_hold_in_every_group_until_the_end(db: Connection, sql: str) -> None:
    db.execute("BEGIN")
    db.execute(sql)
    assert seen(db) == {"other"}
    db.execute("COMMIT")
    assert seen(db) == {"public"}


def test_savepoints_undo_settings(db: Connection) -> None:
    db.execute("BEGIN")
    db.execute("SAVEPOINT a")
    db.execute("SET search_path = other")
    assert seen(db) == {"other"}
    db.execute("ROLLBACK TO a")
    assert seen(db) == {"public"}
    db.execute("SET search_path = other")
    db.execute("SAVEPOINT b")
    db.execute("SET LOCAL search_path = public")
    db.execute("RELEASE b")
    assert seen(db) == {"public"}
    db.execute("COMMIT")
    assert seen(db) == {"other"}


def test_a_failing_query_of_several_statements_undoes_settings(db: Connection) -> None:
    with pytest.raises(errors.DivisionByZero):
        db.execute("SET work_mem = '7MB'; SET search_path = other; SELECT 1 / 0")
    assert one(db, "SHOW work_mem") == "4MB"
    assert seen(db) == {"public"}
    cursor = db.execute("SET LOCAL search_path = other; SELECT v FROM u")
    cursor.nextset()
    assert cursor.fetchone() == ("other",)
    assert seen(db) == {"public"}


def test_reset_goes_back_to_what_the_session_came_with(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, options="-c search_path=other -c work_mem=9MB") as db:
        db.execute("SET search_path = public")
        db.execute("RESET search_path")
        assert seen(db) == {"other"}
        for reset in ("RESET ALL", "SET work_mem TO DEFAULT", "DISCARD ALL"):
            db.execute("SET work_mem = '5MB'")
            db.execute(reset)  # type: ignore[arg-type]
            assert one(db, "SHOW work_mem") == "9MB", reset


def test_session_characteristics(db: Connection) -> None:
    db.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ")
    assert one(db, "SHOW transaction_isolation") == "repeatable read"
    with pytest.raises(errors.ReadOnlySqlTransaction):
        db.execute("UPDATE t SET v = v WHERE id = 1")


# ---- settings of one session are nobody else's -------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT remember_tenant('secret')",
        "DO $$ BEGIN PERFORM set_config('app.tenant', 'secret', false); END $$",
        "SELECT set_config('app.' || 'tenant', 'secret', false)",
        "SELECT set_config('app.tenant', 'secret', false) FROM u",
    ],
)
def test_settings_made_by_code_reach_nobody_else(db: Connection, dsn: str, sql: str) -> None:
    db.execute(
        "CREATE OR REPLACE FUNCTION remember_tenant(text) RETURNS text LANGUAGE sql AS "
        "$$ SELECT set_config('app.tenant', $1, false) $$"
    )
    for _ in range(4):
        db.execute(sql)  # type: ignore[arg-type]
    with psycopg.connect(dsn, autocommit=True) as other:
        for number in range(8):
            assert not one(other, "SELECT current_setting('app.tenant', true)"), number


def test_set_config_with_parameters_is_carried(db: Connection, dsn: str) -> None:
    db.execute("SELECT set_config(%s, %s, %s), set_config('app.b', %s, false)", ("app.a", "1", False, "2"))
    with psycopg.connect(dsn, autocommit=True) as other:
        for _ in range(4):
            assert one(db, "SELECT current_setting('app.a') || current_setting('app.b')") == "12"
            assert not one(other, "SELECT current_setting('app.a', true)")


# ---- a server connection is fit for the next session -------------------------------------------------------


class Slow:
    """A client that sends, and reads when it likes."""

    def __init__(self, dsn: str) -> None:
        at = psycopg.conninfo.conninfo_to_dict(dsn)
        self.socket = socket.create_connection((at["host"], at["port"]), timeout=20)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.socket.sendall(wire.startup({"user": "postgres", "database": "pgherd"}))
        self.read(1)

    def read(self, answers: int) -> None:
        """Read until so many ReadyForQuery messages have come."""
        rest = b""
        while answers:
            more = self.socket.recv(1 << 20)
            assert more, "the connection ended"
            rest += more
            while len(rest) >= 5 and len(rest) > struct.unpack(">I", rest[1:5])[0]:
                answers -= rest[:1] == b"Z"
                rest = rest[1 + struct.unpack(">I", rest[1:5])[0] :]


def test_slow_readers_hinder_nobody(dsn: str) -> None:
    slow = [Slow(dsn) for _ in range(4)]
    for client in slow:
        client.socket.sendall(wire.query("SELECT repeat('x', 1000000) FROM generate_series(1, 20)"))
    with psycopg.connect(dsn, autocommit=True) as db:
        for _ in range(30):
            assert one(db, "SELECT v FROM u") == "public"
        for client in slow:
            client.read(1)
            client.socket.close()
        for number in range(30):  # the connections that the slow ones had
            assert one(db, "SELECT v FROM t WHERE id = %s", number + 1) == "public"


def test_statements_that_a_client_does_not_read_wait(dsn: str) -> None:
    client = Slow(dsn)
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("CREATE SEQUENCE said")
        client.socket.sendall(wire.query("SELECT repeat('x', 1000000), nextval('said')") * 60)
        eventually(lambda: one(db, "SELECT last_value FROM said") > 1)
        for _ in range(200):  # time enough for all of them, if they were carried out
            assert one(db, "SELECT v FROM u") == "public"
        assert one(db, "SELECT last_value FROM said") < 60
        client.read(60)
        assert one(db, "SELECT last_value FROM said") == 60
    client.socket.close()


def test_what_a_vanished_client_had_open_ends(dsn: str, server: Connection) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("BEGIN")
        db.execute("DECLARE c CURSOR FOR SELECT a.id FROM t a JOIN t b ON a.id = b.id + 1")
        assert one(db, "FETCH 1 FROM c")
    for _ in range(30):
        client = Slow(dsn)
        client.socket.sendall(wire.query("SELECT pg_sleep(30)"))
        client.socket.close()
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgherd' AND state <> 'idle'"
    eventually(lambda: one(server, busy) == 0)
    with psycopg.connect(dsn, autocommit=True) as db:
        assert one(db, "SELECT count(*) FROM t") == 50


def test_timeouts_of_the_server_keep_their_code(db: Connection) -> None:
    db.execute("SET idle_in_transaction_session_timeout = 50")
    db.execute("BEGIN")
    pid = one(db, "SELECT pg_backend_pid()")
    with psycopg.connect(db.info.dsn, autocommit=True) as other:
        eventually(lambda: one(other, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid) == 0)
    with pytest.raises(errors.IdleInTransactionSessionTimeout):
        db.execute("SELECT pg_backend_pid()")
    db.execute("ROLLBACK")
    assert one(db, "SELECT 1") == 1


def test_notices_come_before_the_error(db: Connection) -> None:
    heard: list[str] = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
    with pytest.raises(errors.DivisionByZero):
        db.execute("DO $$ BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; PERFORM 1 / 0; END $$")
    assert heard == ["first", "second"]


def test_a_described_statement_does_not_change_its_columns_in_silence(dsn: str, db: Connection) -> None:
    """asyncpg keeps statements; told as PostgreSQL tells it, it describes them again."""

    async def run() -> tuple[int, int]:
        mine = await asyncpg.connect(dsn)
        try:
            before = await mine.fetchrow("SELECT * FROM t WHERE id = $1", 1)
            db.execute("ALTER TABLE t ADD COLUMN more int")
            after = await mine.fetchrow("SELECT * FROM t WHERE id = $1", 1)
            assert before is not None
            assert after is not None
            return len(before), len(after)
        finally:
            await mine.close()
            db.execute("ALTER TABLE t DROP COLUMN more")

    assert asyncio.run(run()) == (2, 3)


def test_thousands_of_parameters(db: Connection) -> None:
    """Planned in time that grows with their number, not with its square."""
    rows = 10_000
    values = ", ".join(["(%s, %s)"] * rows)
    db.execute(f"INSERT INTO t VALUES {values}", [x for i in range(rows) for x in (1000 + i, "many")])  # type: ignore[arg-type]
    assert db.execute("DELETE FROM t WHERE id >= 1000").rowcount == rows


# ---- statements while the map changes ----------------------------------------------------------------------


def test_no_statement_meets_the_empty_template(dsn: str, db: Connection) -> None:
    """While `distribute` turns a single table into a distributed one, every read finds its row and every write too."""
    db.execute("CREATE TABLE w (id bigint PRIMARY KEY, n int NOT NULL)")
    db.execute("INSERT INTO w SELECT i, 0 FROM generate_series(1, 500) AS i")
    stop = threading.Event()
    wrong: list[object] = []
    done: list[int] = []

    def loop(sql: str, want: int, *, write: bool) -> None:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0 if write else None) as mine:
            while not stop.is_set():
                try:
                    count = mine.execute(sql, (7,) if "%s" in sql else None).rowcount  # type: ignore[arg-type]
                except psycopg.Error as error:
                    wrong.append(error)
                    return
                if count != want:
                    wrong.append((sql, count))
                done.append(write)

    jobs = [
        ("SELECT n FROM w WHERE id = 7", 1, False),
        ("SELECT n FROM w WHERE id = %s", 1, False),
        ("SELECT n FROM w", 500, False),
        ("UPDATE w SET n = n + 1 WHERE id = %s", 1, True),
    ]
    threads = [threading.Thread(target=loop, args=job[:2], kwargs={"write": job[2]}) for job in jobs]
    for thread in threads:
        thread.start()
    eventually(lambda: len(done) > 50)
    db.execute("CALL pgherd.distribute('w', by => 'hash', key => 'id')")
    after = len(done)
    eventually(lambda: len(done) > after + 50 or bool(wrong))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert one(db, "SELECT sum(n) FROM w") == sum(done)
