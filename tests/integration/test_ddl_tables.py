"""CREATE, ALTER and DROP of distributed and single tables: what lies where afterwards, and what is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from catalog_world import World, run

from pgherd.catalog.model import Node
from pgherd.deploy.server import Server
from pgherd.errors import PgherdError, ReservedName, ServerError
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def groups(yard: Yard, server: Server) -> list[Node]:
    return yard.groups(server, 2)


@pytest.fixture
def story(groups: list[Node]) -> Callable[[Callable[[World], Awaitable[Any]]], None]:
    """Runs a story in the module's cluster, and drops its tables afterwards."""

    async def told(job: Callable[[World], Awaitable[Any]]) -> None:
        async with await World.open(groups) as world:
            try:
                await job(world)
            finally:
                await world.do(
                    "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC"
                )
            assert not (await world.map()).tables
            assert not (await world.map()).keyspaces

    return lambda job: run(told(job))


KINDS = "SELECT relkind FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = '{}' AND relname = '{}'"
USERS = "CREATE TABLE users (name text, id bigserial, mail text DEFAULT 'x', n int CHECK (n > 0), PRIMARY KEY (name, id)) PARTITION BY RANGE (name)"
ORDERS = "CREATE TABLE orders (name text, user_id bigint, no int, FOREIGN KEY (name, user_id) REFERENCES users ON DELETE CASCADE) PARTITION BY RANGE (name)"


def test_a_range_table_lies_in_one_shard_and_reads_whole_everywhere(story: Any) -> None:
    async def job(world: World) -> None:
        assert await world.do(USERS) == "CREATE TABLE"
        table = (await world.map()).tables["public", "users"]
        assert (table.kind, table.key, table.primary_key) == ("distributed", ("name",), ("name", "id"))
        assert [column.name for column in table.columns if column.cluster_id] == ["id"]
        (shard,) = (await world.map()).keyspace_of(table).shards
        assert (shard.group, shard.lower, shard.upper) == (0, None, None)
        schema = f"shard_{shard.id}"
        assert [await world.one(group, KINDS.format(schema, "users")) for group in (0, 1)] == ["r", "f"]
        await world.rows(0, f"INSERT INTO {schema}.users (name) VALUES ('Ada'), ('Zoe')")
        for group in (0, 1):
            assert await world.rows(group, "SELECT name FROM global.users ORDER BY 1") == [("Ada",), ("Zoe",)]
        assert [await world.one(group, "SELECT count(*) FROM here.users") for group in (0, 1)] == ["2", "0"]
        assert await world.one(0, "SELECT count(DISTINCT id) FROM global.users WHERE id > 1000000") == "2"

    story(job)


