"""Random SELECTs through a gateway over two groups, compared with one PostgreSQL that holds the same rows."""

from __future__ import annotations

from collections import Counter
from random import Random

import psycopg
import pytest

from pgherd.deploy.local import LocalCluster
from pgherd.deploy.server import Server
from pgherd.testing import coverage
from pgherd.testing.random_sql import RandomSelect
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(90)

SEED = 7
STATEMENTS = 250
_NAMES = ("Adams", "Baker", "Nash", "Nolan", "Smith", "Young", "Zed")
_TABLES = (
    "CREATE TABLE people (last_name text, id bigint, age int, PRIMARY KEY (last_name, id)) {range}",
    "CREATE TABLE bills (last_name text, id bigint, total numeric, PRIMARY KEY (last_name, id)) {range}",
    "CREATE TABLE places (code text PRIMARY KEY, name text)",
)

Connection = psycopg.Connection[tuple[object, ...]]


def _fill(db: Connection, *, sharded: bool) -> None:
    for ddl in _TABLES:
        db.execute(ddl.format(range="PARTITION BY RANGE (last_name)" if sharded else ""))  # pyright: ignore
    if sharded:
        db.execute("CALL pgherd.reference('places')")
        db.execute("CALL pgherd.split('people', 'N')")
        shard = db.execute(
            "SELECT id FROM pgherd.shards WHERE keyspace = 'people' AND range_start IS NOT NULL"
        ).fetchone()
        assert shard is not None
        db.execute(f"CALL pgherd.move({shard[0]}, 1)")  # pyright: ignore
    random = Random(1)
    people = [(random.choice(_NAMES), number, random.choice([None, 20, 30, 40])) for number in range(12)]
    bills = [
        (name, number, random.choice([1, 2, 3.5]))
        for number, (name, _, _) in enumerate(people * 2)
        if number % 3
    ]
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO people VALUES (%s, %s, %s)", people)
        cursor.executemany("INSERT INTO bills VALUES (%s, %s, %s)", bills)
        cursor.executemany(
            "INSERT INTO places VALUES (%s, %s)", [("de", "Smith"), ("fr", "Paris"), ("es", "Adams")]
        )


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    """Two groups behind a gateway process."""
    return yard.cluster("random_sql", embedded=True, groups=2)


def test_random_selects_answer_as_one_postgres_does(herd: LocalCluster, server: Server) -> None:
    with psycopg.connect(server.uri(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS random_sql WITH (FORCE)")
        admin.execute("CREATE DATABASE random_sql")
    routes: Counter[str] = Counter()
    with (
        psycopg.connect(server.uri(), dbname="random_sql", autocommit=True) as twin,
        psycopg.connect(herd.dsn(herd.existing()), autocommit=True) as db,
    ):
        _fill(twin, sharded=False)
        _fill(db, sharded=True)
        twin.execute("SET statement_timeout = 1000")
        maker = RandomSelect(Random(SEED))
        for _ in range(STATEMENTS):
            sql = maker.text()
            try:
                expected = twin.execute(sql).fetchall()  # pyright: ignore
            except psycopg.errors.QueryCanceled:
                continue  # too large a join even for one server
            found = db.execute(sql).fetchall()  # pyright: ignore
            assert sorted(map(str, found)) == sorted(map(str, expected)), (SEED, sql)
            shown = db.execute(f"EXPLAIN {sql}").fetchone()  # pyright: ignore
            routes[str(shown and shown[0]).split(":")[1].strip()] += 1
    coverage.covered("random SELECTs compared with one PostgreSQL", routes)
    assert {"Single", "Gather", "Federated"} <= set(routes), routes
