"""The tables that decisions rest on and are written to: who may report, what is kept, what is cleaned."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgherd.balance.assemble import log_rows, picture
from pgherd.balance.decision import Merge, Move, Split
from pgherd.balance.facts import row_sample, seen
from pgherd.balance.load import LoadCounters, from_json, to_json
from pgherd.catalog.model import GroupId, Keyspace, KeyspaceId, Node, ShardId
from pgherd.catalog.store import parse_map
from pgherd.cli.why import lines, query
from pgherd.controller.balancing import Balancer
from pgherd.elastic.beginning import wish
from pgherd.reshard.model import Piece
from pgherd.testing.lender import PlainLender

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
    rows = json.dumps(log_rows([move] * 30, {KeyspaceId(1): "users"}))
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


WORKFLOWS = """
INSERT INTO pgherd.workflows (kind, keyspace, old, new, state, kept_until) VALUES
 ('move', 'users', '[{"id": 1, "group_id": 1}]', '[{"id": 1, "group_id": 0}]', 'kept', clock_timestamp() + interval '50 minutes'),
 ('split', 'users', '[{"id": 7, "group_id": 0}]', '[{"id": 2, "group_id": 0}, {"id": 8, "group_id": 1}]', 'done', NULL),
 ('move', 'users', '[{"id": 2, "group_id": 0}]', '[{"id": 2, "group_id": 1}]', 'running', NULL)