def test_a_hash_table_has_four_shards_in_each_group(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(
            "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text) PARTITION BY HASH (id)"
        )
        cluster = await world.map()
        table = cluster.tables["public", "events"]
        assert table.column("id").always and table.column("id").cluster_id  # type: ignore[union-attr]
        shards = cluster.keyspace_of(table).shards
        assert [(shard.modulus, shard.remainder, shard.group) for shard in shards] == [
            (8, n, n % 2) for n in range(8)
        ]
        for shard in shards:  # whatever Python's hash says, PostgreSQL must agree
            key = next(n for n in range(1000) if cluster.keyspace_of(table).locate((n,)) == shard)
            await world.rows(shard.group, f"INSERT INTO shard_{shard.id}.events (id) VALUES ({key})")
        with pytest.raises(ServerError) as caught:
            wrong = next(n for n in range(1000) if cluster.keyspace_of(table).locate((n,)) != shards[0])
            await world.rows(0, f"INSERT INTO shard_{shards[0].id}.events (id) VALUES ({wrong})")
        assert caught.value.code == "23514"

    story(job)


def test_keyspaces_are_shared_along_foreign_keys_and_by_alike_keys(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(USERS + ";" + ORDERS)
        await world.do("CREATE TABLE notes (name text, body text) PARTITION BY RANGE (name)")
        await world.do("CREATE TABLE places (town text) PARTITION BY RANGE (town)")
        await world.do(
            "CREATE TABLE visits (visitor text, id bigint, FOREIGN KEY (visitor, id) REFERENCES users) PARTITION BY RANGE (visitor)"
        )
        tables = (await world.map()).tables
        spaces = {name: table.keyspace for (_, name), table in tables.items()}
        assert spaces["users"] == spaces["orders"] == spaces["notes"] == spaces["visits"] != spaces["places"]
        assert tables["public", "users"].referenced
        (shard,) = (await world.map()).keyspace_of(tables["public", "users"]).shards
        with pytest.raises(ServerError) as caught:
            await world.rows(0, f"INSERT INTO shard_{shard.id}.orders VALUES ('Ada', 1, 1)")
        assert caught.value.code == "23503"

    story(job)


REFUSED_FILE = Path(__file__).parent.parent / "plans" / "definitions" / "refused.sql"
WRITE = "PGHERD_WRITE_REFUSED"  # set: write down what is refused how, instead of checking it


def _outcome(error: PgherdError) -> tuple[str, ...]:
    code = error.code if isinstance(error, ServerError) else error.sqlstate
    return (f"-- Refused {code}: {error.message}", *([f"--   hint: {error.hint}"] if error.hint else []))


def test_refusals_are_those_of_the_list_and_leave_nothing_behind(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(
            "CREATE TABLE single (a bigint PRIMARY KEY); CREATE TABLE codes (a int PRIMARY KEY); CREATE SEQUENCE counter;"
            "CREATE TABLE hashed (a bigint PRIMARY KEY, b int) PARTITION BY HASH (a)"
        )
        await world.call("reference", "codes")
        before = await world.map()
        found: list[str] = []
        for text in REFUSED_FILE.read_text().strip().split("\n\n"):
            sql = "\n".join(line for line in text.split("\n") if not line.startswith("-- "))
            lines: tuple[str, ...] = ()
            if not sql.startswith("# "):
                with pytest.raises(PgherdError) as caught:
                    await world.do(sql)
                lines = _outcome(caught.value)
                assert lines[0].startswith("-- Refused 0A000: "), sql
                assert len(lines) == 2, sql
                assert await world.map() == before, sql
            found.append("\n".join((sql, *lines)))
        if WRITE in os.environ:
            REFUSED_FILE.write_text("\n\n".join(found) + "\n")
        assert "\n\n".join(found) + "\n" == REFUSED_FILE.read_text()

    story(job)


@pytest.mark.parametrize("name", ["shard_7", "global_x", "here", "pgherd_more"])
def test_names_that_pgherd_needs_are_reserved(story: Any, name: str) -> None:
    async def job(world: World) -> None:
        with pytest.raises(ReservedName):
            await world.do(f"CREATE SCHEMA {name}")

    story(job)


def test_alter_table_reaches_every_shard(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(USERS)
        await world.call("split", "users", "N")
        low, high = (shard.id for shard in await world.shards("users"))
        await world.call("move", str(high), "1")
        await world.rows(0, f"INSERT INTO shard_{low}.users (name, n) VALUES ('Ada', 7)")
        await world.rows(1, f"INSERT INTO shard_{high}.users (name, n) VALUES ('Zoe', 9)")
        await world.do(
            "ALTER TABLE users ADD COLUMN born date DEFAULT '2000-01-01' NOT NULL, ADD COLUMN serial_no bigserial;"
            "ALTER TABLE users ALTER n TYPE numeric USING n * 2.5;"
            "ALTER TABLE users ADD CONSTRAINT short CHECK (length(mail) < 50) NOT VALID;"
            "ALTER TABLE users VALIDATE CONSTRAINT short;"
            "ALTER TABLE users RENAME CONSTRAINT short TO brief;"
            "ALTER TABLE users RENAME COLUMN mail TO email;"
            "ALTER TABLE users RENAME COLUMN name TO surname;"
            "ALTER TABLE users RENAME CONSTRAINT users_pkey TO users_pk;"
            "ALTER TABLE users DROP COLUMN born;"
            "ALTER TABLE users RENAME TO people"
        )
        table = (await world.map()).tables["public", "people"]
        assert table.key == ("surname",)
        assert [column.name for column in table.columns] == ["surname", "id", "email", "n", "serial_no"]
        for group in (0, 1):
            assert await world.rows(
                group, "SELECT surname, n, email, serial_no > 1000000 FROM global.people ORDER BY 1"
            ) == [
                ("Ada", "17.5", "x", "t"),
                ("Zoe", "22.5", "x", "t"),
            ]
        shard = "SELECT conname FROM pg_constraint WHERE conrelid = 'shard_{}.people'::regclass AND contype IN ('c', 'p') ORDER BY 1"
        assert (
            await world.rows(0, shard.format(low))
            == await world.rows(1, shard.format(high))
            == [("brief",), ("users_n_check",), ("users_pk",)]
        )
        assert await world.rows(1, "SELECT surname FROM here.people") == [("Zoe",)]

    story(job)


def test_indexes_follow_the_template(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(USERS)
        shard = (await world.shards("users"))[0].id
        names = f"SELECT indexname FROM pg_indexes WHERE schemaname = 'shard_{shard}' ORDER BY 1"
        assert await world.do("CREATE INDEX ON users (mail) WHERE n > 3") == "CREATE INDEX"
        await world.do("CREATE UNIQUE INDEX CONCURRENTLY ones ON users (name, lower(mail))")
        assert "CONCURRENTLY" in world.notices[0]
        assert await world.rows(0, names) == [("ones",), ("users_mail_idx",), ("users_pkey",)]
        oid = await world.one(0, f"SELECT 'shard_{shard}.ones'::regclass::oid")
        await world.do("ALTER INDEX ones RENAME TO uniques; DROP INDEX users_mail_idx; REINDEX TABLE users")
        assert await world.rows(0, names) == [("uniques",), ("users_pkey",)]
        assert (
            await world.one(0, f"SELECT 'shard_{shard}.uniques'::regclass::oid") == oid
        )  # renamed, not built again
        assert (
            await world.everywhere("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
            == [[("uniques",), ("users_pkey",)]] * 2
        )

    story(job)


def test_single_tables_are_readable_from_every_group(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do("CREATE TABLE notes (id serial PRIMARY KEY, body varchar(10))")
        await world.rows(0, "INSERT INTO notes (body) VALUES ('one')")
        assert await world.everywhere("SELECT * FROM global.notes") == [[("1", "one")]] * 2
        await world.do(
            "ALTER TABLE notes ADD COLUMN more int DEFAULT 5; ALTER TABLE notes ALTER body TYPE text; ALTER TABLE notes RENAME body TO said"
        )
        assert await world.everywhere("SELECT said, more FROM global.notes") == [[("one", "5")]] * 2
        await world.do("ALTER TABLE notes DROP COLUMN more; ALTER TABLE notes RENAME TO sayings")
        assert await world.everywhere("SELECT * FROM global.sayings") == [[("1", "one")]] * 2
        assert await world.do("CREATE TABLE IF NOT EXISTS sayings (other int)") == "CREATE TABLE"
        assert [column.name for column in (await world.map()).tables["public", "sayings"].columns] == [
            "id",
            "said",
        ]

    story(job)


def test_views_have_a_form_over_whole_tables(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(USERS + "; CREATE TABLE notes (id int, body text)")
        shard = (await world.shards("users"))[0].id
        await world.rows(
            0,
            f"INSERT INTO shard_{shard}.users (name, n) VALUES ('Ada', 1), ('Bob', 2); INSERT INTO notes VALUES (1, 'first')",
        )
        await world.do(
            "CREATE VIEW plain AS SELECT name FROM users WHERE n > 1; CREATE VIEW mixed AS SELECT u.name, body FROM users u JOIN notes ON notes.id = n AND body <> 'x'"
        )
        await world.do("CREATE VIEW nested AS SELECT count(*) AS c FROM mixed m, plain")
        assert await world.everywhere("SELECT * FROM global.plain") == [[("Bob",)]] * 2
        assert await world.everywhere("SELECT * FROM global.nested") == [[("1",)]] * 2
        tables = (await world.map()).tables
        assert (tables["public", "plain"].on_all, tables["public", "mixed"].on_all) == (True, False)
        assert tables["public", "nested"].distributed_view
        await world.do(
            "CREATE OR REPLACE VIEW mixed AS SELECT u.name, body, 7 AS more FROM users u JOIN notes ON notes.id = n"
        )
        await world.do(
            "ALTER TABLE notes RENAME TO sayings; ALTER TABLE sayings ADD COLUMN extra int; ALTER VIEW plain RENAME TO names"
        )
        assert await world.everywhere("SELECT count(*) FROM global.nested") == [[("1",)]] * 2
        assert await world.do("DROP VIEW mixed CASCADE") == "DROP VIEW"
        assert sorted((await world.map()).tables) == [
            ("public", "names"),
            ("public", "sayings"),
            ("public", "users"),
        ]
        await world.do(
            "CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS c FROM users; REFRESH MATERIALIZED VIEW counted"
        )
        assert await world.everywhere("SELECT * FROM global.counted") == [[("2",)]] * 2

    story(job)


def test_a_stale_map_is_read_again(story: Any) -> None:
    async def job(world: World) -> None:
        stale = await world.map()
        await world.do(USERS)
        await world.do(ORDERS, stale=stale)
        tables = (await world.map()).tables
        assert tables["public", "users"].keyspace == tables["public", "orders"].keyspace

    story(job)


def test_a_dump_restores_foreign_keys_that_come_after_the_tables(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(
            "CREATE TABLE users (name text NOT NULL, id bigint NOT NULL) PARTITION BY RANGE (name);"
            "CREATE TABLE visits (visitor text, id bigint) PARTITION BY RANGE (visitor);"
            "CREATE VIEW seen AS SELECT visitor FROM visits;"
            "CREATE SEQUENCE users_id_seq; ALTER SEQUENCE users_id_seq OWNED BY users.id;"
            "ALTER TABLE ONLY users ALTER COLUMN id SET DEFAULT nextval('users_id_seq'::regclass);"
            "ALTER TABLE ONLY users ADD CONSTRAINT users_pkey PRIMARY KEY (name, id)"
        )
        before = await world.map()
        assert len(before.keyspaces) == 2
        assert before.tables["public", "users"].column("id").cluster_id  # type: ignore[union-attr]
        await world.do(
            "ALTER TABLE visits ADD CONSTRAINT by FOREIGN KEY (visitor, id) REFERENCES users (name, id)"
        )
        tables = (await world.map()).tables
        assert tables["public", "visits"].keyspace == tables["public", "users"].keyspace
        assert len((await world.map()).keyspaces) == 1
        assert await world.everywhere("SELECT count(*) FROM global.seen") == [[("0",)]] * 2
        shard = (await world.shards("visits"))[0]
        with pytest.raises(ServerError, match='violates foreign key constraint "by"'):
            await world.rows(shard.group, f"INSERT INTO shard_{shard.id}.visits VALUES ('Ada', 1)")

    story(job)


def test_a_sequence_counts_on_group_0_alone(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do("CREATE SEQUENCE counter; ALTER SEQUENCE counter RESTART 50; " + USERS)
        assert await world.one(0, "SELECT nextval('counter')") == "50"
        for name in ("counter", "users_id_seq"):
            with pytest.raises(ServerError, match="reached maximum value"):
                await world.rows(1, f"SELECT nextval('{name}')")
        await world.do("ALTER SEQUENCE counter RENAME TO tally; DROP SEQUENCE tally")
        assert await world.everywhere("SELECT to_regclass('tally')") == [[(None,)]] * 2

    story(job)


def test_definitions_side_by_side_wait_for_each_other(groups: list[Node]) -> None:
    async def job() -> None:
        async with (
            await World.open(groups) as one,
            await World.open(groups) as two,
            await World.open(groups) as three,
        ):
            worlds = (one, two, three)

            async def define(number: int, world: World) -> None:
                for turn in range(3):
                    table = f"t{number}_{turn}"
                    await world.do(
                        f"CREATE TABLE {table} (id bigint PRIMARY KEY) PARTITION BY HASH (id); ALTER TABLE {table} ADD COLUMN c int"
                    )

            await asyncio.gather(*(define(number, world) for number, world in enumerate(worlds)))
            cluster = await one.map()
            assert len(cluster.tables) == 9
            assert len(cluster.keyspaces) == 1
            assert await one.everywhere("SELECT epoch FROM pgherd.cluster") == [[(str(cluster.epoch),)]] * 2
            await one.do("DROP TABLE " + ", ".join(name for _, name in cluster.tables))

    run(job())
