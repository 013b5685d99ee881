"""Installing again, moved nodes, generated ids, epochs, and the catalogs as users see them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import postgast
import pytest
from catalog_world import World, run

from pgherd.catalog import nodes, store
from pgherd.catalog.ddl.change import written
from pgherd.catalog.model import Node
from pgherd.catalog.overlay import OVERLAID, TARGETS, overlaid
from pgherd.deploy.server import Server
from pgherd.errors import DeployError, ServerError
from pgherd.sql.tree import find
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def groups(yard: Yard, server: Server) -> list[Node]:
    """Two groups with a distributed table, its child, a single table and a view."""
    groups = yard.groups(server, 2)

    async def fill() -> None:
        async with await World.open(groups) as world:
            await world.do(
                "CREATE TABLE users (name text, id bigserial, n int CHECK (n > 0), PRIMARY KEY (name, id)) PARTITION BY RANGE (name);"
                "CREATE TABLE orders (name text, id bigint, FOREIGN KEY (name, id) REFERENCES users) PARTITION BY RANGE (name);"
                "CREATE INDEX ON users (n); CREATE TABLE notes (id int PRIMARY KEY); CREATE VIEW seen AS SELECT * FROM users;"
                "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('glad')"
            )

    run(fill())
    return groups


def test_installing_again_changes_nothing_and_follows_moved_nodes(groups: list[Node]) -> None:
    async def job() -> None:
        async with await World.open(groups) as world:
            before = await world.map()
            await store.install(world.links)
            assert not await nodes.register(nodes.Held(world.links), groups)
            assert await world.map() == before
            elsewhere = [groups[0], replace(groups[1], port=1)]
            assert await nodes.register(nodes.Held(world.links), elsewhere)
            assert (await world.map()).groups[elsewhere[1].group].primary.port == 1
            with pytest.raises(ServerError, match="could not connect"):
                await world.rows(0, "SELECT * FROM pgherd.probe_1")
            assert await nodes.register(nodes.Held(world.links), groups)
            assert await world.rows(0, "SELECT * FROM pgherd.probe_1") == [("1",)]

    run(job())


def test_another_layout_is_refused(yard: Yard, server: Server) -> None:
    async def job(groups: list[Node]) -> None:
        async with await World.open(groups) as world:
            await world.rows(0, "UPDATE pgherd.cluster SET layout = 99")
            with pytest.raises(DeployError, match="another pgherd version"):
                await store.install(world.links)

    run(job(yard.groups(server, 1)))


def test_generated_ids_are_unique_and_tell_their_origin(groups: list[Node]) -> None:
    async def job() -> None:
        worlds = [await World.open(groups) for _ in range(3)]
        text = "SELECT string_agg(pgherd.next_id()::text, ',') FROM generate_series(1, 20000)"
        texts = await asyncio.gather(*(link.run(text) for world in worlds for link in world.links))
        ids = [int(number) for rows in texts for number in (rows[0][0] or "").split(",")]
        assert len(set(ids)) == len(ids) == 120_000
        assert {number >> 11 & 2047 for number in ids} == {0, 1}
        now_ms = (
            float(await worlds[0].one(0, "SELECT extract(epoch FROM clock_timestamp()) * 1000") or 0)
            - 1704067200000
        )
        assert all(abs((number >> 22) - now_ms) < 10_000 for number in ids)
        for world in worlds:
            await world.__aexit__()

    run(job())


def test_at_epoch_raises_when_the_map_has_changed(groups: list[Node]) -> None:
    async def job() -> None:
        async with await World.open(groups) as world:
            epoch = (await world.map()).epoch
            assert await world.everywhere("SELECT epoch FROM pgherd.cluster") == [[(str(epoch),)]] * 2
            assert (
                await world.one(1, f"SELECT count(*) FROM here.users WHERE pgherd.at_epoch({epoch})") == "0"
            )
            with pytest.raises(ServerError) as caught:
                await world.rows(1, f"SELECT count(*) FROM here.users WHERE pgherd.at_epoch({epoch - 1})")
            assert caught.value.code == "PH001"

    run(job())


def as_seen(sql: str) -> str:
    """The query with the catalogs replaced, as the planner does it."""
    tree = postgast.parse(sql).stmts[0].stmt.select_stmt
    for node in find(tree, "RangeVar"):
        target = overlaid(node.schemaname or None, node.relname)
        if target is not None:
            node.schemaname = target
    return written("select_stmt", tree)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information)'", ["public"]),
        (
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'f', 'v') AND relnamespace > 16000 OR relname IN ('users', 'seen') ORDER BY 1",
            ["seen", "users"],
        ),
        (
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND relkind IN ('r', 'p') ORDER BY 1",
            ["notes", "orders", "users"],
        ),
        ("SELECT conname FROM pg_constraint WHERE contype = 'f'", ["orders_name_id_fkey"]),
        (
            "SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname <> 'pg_catalog' AND nspname <> 'information_schema'",
            ["one"],
        ),
        ("SELECT extname FROM pg_extension", ["plpgsql"]),
        ("SELECT srvname FROM pg_foreign_server", []),
        (
            "SELECT inhrelid::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE relkind = 'r'",
            [],
        ),
        (
            "SELECT typname FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE nspname = 'public' AND typtype = 'e'",
            ["mood"],
        ),
        (
            "SELECT tablename FROM pg_tables WHERE schemaname <> 'pg_catalog' AND schemaname <> 'information_schema' ORDER BY 1",
            ["notes", "orders", "users"],
        ),
        (
            "SELECT viewname FROM pg_views WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
            ["seen"],
        ),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
            ["notes", "orders", "seen", "users"],
        ),
        (
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'users' ORDER BY ordinal_position",
            ["name", "id", "n"],
        ),
        (
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name !~ '^(pg_|information)'",
            ["public"],
        ),
        ("SELECT tableoid::regclass::text FROM pg_class WHERE relname = 'users'", ["pg_class"]),
    ],
)
def test_catalogs_show_what_the_user_declared(groups: list[Node], sql: str, rows: list[str]) -> None:
    async def job() -> None:
        async with await World.open(groups) as world:
            assert [row[0] for row in await world.rows(0, as_seen(sql))] == rows

    run(job())


def test_the_overlay_has_every_view_that_it_names(groups: list[Node]) -> None:
    async def job() -> None:
        async with await World.open(groups) as world:
            names = ", ".join(f"'{target}'" for target in TARGETS.values())
            found = await world.rows(
                0, f"SELECT schemaname, viewname FROM pg_views WHERE schemaname IN ({names})"
            )
            assert set(found) == {(TARGETS[schema], name) for schema, name in OVERLAID}

    run(job())