"""


def test_a_round_reads_what_it_needs(home: Connection) -> None:
    home.execute(
        "CREATE SCHEMA shard_1; CREATE TABLE shard_1.users (last_name text); CREATE SCHEMA shard_2_sales; CREATE TABLE shard_2_sales.t (i int);"
        "INSERT INTO shard_1.users SELECT 'Smith' FROM generate_series(1, 1000);"
        "INSERT INTO shard_1.users SELECT 'N' || n FROM generate_series(1, 1000) n; ANALYZE shard_1.users"
    )
    home.execute(WORKFLOWS)
    home.execute("INSERT INTO pgherd.group_settings VALUES (0, 2, true)")
    home.execute("SELECT pgherd.put_keyspace_setting('users', 'load_max', '2')")
    report(home, "gateway 1", 1, 2)
    sizes = home.execute("SELECT * FROM pgherd.shard_sizes()").fetchall()
    (document,) = home.execute("SELECT pgherd.balance_facts()").fetchone() or ({},)
    (map_text,) = home.execute("SELECT pgherd.map()::text").fetchone() or ("{}",)
    made = seen(document, parse_map(map_text), [(shard, size, rows) for shard, size, rows in sizes])
    shown = picture(made)
    one = next(shard for shard in shown.shards if shard.id == 1)
    two = next(shard for shard in shown.shards if shard.id == 2)
    assert one.bytes > 50_000 and one.rows == 2000 and one.seconds == pytest.approx(0.001)
    assert made.now_s - one.moved_s == pytest.approx(600, abs=60) and one.born_s == 0
    assert made.now_s - two.born_s < 60 and two.moved_s == 0
    (running,) = shown.running
    assert (running.kind, running.shards, running.groups) == ("move", {2}, {0, 1})
    assert shown.keyspaces[KeyspaceId(1)].settings.load_max == 2.0
    assert shown.groups[0].draining and shown.groups[0].weight == 2.0
    (pairs,) = home.execute("SELECT pgherd.shard_sample(1)").fetchone() or ([],)
    sample = row_sample(pairs, ("text",))
    weights = dict(zip(sample.keys, sample.weights, strict=True))
    assert weights[("Smith",)] == pytest.approx(0.5, abs=0.05) and sum(weights.values()) == pytest.approx(
        1.0, abs=0.01
    )
    again = seen({**document, "now": made.now_s + 10}, made.cluster, [(1, one.bytes + 1000, 1)], before=made)
    assert again.sizes[ShardId(1)].seen_s == again.sizes[ShardId(2)].seen_s == made.now_s
    silent = seen({**document, "now": made.now_s + 10}, made.cluster, [], made, frozenset({GroupId(0)}))
    assert silent.sizes[ShardId(1)].bytes == one.bytes and not silent.groups[GroupId(0)].reachable
    assert again.sizes[ShardId(1)].growth == pytest.approx(10.0) and again.groups == made.groups


def test_the_controller_records_what_was_decided(home: Connection) -> None:
    counters = LoadCounters()
    for number in range(20_000):
        counters.record(ShardId(1), (chr(65 + number % 13) + str(number),), 0.001)
    counters.pass_time(10.0)
    load = json.dumps([{"shard": 1, "load": to_json(counters.loads()[ShardId(1)], ("text",))}])
    home.execute("SELECT pgherd.report_load('gateway 1', %s)", (load,))
    lender = PlainLender({GroupId(0): _uri(home)})

    async def rounds() -> None:
        balancer = Balancer(lender)
        try:
            for _ in range(5):
                await balancer.round()
        finally:
            await lender.close()

    asyncio.run(rounds())
    (workflow,) = home.execute("SELECT id, kind, old, new FROM pgherd.workflows").fetchall()
    assert workflow[1] == "split" and [piece["id"] for piece in workflow[2]] == [1]
    left, right = workflow[3]
    assert left["range_start"] is None and left["range_end"] == right["range_start"]
    assert left["range_end"][0] in ("G", "H") and right["range_end"] == ["N"]
    logged = home.execute(
        "SELECT kind, code, shard, workflow FROM pgherd.decisions_log ORDER BY id"
    ).fetchall()
    assert logged == [("nothing", "sustain", 1, None), ("split", "too_hot", 1, workflow[0])]


def _uri(link: Connection) -> str:
    info = link.info
    return f"postgresql://postgres@{info.host}:{info.port}/{info.dbname}"


@pytest.mark.parametrize(
    ("action", "after"),
    [
        (Move(keyspace=KeyspaceId(1), shard=ShardId(1), group=GroupId(0), to_group=GroupId(2), bytes=1, code="drain", reason=""),
         [(1, 2, None, ("N",))]),
        (Merge(keyspace=KeyspaceId(1), shard=ShardId(1), right=ShardId(2), group=GroupId(0), code="small_and_cold", reason=""),
         [(0, 0, None, None)]),
        (Split(keyspace=KeyspaceId(1), shard=ShardId(1), group=GroupId(0), to_group=GroupId(2), at=("G",), right_share=0.5, code="too_hot", reason=""),
         [(1, 0, None, ("G",)), (1, 2, ("G",), ("N",))]),
    ],
)  # fmt: skip
def test_the_shards_after_an_action(action: Move | Merge | Split, after: list[tuple[Any, ...]]) -> None:
    users = Keyspace(id=KeyspaceId(1), name="users", strategy="range", key_types=("text",), shards=())
    one = Piece(id=ShardId(1), keyspace="users", strategy="range", group=GroupId(0), range_end=("N",))
    two = Piece(id=ShardId(2), keyspace="users", strategy="range", group=GroupId(0), range_start=("N",))
    pieces, number = wish(action, (one, two), users)
    assert [(piece.id, piece.group, piece.range_start, piece.range_end) for piece in pieces] == after
    assert number == (action.kind != "move")


def test_the_halves_of_a_modulus_after_an_action() -> None:
    ids = Keyspace(id=KeyspaceId(1), name="ids", strategy="hash", key_types=("bigint",), shards=())
    one = Piece(id=ShardId(1), keyspace="ids", strategy="hash", group=GroupId(0), modulus=4, remainder=1)
    split = Split(keyspace=KeyspaceId(1), shard=ShardId(1), group=GroupId(0), to_group=GroupId(2), at=None, right_share=0.5, code="too_hot", reason="")  # fmt: skip
    halves, _ = wish(split, (one,), ids)
    assert [(piece.modulus, piece.remainder, piece.group) for piece in halves] == [(8, 1, 0), (8, 5, 2)]
    merge = Merge(keyspace=KeyspaceId(1), shard=ShardId(1), right=ShardId(2), group=GroupId(0), code="small_and_cold", reason="")  # fmt: skip
    (merged,), _ = wish(merge, (one, replace(one, id=ShardId(2), remainder=3)), ids)
    assert (merged.modulus, merged.remainder) == (2, 1)
