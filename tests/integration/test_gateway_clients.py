"""The gateway as clients meet it: psycopg 3, asyncpg, SQLAlchemy and psql over one embedded cluster."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from psycopg.rows import tuple_row

from pgherd.deploy import binaries
from pgherd.deploy.local import LocalCluster
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(60)

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    """Two groups behind a gateway process."""
    return yard.cluster("gateway_clients", embedded=True, groups=2)


@pytest.fixture(scope="module")
def dsn(herd: LocalCluster) -> str:
    """A distributed table in two shards on two groups, a colocated one, a reference and a single table."""
    uri = herd.dsn(herd.existing())
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL)")
        db.execute("CALL pgherd.reference('countries')")
        db.execute(
            "CREATE TABLE people (last_name text, id bigint, balance int DEFAULT 0, country text REFERENCES countries, "
            "PRIMARY KEY (last_name, id)) PARTITION BY RANGE (last_name)"
        )
        db.execute("CALL pgherd.split('people', 'N')")
        row = db.execute("SELECT max(id) FROM pgherd.shards").fetchone()
        assert row is not None
        db.execute(f"CALL pgherd.move({row[0]}, 1)")
        db.execute(
            "CREATE TABLE orders (last_name text, person bigint, id bigint, total numeric(10,2), "
            "PRIMARY KEY (last_name, person, id), "
            "FOREIGN KEY (last_name, person) REFERENCES people (last_name, id)) PARTITION BY RANGE (last_name)"
        )
        db.execute("CREATE TABLE notes (id serial PRIMARY KEY, body text)")
        db.execute("INSERT INTO countries VALUES ('DE', 'Germany'), ('US', 'United States')")
    return uri


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    """A connection in autocommit; the tables are empty, but for countries."""
    with psycopg.connect(dsn, autocommit=True, row_factory=tuple_row) as connection:
        connection.execute("DELETE FROM orders")
        connection.execute("DELETE FROM people")
        connection.execute("DELETE FROM notes")
        yield connection


def rows(db: Connection, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    return db.execute(sql, args or None).fetchall()  # type: ignore[arg-type]


NAMES = ["Adams", "Baker", "Miller", "Nguyen", "Smith", "Zimmer"]


def fill(db: Connection) -> None:
    for number, name in enumerate(NAMES):
        db.execute("INSERT INTO people VALUES (%s, %s, %s, 'DE')", (name, number, number * 10))


def test_rows_lie_where_their_key_says(db: Connection, herd: LocalCluster) -> None:
    fill(db)
    assert rows(db, "SELECT last_name FROM people ORDER BY 1") == [(name,) for name in NAMES]
    assert rows(db, "SELECT balance FROM people WHERE last_name = %s AND id = %s", "Smith", 4) == [(40,)]
    assert rows(db, "SELECT count(*), sum(balance), avg(balance)::float8 FROM people") == [(6, 150, 25.0)]


def test_simple_protocol_with_literals(db: Connection) -> None:
    fill(db)
    with psycopg.ClientCursor(db) as cursor:
        for _ in range(5):
            for number, name in enumerate(NAMES):
                found = cursor.execute(
                    "SELECT id FROM people WHERE last_name = %s AND id = %s", (name, number)
                ).fetchall()
                assert found == [(number,)]


def test_prepared_statements_survive_pooling(db: Connection, dsn: str) -> None:
    fill(db)
    with psycopg.connect(dsn, autocommit=True) as other:
        for _ in range(8):
            for number, name in enumerate(NAMES):
                for connection in (db, other):
                    found = connection.execute(
                        "SELECT id FROM people WHERE last_name = %s", (name,), prepare=True
                    ).fetchall()
                    assert found == [(number,)]


def test_update_returning_and_upsert(db: Connection) -> None:
    fill(db)
    assert rows(
        db, "UPDATE people SET balance = balance + 1 WHERE last_name = 'Smith' RETURNING balance"
    ) == [(41,)]
    db.execute(
        "INSERT INTO people VALUES ('Smith', 4, 0) ON CONFLICT (last_name, id) DO UPDATE SET balance = 7"
    )
    assert rows(db, "SELECT balance FROM people WHERE last_name = 'Smith'") == [(7,)]
    assert db.execute("UPDATE people SET balance = 1").rowcount == 6
    assert db.execute("DELETE FROM people WHERE balance = 1").rowcount == 6


def test_insert_of_many_rows_is_divided(db: Connection) -> None:
    db.execute("INSERT INTO people VALUES ('Adams', 1), ('Smith', 2), ('Baker', 3) RETURNING id")
    assert rows(db, "SELECT id FROM people ORDER BY id") == [(1,), (2,), (3,)]
    assert db.execute("INSERT INTO people SELECT last_name, id + 10 FROM people").rowcount == 3
    assert rows(db, "SELECT count(*) FROM people") == [(6,)]


def test_a_transaction_over_both_groups(db: Connection) -> None:
    fill(db)
    with db.transaction():
        db.execute("UPDATE people SET balance = balance - 5 WHERE last_name = 'Smith'")
        db.execute("UPDATE people SET balance = balance + 5 WHERE last_name = 'Adams'")
        assert rows(db, "SELECT sum(balance) FROM people") == [(150,)]
    assert rows(db, "SELECT balance FROM people WHERE last_name IN ('Adams', 'Smith') ORDER BY 1") == [
        (5,),
        (35,),
    ]
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.execute("UPDATE people SET balance = 0 WHERE last_name = 'Smith'")
        db.execute("UPDATE people SET balance = 0 WHERE last_name = 'Adams'")
        raise ZeroDivisionError
    assert rows(db, "SELECT sum(balance) FROM people") == [(150,)]


def test_savepoints_and_the_aborted_state(db: Connection) -> None:
    fill(db)
    db.execute("BEGIN")
    db.execute("UPDATE people SET balance = 1 WHERE last_name = 'Adams'")
    db.execute("SAVEPOINT s")
    with pytest.raises(errors.UniqueViolation):
        db.execute("INSERT INTO people VALUES ('Smith', 4)")
    with pytest.raises(errors.InFailedSqlTransaction):
        db.execute("SELECT 1")
    db.execute("ROLLBACK TO s")
    db.execute("UPDATE people SET balance = 2 WHERE last_name = 'Smith'")
    db.execute("COMMIT")
    assert rows(db, "SELECT balance FROM people WHERE last_name IN ('Adams', 'Smith') ORDER BY 1") == [
        (1,),
        (2,),
    ]


def test_errors_name_what_the_user_knows(db: Connection) -> None:
    fill(db)
    with pytest.raises(errors.UniqueViolation) as caught:
        db.execute("INSERT INTO people VALUES ('Smith', 4)")
    assert caught.value.diag.schema_name == "public"
    assert caught.value.diag.constraint_name == "people_pkey"
    with pytest.raises(errors.SyntaxError) as wrong:
        db.execute("SELECT * FORM people")
    assert wrong.value.diag.statement_position == "10"
    with pytest.raises(errors.UndefinedColumn) as column:
        db.execute("SELECT nope FROM people WHERE last_name = 'Smith'")
    assert column.value.diag.statement_position == "8"
    with pytest.raises(errors.UndefinedTable):
        db.execute("SELECT * FROM nothing_here")
    with pytest.raises(errors.NotNullViolation):
        db.execute("INSERT INTO people VALUES (NULL, 4)")
    assert rows(db, "SELECT 1") == [(1,)]


def test_pipelined_statements(db: Connection) -> None:
    with db.pipeline():
        for number, name in enumerate(NAMES):
            db.execute("INSERT INTO people VALUES (%s, %s)", (name, number))
        cursor = db.execute("SELECT count(*) FROM people")
    assert cursor.fetchone() == (6,)


def test_several_statements_in_one_query_are_one_transaction(db: Connection) -> None:
    with pytest.raises(errors.DivisionByZero):
        db.execute(
            "INSERT INTO people VALUES ('Adams', 1); INSERT INTO people VALUES ('Smith', 2); SELECT 1/0"
        )
    assert rows(db, "SELECT count(*) FROM people") == [(0,)]
    db.execute("INSERT INTO people VALUES ('Adams', 1); INSERT INTO people VALUES ('Smith', 2); SELECT 1")
    assert rows(db, "SELECT count(*) FROM people") == [(2,)]


def test_copy_in_and_out(db: Connection) -> None:
    with db.cursor().copy("COPY people (last_name, id, balance) FROM STDIN") as copy:
        for number in range(1000):
            copy.write_row((NAMES[number % 6], number, number))
    assert rows(db, "SELECT count(*), sum(balance) FROM people") == [(1000, 499500)]
    with db.cursor().copy("COPY people (last_name, id) TO STDOUT") as copy:
        got = sorted(int(row[1]) for row in copy.rows())
    assert got == list(range(1000))
    with db.cursor().copy("COPY people (last_name, id) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["text", "int8"])
        got = sorted(row[1] for row in copy.rows())
    assert got == list(range(1000))
    with (
        pytest.raises(errors.UniqueViolation),
        db.cursor().copy("COPY people (last_name, id) FROM STDIN") as copy,
    ):
        copy.write_row(("Adams", 5000))
        copy.write_row(("Smith", 4))
        copy.write_row(("Smith", 4))
    assert rows(db, "SELECT count(*) FROM people") == [(1000,)]


def test_copy_in_messages_of_any_size(db: Connection) -> None:
    """libpq sends what it is given: a row, or a piece of one, in a CopyData message each."""
    data = "".join(f"{NAMES[number % 6]}\t{number}\n" for number in range(20_000)).encode()
    with db.cursor().copy("COPY people (last_name, id) FROM STDIN") as copy:
        for at in range(0, len(data), 11):
            copy.write(data[at : at + 11])
    assert rows(db, "SELECT count(*), sum(id) FROM people") == [(20_000, 199_990_000)]
    with pytest.raises(ValueError), db.cursor().copy("COPY people (last_name, id) FROM STDIN") as copy:
        copy.write(b"Adams\t20001\nSmith\t20002\n")
        raise ValueError
    assert rows(db, "SELECT count(*) FROM people") == [(20_000,)]


def test_cursors(db: Connection) -> None:
    with db.cursor().copy("COPY people (last_name, id) FROM STDIN") as copy:
        for number in range(500):
            copy.write_row((NAMES[number % 6], number))
    with db.transaction(), db.cursor(name="c") as cursor:
        cursor.execute("SELECT id FROM people ORDER BY id")
        assert cursor.fetchmany(3) == [(0,), (1,), (2,)]
        assert len(cursor.fetchall()) == 497
    db.execute("BEGIN")
    db.execute("DECLARE one CURSOR FOR SELECT id FROM people WHERE last_name = 'Smith' ORDER BY id")
    assert rows(db, "FETCH 2 FROM one") == [(4,), (10,)]
    db.execute("CLOSE one")
    db.execute("COMMIT")


def test_settings_are_carried_over(db: Connection, dsn: str) -> None:
    db.execute("SET work_mem = '7MB'")
    db.execute("SET TIME ZONE 'Asia/Tokyo'")
    with psycopg.connect(dsn, autocommit=True) as other:
        for _ in range(10):
            assert rows(db, "SHOW work_mem") == [("7MB",)]
            assert other.execute("SHOW work_mem").fetchone() != ("7MB",)
            assert rows(db, "SELECT current_setting('TimeZone')") == [("Asia/Tokyo",)]
    db.execute("BEGIN")
    db.execute("SET work_mem = '9MB'")
    assert rows(db, "SHOW work_mem") == [("9MB",)]
    db.execute("ROLLBACK")
    assert rows(db, "SHOW work_mem") == [("7MB",)]
    db.execute("RESET ALL")
    assert rows(db, "SHOW work_mem") != [("7MB",)]


def test_what_needs_one_connection_is_pinned(db: Connection, dsn: str) -> None:
    db.execute("CREATE TEMP TABLE t (a int)")
    db.execute("INSERT INTO t VALUES (1), (2)")
    assert rows(db, "SELECT sum(a) FROM t") == [(3,)]
    with psycopg.connect(dsn, autocommit=True) as other:
        with pytest.raises(errors.UndefinedTable):
            other.execute("SELECT * FROM t")
        assert rows(db, "SELECT pg_try_advisory_lock(42)") == [(True,)]
        assert other.execute("SELECT pg_try_advisory_lock(42)").fetchone() == (False,)
        db.execute("LISTEN news")
        other.execute("NOTIFY news, 'hello'")
        for notice in db.notifies(timeout=10, stop_after=1):
            assert (notice.channel, notice.payload) == ("news", "hello")
        db.execute("DISCARD ALL")
        assert other.execute("SELECT pg_try_advisory_lock(42)").fetchone() == (True,)


def test_cancel(dsn: str) -> None:
    async def sleep_and_cancel(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("SELECT pg_sleep(30)", timeout=0.3)
        assert await connection.fetchval("SELECT 5") == 5
        await connection.close()

    asyncio.run(sleep_and_cancel(dsn))


def run_asyncpg(dsn: str, job: Callable[[Any], Awaitable[None]]) -> None:
    async def whole() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await job(connection)
        finally:
            await connection.close()

    asyncio.run(whole())


def test_asyncpg(db: Connection, dsn: str) -> None:
    async def job(connection: Any) -> None:
        await connection.executemany(
            "INSERT INTO people (last_name, id) VALUES ($1, $2)", list(zip(NAMES, range(6), strict=True))
        )
        assert await connection.fetchval("SELECT count(*) FROM people") == 6
        for number, name in enumerate(NAMES):
            row = await connection.fetchrow(
                "SELECT * FROM people WHERE last_name = $1 AND id = $2", name, number
            )
            assert row["id"] == number
        async with connection.transaction():
            got = [
                row["id"] async for row in connection.cursor("SELECT id FROM people ORDER BY id", prefetch=2)
            ]
        assert got == [0, 1, 2, 3, 4, 5]
        await connection.copy_records_to_table("people", records=[("Xavier", 9, 1, "US")])
        assert await connection.fetchval("SELECT country FROM people WHERE last_name = 'Xavier'") == "US"
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            assert await connection.fetchval("SELECT count(*) FROM people") == 7

    run_asyncpg(dsn, job)


def test_user_types_have_one_oid(db: Connection, dsn: str) -> None:
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    db.execute(
        "CREATE TABLE moods (last_name text PRIMARY KEY, mood mood, all_moods mood[]) PARTITION BY RANGE (last_name)"
    )

    async def job(connection: Any) -> None:
        for name in ("Adams", "Smith"):
            await connection.execute("INSERT INTO moods VALUES ($1, $2, $3)", name, "happy", ["sad", "happy"])
        for name in ("Adams", "Smith"):
            row = await connection.fetchrow("SELECT mood, all_moods FROM moods WHERE last_name = $1", name)
            assert tuple(row) == ("happy", ["sad", "happy"])

    run_asyncpg(dsn, job)
    db.execute("DROP TABLE moods")
    db.execute("DROP TYPE mood")


def test_sqlalchemy(db: Connection, dsn: str) -> None:
    fill(db)
    engine = sa.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) == {"countries", "people", "orders", "notes"}
    assert inspector.get_pk_constraint("people")["constrained_columns"] == ["last_name", "id"]
    assert inspector.get_foreign_keys("orders")[0]["referred_table"] == "people"
    people = sa.Table("people", sa.MetaData(), autoload_with=engine, resolve_fks=False)
    with engine.begin() as connection:
        connection.execute(
            people.insert(), [{"last_name": "Young", "id": 77}, {"last_name": "Allen", "id": 78}]
        )
        found = connection.execute(
            sa.select(people.c.id).where(people.c.id > 70).order_by(people.c.id)
        ).scalars()
        assert list(found) == [77, 78]
    engine.dispose()


def psql(dsn: str, *commands: str) -> str:
    words = [str(binaries.find().directory / "psql"), "-X", "-v", "ON_ERROR_STOP=1", dsn]
    for command in commands:
        words += ["-c", command]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


def test_psql(db: Connection, dsn: str) -> None:
    fill(db)
    shown = psql(dsn, r"\d people", r"\dt", r"\dn")
    assert '"people_pkey" PRIMARY KEY, btree (last_name, id)' in shown
    assert "shard_" not in shown
    assert "global" not in shown
    assert "orders" in shown
    assert "(6 rows)" in psql(dsn, "SELECT * FROM people")


def test_a_result_larger_than_memory_bounds_is_streamed(db: Connection) -> None:
    with db.cursor().copy("COPY people (last_name, id) FROM STDIN") as copy:
        for number in range(20_000):
            copy.write_row((NAMES[number % 6], number))
    assert len(rows(db, "SELECT p.*, repeat('x', 500) FROM people p")) == 20_000
    assert len(rows(db, "SELECT * FROM people WHERE balance = %s", 0)) == 20_000


def test_explain_says_where(db: Connection) -> None:
    shown = "\n".join(row[0] for row in rows(db, "EXPLAIN SELECT * FROM people WHERE last_name = 'Smith'"))
    assert "shard" in shown
    shown = "\n".join(row[0] for row in rows(db, "EXPLAIN ANALYZE SELECT count(*) FROM people"))
    assert "group 0" in shown
    assert "group 1" in shown


def test_search_path_reaches_definitions_and_statements(db: Connection) -> None:
    db.execute("CREATE SCHEMA sales")
    db.execute("SET search_path = sales, public")
    db.execute("CREATE TABLE deals (id bigint PRIMARY KEY, v int) PARTITION BY HASH (id)")
    db.execute("INSERT INTO deals VALUES (1, 1), (2, 2), (3, 3)")
    assert rows(db, "SELECT v FROM deals WHERE id = 2") == [(2,)]
    assert rows(db, "SELECT sum(v) FROM sales.deals") == [(6,)]
    db.execute("SET search_path = public")
    with pytest.raises(errors.UndefinedTable):
        db.execute("SELECT * FROM deals")
    db.execute("DROP SCHEMA sales CASCADE")
    with pytest.raises(errors.UndefinedTable):
        db.execute("SELECT * FROM sales.deals")
