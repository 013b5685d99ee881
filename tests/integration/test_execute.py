"""Every kind of plan, carried out on real groups, against the same statements in one plain PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.integration.client_world import World, make, run

import pgherd
from pgherd.client import Database, statements
from pgherd.errors import NoShard, NullKey, Refused
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    return make(yard)


def kind_of(db: Database, sql: str) -> str:
    return type(statements.one(db.plans, sql, ("public",))).__name__


READS = [
    ("Single", "SELECT * FROM users WHERE id = $1", (5,)),
    ("Single", "SELECT u.name, o.no FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1 ORDER BY o.no", (7,)),
    ("Single", "SELECT * FROM people WHERE last_name = $1 AND id = 2", ("Moore",)),
    ("OneGroup", "SELECT * FROM notes ORDER BY id", ()),
    ("OneGroup", "SELECT name FROM countries WHERE code = $1", ("fr",)),
    ("OneGroup", "SELECT 1 + $1::int AS two", (1,)),
    ("Gather", "SELECT id, name FROM users", ()),
    ("Gather", "SELECT count(*), sum(credit), avg(credit), min(name), max(born) FROM users WHERE credit > $1", (20,)),
    ("Gather", "SELECT country, count(*), array_agg(id ORDER BY id) FROM users GROUP BY country ORDER BY country", ()),
    ("Gather", "SELECT DISTINCT country FROM users ORDER BY 1", ()),
    ("Gather", "SELECT id, name FROM users ORDER BY credit DESC, id LIMIT $1", (6,)),
    ("Gather", "SELECT last_name, count(*) FROM people GROUP BY 1 HAVING count(*) > 1 ORDER BY 1", ()),
    ("Gather", "SELECT c.name, count(*) FROM users u JOIN countries c ON c.code = u.country GROUP BY 1 ORDER BY 1", ()),
    ("Federated", "SELECT a.id, b.id FROM users a JOIN users b ON b.credit = a.credit AND a.id < b.id ORDER BY 1, 2", ()),
    ("Federated", "SELECT n.body, u.name FROM notes n JOIN users u ON u.id = n.id ORDER BY 1", ()),
    ("Federated", "SELECT id, rank() OVER (ORDER BY credit, id) FROM users ORDER BY 1", ()),
    ("Federated", "SELECT last_name FROM people UNION SELECT name FROM users ORDER BY 1", ()),
    ("Federated", "SELECT name FROM users WHERE credit > (SELECT avg(credit) FROM users) ORDER BY id", ()),
]  # fmt: skip


def test_reads_answer_what_one_postgres_answers(world: World) -> None:
    async def main() -> None:
        plain = await asyncpg.connect(world.plain)
        kinds: dict[str, set[str]] = {}
        async with pgherd.connect(world.dsn) as db:
            for wanted, sql, args in READS:
                kinds.setdefault(wanted, set()).add(kind_of(db, sql))
                ours = [tuple(row) for row in await db.fetch(sql, *args)]
                theirs = [tuple(row) for row in await plain.fetch(sql, *args)]
                assert theirs, sql
                if "ORDER BY" not in sql:
                    ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
                assert ours == theirs, sql
        await plain.close()
        for wanted, found in kinds.items():
            assert wanted in found, f"no statement was planned as {wanted}: {found}"

    run(main())


WRITES = [
    ("Single", "INSERT INTO users (id, name, credit) VALUES ($1, 'one', 5) RETURNING id, credit", (100,)),
    ("Single", "UPDATE users SET credit = credit + $2 WHERE id = $1 RETURNING credit", (100, 3)),
    ("InsertRows", "INSERT INTO users (id, name) VALUES (101, 'a'), ($1, $2), (103, upper('c')), (104, $2) RETURNING id, name", (102, "b")),
    ("InsertRows", "INSERT INTO users (id, name) VALUES (101, 'again'), (105, 'new') ON CONFLICT (id) DO UPDATE SET name = excluded.name", ()),
    ("InsertRows", "INSERT INTO users (id, name) VALUES (100 + $1::int, 'computed'), (abs(-120), 'abs')", (10,)),
    ("InsertSelect", "INSERT INTO users (id, name) SELECT id + $1, name FROM users RETURNING id", (2000,)),
    ("Scatter", "INSERT INTO orders (user_id, no, amount) SELECT id, 50, credit FROM users WHERE credit > $1 RETURNING user_id", (30,)),
    ("InsertSelect", "INSERT INTO people (last_name, id, age) SELECT name, id, 1 FROM users WHERE id < 10", ()),
    ("Scatter", "UPDATE users SET credit = credit + 1 WHERE credit < $1 RETURNING id", (20,)),
    ("Scatter", "DELETE FROM orders WHERE amount > $1", (Decimal(60),)),
    ("Scatter", "UPDATE orders SET amount = amount * 2 FROM users u WHERE u.id = user_id AND u.country = 'de'", ()),
    ("MoveRows", "UPDATE people SET last_name = 'Z' || last_name WHERE last_name < $1 RETURNING last_name, id", ("C",)),
    ("MoveRows", "UPDATE orders SET user_id = user_id + 1, no = no + 100 WHERE user_id BETWEEN 5 AND 9", ()),
    ("ReferenceWrite", "INSERT INTO countries VALUES ('es', 'Spain'), ($1, 'Poland') RETURNING name", ("pl",)),
    ("ReferenceWrite", "UPDATE countries SET name = upper(name) WHERE code <> $1", ("de",)),
    ("ReferenceWrite", "DELETE FROM countries WHERE code = 'es'", ()),
    ("OneGroup", "INSERT INTO notes SELECT g, 'note ' || g FROM generate_series(100, 110) g", ()),
    ("OneGroup", "DELETE FROM notes WHERE id > $1 RETURNING id", (105,)),
]  # fmt: skip
WHOLE = (
    "SELECT * FROM users ORDER BY id", "SELECT * FROM orders ORDER BY 1, 2", "SELECT * FROM people ORDER BY 1, 2",
    "SELECT * FROM countries ORDER BY 1", "SELECT * FROM notes ORDER BY 1",
)  # fmt: skip


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_writes_do_what_one_postgres_does(world: World, inside: bool) -> None:
    async def main() -> None:
        plain = await asyncpg.connect(world.plain)
        async with pgherd.connect(world.dsn) as db:
            for wanted, sql, _ in WRITES:
                assert kind_of(db, sql) == wanted, sql
            theirs = plain.transaction()
            await theirs.start()
            ours = db.transaction()
            if inside:
                await ours.start()
            for _, sql, args in WRITES:
                if "RETURNING" in sql:
                    expected = sorted(map(tuple, await plain.fetch(sql, *args)))
                    assert sorted(map(tuple, await db.fetch(sql, *args))) == expected, sql
                else:
                    assert await db.execute(sql, *args) == await plain.execute(sql, *args), sql
            if inside:
                await ours.commit()
            for sql in WHOLE:
                assert list(map(tuple, await db.fetch(sql))) == list(map(tuple, await plain.fetch(sql))), sql
            await theirs.rollback()
            await restore(db, plain)

    run(main())


async def restore(db: Database, plain: Any) -> None:
    """The twin's rows again."""
    for table in ("orders", "users", "people", "notes"):
        await db.execute(f"DELETE FROM {table}")
    for table in ("users", "orders", "people", "notes"):
        rows = await plain.fetch(f"SELECT * FROM {table}")
        await db.copy_records_to_table(table, records=[tuple(row) for row in rows])
    await db.execute("DELETE FROM countries")
    await db.executemany(
        "INSERT INTO countries VALUES ($1, $2)", await plain.fetch("SELECT * FROM countries")
    )
    await plain.close()


