"""Which statements may be answered by a replica: those that certainly only read."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from pgherd.deploy.server import Server
from pgherd.plan.planner import plan
from pgherd.sql import functions
from pgherd.sql.parse import parse

sys.path.insert(0, str(Path(__file__).parent.parent / "plans"))

from plan_map import MAP


def _replica(sql: str) -> bool:
    return plan(parse(sql)[0], MAP).replica


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM users WHERE last_name = $1",
        "SELECT count(*), max(last_name) FROM users",
        "SELECT u.last_name FROM users u JOIN users o ON o.first_name = u.last_name",
        "SELECT * FROM countries",
        "WITH a AS (SELECT last_name FROM users WHERE last_name = 'A') SELECT upper(last_name), now() FROM a",
        "VALUES (1), (2)",
        "SELECT 1",
    ],
)
def test_plain_reads_may_go_to_replicas(sql: str) -> None:
    assert _replica(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM users WHERE last_name = $1 FOR UPDATE",
        "SELECT * FROM users WHERE last_name = $1 FOR KEY SHARE",
        "SELECT nextval('s') FROM users WHERE last_name = $1",
        "SELECT currval('s')",
        "SELECT * FROM users WHERE last_name = $1 AND random() < 0.5",
        "SELECT my_function(last_name) FROM users WHERE last_name = $1",
        "SELECT other.lower(last_name) FROM users WHERE last_name = $1",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_current_xact_id()",
        "SELECT pg_notify('a', 'b')",
        "SELECT * FROM pg_stat_activity",
        "SELECT * FROM something_unknown",
        "INSERT INTO users (last_name) VALUES ('A')",
        "WITH a AS (DELETE FROM users WHERE last_name = 'A' RETURNING *) SELECT * FROM a",
        "UPDATE users SET first_name = 'x' WHERE last_name = 'A'",
    ],
)
def test_what_may_do_more_than_read_stays_on_the_primary(sql: str) -> None:
    assert not _replica(sql)


def test_no_function_that_replicas_run_is_volatile(server: Server) -> None:
    with psycopg.connect(server.uri()) as link:
        rows = link.execute(
            "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND pronamespace = 'pg_catalog'::regnamespace"
        ).fetchall()
    assert functions.STEADY.isdisjoint(name for (name,) in rows)
    assert len(rows) > 100
