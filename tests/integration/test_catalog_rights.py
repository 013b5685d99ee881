"""Roles, privileges and row security hold on the physical tables as the user granted them; other schemas than public."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from catalog_world import World, run

from pgherd.catalog.ddl.roles import verifier
from pgherd.catalog.model import Node
from pgherd.deploy.local import LocalCluster
from pgherd.errors import ServerError
from pgherd.testing.plugin import nodes


@pytest.fixture(scope="module")
def groups(grouped_cluster: LocalCluster) -> list[Node]:
    return nodes(grouped_cluster)


@pytest.fixture
def story(groups: list[Node]) -> Iterator[Callable[[Callable[[World], Awaitable[Any]]], None]]:
    """Runs a story on groups that are servers of their own, and takes back what it made."""

    async def told(job: Callable[[World], Awaitable[Any]]) -> None:
        async with await World.open(groups) as world:
            try:
                await world.do(
                    "CREATE ROLE ann LOGIN PASSWORD 'secret'; CREATE ROLE ben LOGIN; CREATE SCHEMA sales; GRANT ALL ON SCHEMA sales TO ann"
                )
                await job(world)
            finally:
                await world.do("DROP SCHEMA sales CASCADE; DROP ROLE ann; DROP ROLE ben")
                assert (
                    await world.everywhere("SELECT count(*) FROM pg_namespace WHERE nspname ~ '_sales$'")
                    == [[("0",)]] * 2
                )

    yield lambda job: run(told(job))


def test_a_role_has_the_same_verifier_and_a_mapping_in_every_group(story: Any) -> None:
    async def job(world: World) -> None:
        stored = await world.everywhere("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'")
        assert stored[0] == stored[1]
        assert (stored[0][0][0] or "").startswith("SCRAM-SHA-256$4096:")
        assert (
            await world.everywhere("SELECT count(*) FROM pg_user_mappings WHERE usename = 'ann'")
            == [[("1",)]] * 2
        )

    story(job)


def test_the_verifier_is_postgresqls_own(groups: list[Node]) -> None:
    async def job() -> None:
        async with await World.open(groups) as world:
            made = "CREATE ROLE probe PASSWORD 'p\u00e9ncil 1\u00bd'; SELECT rolpassword FROM pg_authid WHERE rolname = 'probe'"
            stored = (await world.one(0, made)) or ""
            await world.rows(0, "DROP ROLE probe")
            salt = base64.b64decode(stored.split(":")[1].split("$")[0])
            assert verifier("p\u00e9ncil 1\u00bd", salt) == stored == verifier(stored)

    run(job())


def test_owners_define_and_others_see_what_they_were_granted(story: Any, groups: list[Node]) -> None:
    async def job(world: World) -> None:
        async with await World.open(groups, user="ann") as ann:
            await ann.do(
                "CREATE TABLE sales.deals (id bigint PRIMARY KEY, who text, secret int) PARTITION BY HASH (id); CREATE TABLE sales.single (a int)"
            )
            await ann.do(
                "ALTER TABLE sales.deals ADD COLUMN more int DEFAULT 1; CREATE INDEX ON sales.deals (who)"
            )
            await ann.do("GRANT SELECT (id, who) ON sales.deals TO ben; GRANT SELECT ON sales.single TO ben")
        cluster = await world.map()
        shards = cluster.keyspace_of(cluster.tables["sales", "deals"]).shards
        for shard in shards:
            key = next(n for n in range(999) if cluster.keyspaces[shard.keyspace].locate((n,)) == shard)
            await world.rows(
                shard.group, f"INSERT INTO shard_{shard.id}_sales.deals VALUES ({key}, 'ben', 5)"
            )
        async with await World.open(groups, user="ben") as ben:
            await _denied(
                ben, "SELECT id FROM global_sales.deals", "permission denied for schema global_sales"
            )
            await world.do("GRANT USAGE ON SCHEMA sales TO ben")
            assert (
                await ben.everywhere("SELECT count(id) FROM global_sales.deals")
                == [[(str(len(shards)),)]] * 2
            )
            assert await ben.everywhere("SELECT count(*) FROM global_sales.single") == [[("0",)]] * 2
            for relation in ("global_sales.deals", "here_sales.deals", f"shard_{shards[0].id}_sales.deals"):
                await _denied(ben, f"SELECT secret FROM {relation}", "permission denied")
            with pytest.raises(ServerError) as caught:
                await ben.do("ALTER TABLE sales.deals ADD COLUMN x int")
            assert caught.value.code == "42501"
            await _denied(ben, "SELECT pgherd.forget('sales', 'deals')", "must be owner")
            await _denied(ben, f"SELECT pgherd.remove_shard({shards[0].id})", "must be owner")
            await world.do("REVOKE SELECT (id, who) ON sales.deals FROM ben")
            await _denied(ben, "SELECT id FROM global_sales.deals", "permission denied")

    story(job)


def test_row_security_holds_in_every_form(story: Any, groups: list[Node]) -> None:
    async def job(world: World) -> None:
        await world.do(
            "CREATE TABLE sales.own (id bigint PRIMARY KEY, who text) PARTITION BY HASH (id); GRANT USAGE ON SCHEMA sales TO ben; GRANT SELECT ON sales.own TO ben"
        )
        await world.do(
            "ALTER TABLE sales.own ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON sales.own FOR SELECT USING (who = current_user)"
        )
        cluster = await world.map()
        for shard in cluster.keyspace_of(cluster.tables["sales", "own"]).shards:
            mine, other = [n for n in range(999) if cluster.keyspaces[shard.keyspace].locate((n,)) == shard][
                :2
            ]
            await world.rows(
                shard.group,
                f"INSERT INTO shard_{shard.id}_sales.own VALUES ({mine}, 'ben'), ({other}, 'ann')",
            )
        async with await World.open(groups, user="ben") as ben:
            assert await ben.everywhere("SELECT count(*) FROM global_sales.own") == [[("8",)]] * 2
            assert await ben.everywhere("SELECT count(*) FROM here_sales.own") == [[("4",)]] * 2
            await world.do("DROP POLICY mine ON sales.own")
            assert await ben.everywhere("SELECT count(*) FROM global_sales.own") == [[("0",)]] * 2
            await world.do("ALTER TABLE sales.own DISABLE ROW LEVEL SECURITY")
            assert await ben.everywhere("SELECT count(*) FROM global_sales.own") == [[("16",)]] * 2

    story(job)


def test_row_triggers_fire_in_the_shards(story: Any) -> None:
    async def job(world: World) -> None:
        await world.do("CREATE TABLE sales.log (id bigint PRIMARY KEY, who text) PARTITION BY HASH (id)")
        await world.do(
            "CREATE FUNCTION sales.loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.who := upper(NEW.who); RETURN NEW; END $$"
        )
        await world.do(
            "CREATE TRIGGER loud BEFORE INSERT ON sales.log FOR EACH ROW EXECUTE FUNCTION sales.loud()"
        )
        cluster = await world.map()
        keyspace = cluster.keyspace_of(cluster.tables["sales", "log"])
        shard = keyspace.shards[1]
        first, second = [n for n in range(999) if keyspace.locate((n,)) == shard][:2]
        await world.rows(shard.group, f"INSERT INTO shard_{shard.id}_sales.log VALUES ({first}, 'ann')")
        await world.do("ALTER TABLE sales.log DISABLE TRIGGER loud")
        await world.rows(shard.group, f"INSERT INTO shard_{shard.id}_sales.log VALUES ({second}, 'ann')")
        assert await world.rows(0, "SELECT who FROM global_sales.log ORDER BY 1") == [("ANN",), ("ann",)]

    story(job)


async def _denied(world: World, sql: str, words: str) -> None:
    for link in world.links:
        with pytest.raises(ServerError, match=words):
            await link.run(sql)