def test_every_group_has_the_same_reference_rows(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            await db.execute(
                "CREATE TABLE stamps (id int PRIMARY KEY, made timestamptz DEFAULT clock_timestamp(), n float8)"
            )
            await db.execute("CALL pgherd.reference('stamps')")
            await db.execute("INSERT INTO stamps (id, n) VALUES (1, random()), ($1, random())", 2)
            await db.execute("UPDATE stamps SET n = random() WHERE id = 1")
            seen: set[tuple[Any, ...]] = set()
            for dsn in world.dsns:
                node = await asyncpg.connect(dsn)
                seen.add(tuple(tuple(row) for row in await node.fetch("SELECT * FROM stamps ORDER BY id")))
                await node.close()
            assert len(seen) == 1
            assert len(next(iter(seen))) == 2
            await db.execute("DROP TABLE stamps")

    run(main())


KEYS: list[tuple[str, list[Any]]] = [
    ("smallint", [-3, 0, 7, 32767]),
    ("integer", [-70000, 0, 12, 2**31 - 1]),
    ("bigint", [-(2**40), 0, 5, 2**62]),
    ("text", ["", "a", "Ärger", "z'\"\\", "日本"]),
    ("varchar(20)", ["x", "y y", "ZZ"]),
    ("uuid", [UUID(int=0), UUID(int=2**127 + 5), UUID("12345678-1234-5678-1234-567812345678")]),
    ("date", [date(2, 1, 1), date(1999, 12, 31), date(2024, 2, 29)]),
    ("timestamp", [datetime(1950, 1, 1, 3, 4, 5), datetime(2024, 5, 6, 7, 8, 9, 123456)]),
    (
        "timestamptz",
        [datetime(1950, 1, 1, 3, 4, 5, tzinfo=UTC), datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)],
    ),
    ("numeric", [Decimal("-1.50"), Decimal("0"), Decimal("1e20"), Decimal("3.14159"), Decimal("NaN")]),
]


