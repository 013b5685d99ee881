"""Every documented call of a procedure, through the simple and the extended protocol, by gateway and client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from client_world import run
from psycopg import sql

import pgherd
from pgherd.catalog import admin
from pgherd.deploy.local import LocalCluster
from pgherd.errors import PgherdError
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(180)

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("resharding.md", "balancing.md", "sql.md")
_CALL = re.compile(r"CALL (pgherd\.\w+\([^()]*\))")
_PLACEHOLDER = re.compile(r"[(,] ?(?!true\b|false\b)[a-z_]+ ?[,)]")  # move(shard, group)
# Each procedure with every setting that it takes by name, in a form that changes nothing or can be taken back.
WHOLE = {
    "split": "'people', 'N', max_pause => '100 ms', keep_for => '10 min', verify => true, dry_run => true, offline => false, wait => false",
    "move": "{shard}, 1, max_pause => '100 ms', keep_for => '10 min', verify => true, dry_run => true, offline => false, wait => false",
    "merge": "{left}, {right}, max_pause => '100 ms', keep_for => '10 min', verify => true, dry_run => true, wait => false",
    "distribute": "'alone', by => 'hash', key => 'id', shards => 2, max_pause => '100 ms', keep_for => '10 min', verify => true, dry_run => true, offline => false, wait => false",
    "undistribute": "'people', max_pause => '100 ms', keep_for => '10 min', verify => true, dry_run => true, offline => false, wait => false",
    "reference": "\"table\" => 'listed'",
    "rebalance": "dry_run => true",
    "drain": "1, stop => true, wait => false",
    "set_keyspace": "'people', setting => 'autosplit', value => 'off'",
    "set_balancing": "setting => 'round', value => '1min'",
    **dict.fromkeys(("pause", "resume", "cancel", "undo", "confirm"), "workflow => 999"),
}


def documented() -> list[str]:
    """The calls that the pages show, as they stand there."""
    found = {one for page in PAGES for one in _CALL.findall((DOCS / page).read_text("utf-8"))}
    return sorted(one for one in found if "…" not in one and not _PLACEHOLDER.search(one))


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    return yard.cluster("procedures", embedded=True, groups=2)


@pytest.fixture(scope="module")
def dsn(herd: LocalCluster) -> str:
    uri = herd.dsn(herd.existing())
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute(
            "CREATE TABLE people (name text, id int, PRIMARY KEY (name, id)) PARTITION BY RANGE (name)"
        )
        db.execute("CREATE TABLE pairs (id text PRIMARY KEY) PARTITION BY RANGE (id)")
        db.execute("CALL pgherd.split('pairs', 'M')")
        db.execute("CREATE TABLE alone (id int PRIMARY KEY)")
    return uri


@pytest.fixture
def places(dsn: str) -> Iterator[dict[str, Any]]:
    """What the table of calls leaves open; and a single table for each turn."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("CREATE TABLE listed (id int PRIMARY KEY)")
        query = "SELECT id FROM pgherd.shards WHERE keyspace = %s ORDER BY range_start NULLS FIRST"
        left, right = (row[0] for row in db.execute(query, ("pairs",)))
        (shard,) = (row[0] for row in db.execute(query, ("people",)))
        yield {"left": left, "right": right, "shard": shard}
        db.execute("DROP TABLE listed")


def test_the_table_of_calls_has_every_procedure_and_setting() -> None:
    assert set(WHOLE) == set(admin.PROCEDURES)
    for name, procedure in admin.PROCEDURES.items():
        said = set(re.findall(r'"?(\w+)"? =>', WHOLE[name]))
        hidden = {"offline"} if name == "merge" else {"if_exists"}  # a merge cannot be done at once
        assert said >= set(procedure.more) - hidden, name


