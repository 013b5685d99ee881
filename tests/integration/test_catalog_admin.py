"""Admin procedures with rows: nothing is lost, and every row lies where the map says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from catalog_world import World, run

from pgherd.catalog.model import Node
from pgherd.deploy.server import Server
from pgherd.errors import BadSetting, NullKey, Refused, ServerError, UndefinedProcedure, UndefinedTable
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def groups(yard: Yard, server: Server) -> list[Node]:
    return yard.groups(server, 3)


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

    return lambda job: run(told(job))


async def whole(world: World, table: str, rows: int, total: int, column: str = "id") -> None:
    """Every group sees all rows; together the groups hold each row once."""
    for group in range(3):
        counted = await world.rows(group, f"SELECT count(*), sum({column}) FROM global.{table}")
        assert counted == [(str(rows), str(total))]
    here = [int(await world.one(group, f"SELECT count(*) FROM here.{table}") or 0) for group in range(3)]
    assert sum(here) == rows


PEOPLE = "CREATE TABLE people (name text, id bigint, shout text GENERATED ALWAYS AS (upper(name)) STORED, PRIMARY KEY (name, id)) PARTITION BY RANGE (name, id)"
PETS = "CREATE TABLE pets (name text, id bigint, pet text, FOREIGN KEY (name, id) REFERENCES people ON DELETE CASCADE) PARTITION BY RANGE (name, id)"


def test_split_and_move_carry_rows_and_keys(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(PEOPLE + ";" + PETS)
        (old,) = await world.shards("people")
        await world.rows(
            old.group,
            f"INSERT INTO shard_{old.id}.people SELECT chr(65 + i % 26), i FROM generate_series(1, 2600) i",
        )
        await world.rows(
            old.group, f"INSERT INTO shard_{old.id}.pets SELECT name, id, 'cat' FROM shard_{old.id}.people"
        )
        assert await world.call("split", "people", "N") == "CALL"
        await world.call("split", "pets", "{S,1000}")
        shards = await world.shards("people")
        assert [(shard.lower, shard.upper) for shard in shards] == [
            (None, ("N",)),
            (("N",), ("S", 1000)),
            (("S", 1000), None),
        ]
        assert old.id not in {shard.id for shard in shards}
        assert await world.everywhere(f"SELECT to_regnamespace('shard_{old.id}')") == [[(None,)]] * 3
        await world.call("move", str(shards[1].id), "1")
        await world.call("move", str(shards[2].id), "2")
        await world.call("move", str(shards[2].id), "2")
        assert "already" in world.notices[0]
        for table in ("people", "pets"):
            await whole(world, table, 2600, 2600 * 2601 // 2)
        assert await world.one(2, "SELECT bool_and((name, id) >= ('S', 1000)) FROM here.people") == "t"
        with pytest.raises(ServerError) as caught:
            await world.rows(1, f"INSERT INTO shard_{shards[1].id}.pets VALUES ('O', 5, 'dog')")
        assert caught.value.code == "23503"
        await world.rows(1, f"DELETE FROM shard_{shards[1].id}.people")
        assert await world.one(1, "SELECT count(*) FROM here.pets") == "0"
        with pytest.raises(ServerError) as caught:
            await world.rows(0, f"INSERT INTO shard_{shards[1].id}.people VALUES ('O', 1)")
        assert caught.value.code == "55000"

    story(job)


def test_split_of_a_hash_shard_doubles_its_modulus(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do("CREATE TABLE events (id uuid PRIMARY KEY, n int) PARTITION BY HASH (id)")
        shards = await world.shards("events")
        for shard in shards:
            await world.rows(
                shard.group,
                f"INSERT INTO shard_{shard.id}.events SELECT u, i FROM (SELECT md5(i::text)::uuid AS u, i FROM generate_series(1, 500) i) g"
                f" WHERE satisfies_hash_partition('global.events'::regclass, {shard.modulus}, {shard.remainder}, u)",
            )
        await whole(world, "events", 500, 500 * 501 // 2, "n")
        await world.call("split", "events", str(shards[5].id))
        now = await world.shards("events")
        assert sorted((shard.modulus, shard.remainder) for shard in now if shard.modulus == 24) == [
            (24, 5),
            (24, 17),
        ]
        await whole(world, "events", 500, 500 * 501 // 2, "n")

    story(job)


def test_distribute_and_undistribute_keep_every_row(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do(
            "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TABLE codes (code int PRIMARY KEY, word text)"
        )
        await world.do(
            "CREATE TABLE big (id bigserial PRIMARY KEY, code int REFERENCES codes, m mood DEFAULT 'sad', body text); CREATE INDEX by_body ON big (body)"
        )
        await world.rows(0, "INSERT INTO codes SELECT i, 'word ' || i FROM generate_series(0, 9) i")
        await world.rows(
            0, "INSERT INTO big (code, body) SELECT i % 10, E'line\\n' || i FROM generate_series(1, 3000) i"
        )
        with pytest.raises(Refused, match="codes"):
            await world.call("distribute", "big", by="hash", key="id")
        await world.call("reference", "codes")
        assert await world.everywhere("SELECT count(*) FROM codes") == [[("10",)]] * 3
        await world.call("distribute", "big", by="hash", key="id", shards="6")
        assert len(await world.shards("big")) == 6
        await whole(world, "big", 3000, 3000 * 3001 // 2)
        shard = (await world.shards("big"))[1]
        assert await world.rows(
            shard.group, f"SELECT indexname FROM pg_indexes WHERE schemaname = 'shard_{shard.id}' ORDER BY 1"
        ) == [("big_pkey",), ("by_body",)]
        with pytest.raises(ServerError) as caught:
            await world.rows(shard.group, f"UPDATE shard_{shard.id}.big SET code = 77")
        assert caught.value.code == "23503"
        await world.call("undistribute", "big")
        assert (
            await world.everywhere("SELECT count(*), sum(id), max(length(body)) FROM global.big")
            == [[("3000", str(3000 * 3001 // 2), "9")]] * 3
        )
        assert await world.rows(0, "SELECT count(DISTINCT m) FROM public.big") == [("1",)]
        assert (await world.map()).tables["public", "big"].kind == "single"
        assert not (await world.map()).keyspaces

    story(job)


def test_procedures_say_what_is_wrong(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do("CREATE TABLE one (a text, b int); CREATE TABLE many (a text) PARTITION BY RANGE (a)")
        await world.rows(0, "INSERT INTO one VALUES (NULL, 1)")
        before = await world.map()
        (shard,) = await world.shards("many")
        await _fails(world, UndefinedProcedure, "explode", "one")
        await _fails(world, UndefinedProcedure, "reference", "one", "two")
        await _fails(world, UndefinedTable, "reference", "nothing")
        await _fails(world, Refused, "split", "one", "N")
        await _fails(world, Refused, "reference", "many")
        await _fails(world, BadSetting, "move", str(shard.id), "9")
        await _fails(world, BadSetting, "move", "99", "1")
        await _fails(world, BadSetting, "split", "many", "a", "b")
        await _fails(world, BadSetting, "distribute", "one", by="list", key="a")
        await _fails(world, BadSetting, "distribute", "one", by="range", key="c")
        await _fails(world, NullKey, "distribute", "one", by="range", key="a")
        assert await world.map() == before
        with pytest.raises(ServerError, match="cannot run inside one server"):
            await world.rows(0, "CALL pgherd.split('many', 'N')")

    story(job)


async def _fails(world: World, error: type[Exception], procedure: str, *args: str, **named: str) -> None:
    with pytest.raises(error):
        await world.call(procedure, *args, **named)