@pytest.mark.parametrize(("key_type", "values"), KEYS, ids=[name for name, _ in KEYS])
@pytest.mark.parametrize("strategy", ["HASH", "RANGE"])
def test_keys_of_every_type(world: World, strategy: str, key_type: str, values: list[Any]) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            await db.execute("DROP TABLE IF EXISTS k")
            await db.execute(f"CREATE TABLE k (k {key_type} PRIMARY KEY, n int) PARTITION BY {strategy} (k)")
            if strategy == "RANGE":
                await db.execute("CALL pgherd.split('k', $1)".replace("$1", f"'{values[1]}'"))
            for number, value in enumerate(values):
                assert await db.execute("INSERT INTO k VALUES ($1, $2)", value, number) == "INSERT 0 1"
            for number, value in enumerate(values):
                assert await db.fetchval("SELECT n FROM k WHERE k = $1", value) == number
                literal = str(value).replace("'", "''")
                assert await db.fetchval(f"SELECT n FROM k WHERE k = '{literal}'") == number
            assert await db.fetchval("SELECT count(*) FROM k") == len(values)
            rows = await db.fetch("SELECT * FROM k")
            await db.execute("TRUNCATE k")
            await db.copy_records_to_table("k", records=[tuple(row) for row in rows])
            assert sorted(row["n"] for row in await db.fetch("SELECT n FROM k")) == list(range(len(values)))
            with pytest.raises(NullKey):
                await db.execute("INSERT INTO k VALUES ($1, 1)", None)
            await db.execute("DROP TABLE k")

    run(main())


def test_generated_keys(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            await db.execute(
                "CREATE TABLE g (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text) PARTITION BY HASH (id)"
            )
            rows = await db.fetch(
                "INSERT INTO g (v) VALUES ('a'), ($1), ('c'), ('d'), ('e') RETURNING id, v", "b"
            )
            assert sorted(row["v"] for row in rows) == ["a", "b", "c", "d", "e"]
            one = await db.fetchval("INSERT INTO g (v) VALUES ($1) RETURNING id", "one")
            assert await db.fetchval("SELECT v FROM g WHERE id = $1", one) == "one"
            await db.execute("INSERT INTO g (v) SELECT 'n' || n FROM generate_series(1, 20) n")
            await db.executemany("INSERT INTO g (v) VALUES ($1)", [(f"m{n}",) for n in range(10)])
            prepared = await db.prepare("SELECT v FROM g WHERE id = $1")
            assert await prepared.fetchval(one) == "one" and "Single" in prepared.get_route()
            await db.copy_records_to_table("g", records=[(f"c{n}",) for n in range(10)], columns=["v"])
            assert await db.fetchval("SELECT count(DISTINCT id) FROM g") == 46
            await db.execute("DROP TABLE g")

    run(main())


def test_a_key_outside_all_ranges(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            assert await db.fetch("SELECT * FROM people WHERE last_name = NULL") == []
            assert await db.fetch("SELECT * FROM people WHERE last_name = $1", None) == []
            with pytest.raises(NullKey):
                await db.execute("INSERT INTO people VALUES (NULL, 1, 1), ('A', 77, 1)")
            assert issubclass(NoShard, Exception)
            assert await db.fetchval("SELECT count(*) FROM people WHERE id = 77") == 0

    run(main())


def test_what_a_transaction_wrote_is_seen_or_refused(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            before = await db.fetchval("SELECT sum(credit) FROM users")
            transaction = db.transaction()
            await transaction.start()
            await db.execute("UPDATE users SET credit = credit + 1")
            assert await db.fetchval("SELECT sum(credit) FROM users") == before + await db.fetchval(
                "SELECT count(*) FROM users"
            )
            with pytest.raises(Refused) as refused:
                await db.fetch("SELECT a.id FROM users a JOIN users b ON a.credit = b.credit")
            assert refused.value.hint
            await transaction.rollback()
            assert await db.fetchval("SELECT sum(credit) FROM users") == before

    run(main())