def test_servers_declare_what_gateways_and_clients_carry_out(herd: LocalCluster, dsn: str) -> None:
    with psycopg.connect(uris(herd)[0], autocommit=True) as server:
        rows = server.execute(
            "SELECT proname, proargnames, proargtypes::regtype[]::text[] FROM pg_proc"
            " WHERE pronamespace = 'pgherd'::regnamespace AND prokind = 'p' AND provariadic = 0"
        ).fetchall()
        declared = {name: dict(zip(names, types, strict=True)) for name, names, types in rows}
        for name, procedure in admin.PROCEDURES.items():
            wanted = {*procedure.parameters, *procedure.more} - {"if_exists"}
            assert declared[name] == {one: admin.type_of(one) for one in wanted}, name
        for call in documented():
            with pytest.raises(
                psycopg.errors.ObjectNotInPrerequisiteState, match="cannot run inside one server"
            ):
                server.execute(f"CALL {call}".encode())
        assert len(documented()) > 20


@pytest.mark.parametrize("call", documented())
def test_a_documented_call_can_be_prepared(dsn: str, call: str) -> None:
    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        try:
            statement = await gate.prepare(f"CALL {call}")
            assert statement.get_parameters() == () and statement.get_attributes() == ()
        finally:
            await gate.close()

    run(job())


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_settings_by_name_go_through_either_protocol_and_the_client(
    dsn: str, places: dict[str, Any], name: str
) -> None:
    text = f"CALL pgherd.{name}({WHOLE[name].format(**places)})"
    unknown = name in ("pause", "resume", "cancel", "undo", "confirm")

    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        db = await pgherd.connect(dsn)

        async def extended() -> None:
            await gate.fetch(text)

        async def simple() -> None:
            await gate.execute(text)

        async def client() -> None:
            await db.execute(text)

        async def client_with_rows() -> None:
            await db.fetch(text)

        try:
            for number, way in enumerate((simple, extended, client, client_with_rows)):
                if name == "reference" and number:
                    await gate.execute("DROP TABLE listed; CREATE TABLE listed (id int PRIMARY KEY)")
                if unknown:
                    with pytest.raises((asyncpg.PostgresError, PgherdError), match="no workflow 999"):
                        await way()
                else:
                    await way()
        finally:
            await gate.close()
            await db.close()

    run(job())


def test_arguments_may_be_parameters_of_their_own_types(dsn: str, places: dict[str, Any]) -> None:
    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        db = await pgherd.connect(dsn)
        move = "CALL pgherd.move($1, $2, dry_run => $3, max_pause => $4)"
        try:
            statement = await gate.prepare(move)
            assert [one.name for one in statement.get_parameters()] == ["int4", "int4", "bool", "text"]
            told: list[str] = []
            gate.add_log_listener(lambda _, message: told.append(message.message))
            await gate.execute(move, places["shard"], 1, True, "70 ms")
            assert any("at most 70 ms" in text for text in told)
            await db.execute(move, places["shard"], 1, True, "70 ms")
        finally:
            await gate.close()
            await db.close()

    run(job())
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("CALL pgherd.move(%s, %s, dry_run => %s)", (places["shard"], 1, True))
        db.execute(sql.SQL("CALL pgherd.set_keyspace(%s, %s, %s)"), ("people", "autosplit", None))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("SELECT pgherd.session_token()", "session_token"),
        ("SELECT pgherd.session_token() AS x", "x"),
        ('SELECT pgherd.session_token() "A b"', "A b"),
        ("SELECT * FROM pgherd.session_token()", "session_token"),
        ("SELECT * FROM pgherd.session_token() AS t", "t"),
        ("SELECT * FROM pgherd.session_token() AS t (y)", "y"),
        ("SELECT y AS z FROM pgherd.session_token() AS t (y)", "z"),
        ("SELECT t.y FROM pgherd.session_token() AS t (y)", "y"),
        ("SELECT pgherd.transaction_id() AS x", "x"),
        ("SELECT s FROM pgherd.transaction_status('{id}') AS s", "s"),
    ],
)
def test_answers_of_functions_have_the_name_that_was_asked_for(dsn: str, query: str, name: str) -> None:
    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        try:
            async with pgherd.connect(dsn) as db:
                for face in (gate, db):
                    assert list((await face.fetchrow(text)).keys()) == [name]
        finally:
            await gate.close()

    with psycopg.connect(dsn, autocommit=True) as simple:
        (known,) = simple.execute("SELECT pgherd.transaction_id()").fetchone() or ("",)
        text = query.replace("{id}", known)
        cursor = psycopg.ClientCursor(simple)
        cursor.execute(text.encode())
        assert cursor.description is not None and cursor.description[0].name == name
    run(job())


