"""The tables that decisions rest on and are written to: who may report, what is kept, what is cleaned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgherd.balance.assemble import log_rows
from pgherd.balance.decision import Move
from pgherd.balance.load import LoadCounters, from_json, to_json
from pgherd.catalog.model import GroupId, KeyspaceId, Node, ShardId
from pgherd.cli.why import lines, query

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def home(fresh_groups: Callable[[int], list[Node]]) -> Iterator[Connection]:
    """Group 0 of a new cluster that knows a keyspace with two shards, a table of it, and two roles, one of which may use it."""
    node = fresh_groups(1)[0]
    uri = f"postgresql://postgres@{node.host}:{node.port}/{node.database}"
    with psycopg.connect(uri, autocommit=True) as link:
        link.execute(
            "CREATE TABLE public.users (last_name text) PARTITION BY RANGE (last_name);"
            "INSERT INTO pgherd.keyspaces VALUES (1, 'users', 'range', '{text}');"
            "INSERT INTO pgherd.shards VALUES (1, 'users', 'range', NULL, '{N}', NULL, NULL, 0), (2, 'users', 'range', '{N}', NULL, NULL, NULL, 0);"
            "INSERT INTO pgherd.tables (schema, name, kind, keyspace, key) VALUES ('public', 'users', 'distributed', 'users', '{last_name}');"
            "CREATE ROLE balance_user; CREATE ROLE balance_stranger; GRANT SELECT ON public.users TO balance_user"
        )
        yield link
        link.execute("DROP OWNED BY balance_user, balance_stranger; DROP ROLE balance_user, balance_stranger")


def report(link: Connection, source: str, *shards: int) -> int:
    counters = LoadCounters()
    for shard in shards:
        counters.record(ShardId(shard), ("Smith",), 0.01)
    counters.pass_time(10.0)
    rows = [{"shard": s, "load": to_json(load, ("text",))} for s, load in counters.loads().items()]
    found = link.execute("SELECT pgherd.report_load(%s, %s)", (source, json.dumps(rows))).fetchone()
    assert found is not None
    return int(found[0])


def reported(link: Connection) -> set[tuple[Any, ...]]:
    return set(link.execute("SELECT shard, source FROM pgherd.shard_load").fetchall())


def test_each_source_says_what_it_uses_now(home: Connection) -> None:
    assert report(home, "gateway 1", 1, 2) == 2
    assert report(home, "gateway 2", 2, 99) == 1  # there is no shard 99
    assert report(home, "gateway 1", 1) == 1
    assert reported(home) == {(1, "postgres gateway 1"), (2, "postgres gateway 2")}
    (document,) = home.execute("SELECT load FROM pgherd.shard_load WHERE shard = 1").fetchone() or ({},)
    assert from_json(document, ("text",)).seconds_per_s == pytest.approx(0.001)


def test_only_who_uses_a_table_may_say_how_much(home: Connection) -> None:
    for role, written in (("balance_user", 1), ("balance_stranger", 0)):
        home.execute(f"SET SESSION AUTHORIZATION {role}")
        assert report(home, "gateway 1", 1) == written
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            home.execute("SELECT load FROM pgherd.shard_load")  # samples are keys of others
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            home.execute("SELECT pgherd.log_decisions('[]')")
        home.execute("RESET SESSION AUTHORIZATION")
    assert reported(home) == {(1, "balance_user gateway 1")}


def test_decisions_are_logged_told_and_bounded(home: Connection) -> None:
    move = Move(
        keyspace=KeyspaceId(1), shard=ShardId(1), group=GroupId(0), to_group=GroupId(1), bytes=5, code="overloaded",
        reason="group 0 carries 2.00 times its part of the load", figures={"source_before": 2.0},
    )  # fmt: skip
    rows = json.dumps(log_rows([move] * 30, {1: "users"}))
    ids = [row[0] for row in home.execute("SELECT pgherd.log_decisions(%s)", (rows,))]
    assert len(set(ids)) == 30 and ids == sorted(ids)
    found = [row[0] for row in home.execute(query(1, 2))]  # type: ignore[arg-type]
    told = lines(1, found)
    assert (
        len(told) == 4 and told[0].endswith("shard 1 moved (overloaded)") and told[1].strip() == move.reason
    )
    assert home.execute(query(2, 5)).fetchall() == []  # type: ignore[arg-type]
    home.execute("UPDATE pgherd.decisions_log SET at = at - interval '40 days' WHERE id = %s", (ids[-1],))
    home.execute("SELECT pgherd.clean_decisions(p_rows => 10)")
    left = [row[0] for row in home.execute("SELECT id FROM pgherd.decisions_log ORDER BY id")]
    assert ids[-1] not in left and set(left) <= set(ids[-11:]) and len(left) >= 9


def test_settings_of_keyspaces(home: Connection) -> None:
    home.execute("SELECT pgherd.put_keyspace_setting('users', 'autosplit', 'off')")
    home.execute(
        "SELECT pgherd.put_keyspace_setting('users', 'autosplit', 'on'), pgherd.put_keyspace_setting('users', 'window', '02:00-05:00')"
    )
    home.execute("SELECT pgherd.put_keyspace_setting('users', 'window', NULL)")
    assert home.execute("SELECT keyspace, name, value FROM pgherd.keyspace_settings").fetchall() == [
        ("users", "autosplit", "on")
    ]
    home.execute("SET SESSION AUTHORIZATION balance_user")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        home.execute("SELECT pgherd.put_keyspace_setting('users', 'autosplit', 'off')")
    home.execute("RESET SESSION AUTHORIZATION")