def settings(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn, autocommit=True) as db:
        rows = db.execute(
            "SELECT name, value FROM pgherd.keyspace_settings WHERE keyspace = 'people'"
        ).fetchall()
    return dict(rows)


def test_settings_of_a_keyspace_are_altered_with_its_table(dsn: str) -> None:
    several = "ALTER TABLE public.people SET (pgherd.autosplit = off, pgherd.size_max = '2GB', pgherd.load_max = 0.5, pgherd.shards_min = 4)"
    wanted = {"autosplit": "off", "size_max": "2GB", "load_max": "0.5", "shards_min": "4"}

    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        db = await pgherd.connect(dsn)
        try:
            for face in (gate, db):
                assert await face.execute(several) == "ALTER TABLE"
                assert settings(dsn) == wanted
                assert await face.fetch("ALTER TABLE people RESET (pgherd.size_max, pgherd.load_max)") == []
                assert settings(dsn) == {"autosplit": "off", "shards_min": "4"}
                with pytest.raises(_ROLLED_BACK):
                    async with face.transaction():
                        await face.execute("ALTER TABLE people SET (pgherd.autosplit)")
                        raise _ROLLED_BACK
                assert settings(dsn)["autosplit"] == "off"
                await face.execute("ALTER TABLE IF EXISTS nowhere SET (pgherd.autosplit = on)")
                for text, code in _WRONG:
                    with pytest.raises((asyncpg.PostgresError, PgherdError)) as caught:
                        await face.execute(text)
                    assert caught.value.sqlstate == code, text
                await face.execute("ALTER TABLE people RESET (pgherd.autosplit, pgherd.shards_min)")
                assert settings(dsn) == {}
        finally:
            await gate.close()
            await db.close()

    run(job())


_ROLLED_BACK = ZeroDivisionError
_WRONG = [
    ("ALTER TABLE nowhere SET (pgherd.autosplit = on)", "42P01"),
    ("ALTER TABLE alone SET (pgherd.autosplit = on)", "0A000"),
    ("ALTER TABLE people SET (pgherd.autosplit = perhaps)", "22023"),
    ("ALTER TABLE people SET (pgherd.nothing = 1)", "22023"),
    ("ALTER TABLE people SET (fillfactor = 70, pgherd.autosplit = on)", "0A000"),
    ("ALTER TABLE people SET (pgherd.autosplit = on), ADD COLUMN x int", "0A000"),
]


@pytest.mark.parametrize(
    "text",
    [
        "SET pgherd.autosplit = off",
        "SET LOCAL pgherd.autosplit = off",
        "SET SESSION pgherd.size_max = '1GB'",
        "SELECT set_config('pgherd.autosplit', 'off', false)",
        "ALTER ROLE CURRENT_USER SET pgherd.autosplit = off",
        "ALTER DATABASE app SET pgherd.autosplit = off",
        "SET pgherd.balancing = off",
    ],
)
def test_a_session_has_no_such_setting_and_is_told_where_it_goes(dsn: str, text: str) -> None:
    wanted = "CALL pgherd.set_balancing" if "balancing" in text else "ALTER TABLE users SET"

    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        db = await pgherd.connect(dsn)
        try:
            for face in (gate, db):
                with pytest.raises((asyncpg.PostgresError, PgherdError), match="not of a session") as caught:
                    async with face.transaction():
                        await face.execute(text)
                assert caught.value.sqlstate == "42704" and wanted in str(caught.value.hint)
            if text.startswith("SELECT"):
                with pytest.raises(asyncpg.UndefinedObjectError, match="not of a session"):
                    await gate.fetch("SELECT set_config($1, $2, false)", "pgherd.autosplit", "off")
        finally:
            await gate.close()
            await db.close()

    run(job())


def test_nor_can_one_be_given_when_connecting(dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="not of a session"):
        psycopg.connect(dsn, options="-c pgherd.autosplit=off")

    async def job() -> None:
        with pytest.raises(PgherdError, match="not of a session"):
            await pgherd.connect(dsn, server_settings={"pgherd.autosplit": "off"})
        async with pgherd.connect(dsn) as db:
            with pytest.raises(PgherdError, match="would not follow it"):
                async with db.transaction():
                    await db.execute("SET LOCAL pgherd.snapshot = off")

    run(job())


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("split('people', 'N')", "split: shard {shard} in group 0 to a new shard in group 0 and a new shard in group 0"),
        ("move({shard}, 1)", "move: shard {shard} in group 0 to shard {shard} in group 1"),
        ("merge({left}, {right})", "merge: shard {left} in group {at} and shard {right} in group {at} to a new shard in group {at}"),
    ],
)  # fmt: skip
def test_a_dry_run_names_the_shards_before_and_after(
    dsn: str, places: dict[str, Any], call: str, wanted: str
) -> None:
    told: list[str] = []
    with psycopg.connect(dsn, autocommit=True) as db:
        db.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        found = db.execute("SELECT group_id FROM pgherd.shards WHERE id = %s", (places["left"],)).fetchone()
        call, wanted = (text.format(**places, at=(found or (0,))[0]) for text in (call, wanted))
        db.execute(f"CALL pgherd.{call[:-1]}, dry_run => true)".encode())
    assert told[0].startswith(wanted + ", 0.0 MB in all"), told[0]


def test_an_undistribution_is_undone_by_a_call_and_one_that_cannot_be_says_so(dsn: str) -> None:
    async def job() -> None:
        gate = await asyncpg.connect(dsn)
        more = "offline => false, max_pause => '5 s'"
        kind = "SELECT kind FROM pgherd.tables WHERE name = 'there'"
        last = "SELECT max(id) FROM pgherd.workflows WHERE kind = 'undistribute'"
        try:
            await gate.execute("CREATE TABLE there (id int PRIMARY KEY, t text)")
            await gate.execute("INSERT INTO there SELECT i, 'x' FROM generate_series(1, 200) i")
            await gate.execute(f"CALL pgherd.distribute('there', by => 'hash', key => 'id', {more})")
            await gate.execute(f"CALL pgherd.undistribute('there', {more})")
            assert await gate.fetchval(kind) == "single"
            await gate.execute("INSERT INTO there VALUES (201, 'since')")
            await gate.execute(f"CALL pgherd.undo({await gate.fetchval(last)})")
            assert await gate.fetchval(kind) == "distributed"
            assert await gate.fetchval("SELECT count(*) FROM there") == 201
            await gate.execute(f"CALL pgherd.undistribute('there', {more})")
            await gate.execute("ALTER TABLE there DROP CONSTRAINT there_pkey, ALTER id DROP NOT NULL")
            await gate.execute("INSERT INTO there VALUES (NULL, 'nowhere')")
            with pytest.raises(asyncpg.PostgresError, match=r"could not be undone: .* has no primary key"):
                await gate.execute(f"CALL pgherd.undo({await gate.fetchval(last)})")
            assert await gate.fetchval("SELECT count(*) FROM there") == 202
            await gate.execute(f"CALL pgherd.confirm({await gate.fetchval(last)})")
        finally:
            await gate.close()

    asyncio.run(asyncio.wait_for(job(), 150))  # five workflows, and those that they have carried out
