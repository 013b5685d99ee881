"""Whoever takes a table for a single one, since its cluster map is old, is refused by the server instead of writing to one group only."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest
from catalog_world import World, run

from pgherd.catalog.model import Node
from pgherd.errors import ServerError
from pgherd.testing.plugin import nodes
from pgherd.testing.servers import Yard

Groups = Callable[[int], list[Node]]
WRITES = (
    "INSERT INTO t VALUES (9)",
    "UPDATE t SET id = 9",
    "DELETE FROM t",
    "TRUNCATE t CASCADE",
    "MERGE INTO t USING (SELECT 1) AS s ON true WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "COPY t FROM STDIN",
)
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname = 'pgherd_guard'"


async def refused(world: World) -> None:
    for text in WRITES:
        with pytest.raises(ServerError) as caught:
            await world.rows(0, text)
        assert caught.value.code == "PH001", text


@pytest.mark.parametrize("strategy", ["hash", "range"])
def test_a_template_takes_no_write(fresh_groups: Groups, strategy: str) -> None:
    groups = fresh_groups(2)

    async def job() -> None:
        async with await World.open(groups) as world:
            await world.do("CREATE TABLE t (id int PRIMARY KEY)")
            await world.rows(0, "INSERT INTO t VALUES (1), (2)")
            await world.call("distribute", "t", strategy, "id")
            await refused(world)
            await world.do("ALTER TABLE t ADD COLUMN n int DEFAULT 1; CREATE INDEX ON t (n)")
            assert await world.rows(1, "SELECT id, n FROM global.t ORDER BY 1") == [("1", "1"), ("2", "1")]
            assert await world.everywhere(TRIGGERS) == [[("1",)], [("0",)]], (
                "one, on the template of group 0, and none on its shards"
            )
            await world.call("undistribute", "t")
            await world.rows(0, "INSERT INTO t VALUES (3)")
            assert await world.everywhere(TRIGGERS) == [[("0",)]] * 2

    run(job())


def test_a_reference_table_takes_writes_of_those_who_know_it(fresh_groups: Groups) -> None:
    groups = fresh_groups(2)

    async def job() -> None:
        async with await World.open(groups) as world:
            await world.do(
                "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); CREATE TABLE single (id int)"
            )
            await world.call("reference", "t")
            await world.call("reference", "child")
            await refused(world)
            enter = "SELECT pgherd.enter_reference('public', '{}', '{{0,1}}', 2)"
            assert await world.rows(0, f"BEGIN; {enter.format('t')}") == [("t",)]
            await world.rows(0, "INSERT INTO t VALUES (1), (2)")
            with pytest.raises(ServerError):
                await world.rows(0, "INSERT INTO child VALUES (1)")
            await world.rows(
                0,
                f"ROLLBACK; BEGIN; {enter.format('t')}; {enter.format('child')}; INSERT INTO t VALUES (1); INSERT INTO child VALUES (1); COMMIT",
            )
            await refused(world)
            await world.rows(0, f"BEGIN; {enter.format('t')}; DELETE FROM t; COMMIT")
            assert await world.one(0, "SELECT count(*) FROM child") == "0"
            await world.rows(0, f"BEGIN; {enter.format('t')}; TRUNCATE t CASCADE; COMMIT")
            await world.do("CREATE TABLE more (id int REFERENCES t) PARTITION BY HASH (id)")
            await world.rows(0, f"BEGIN; {enter.format('t')}; TRUNCATE t CASCADE; COMMIT")
            assert await world.rows(
                0, "SELECT count(*) FROM pgherd_catalog.pg_trigger WHERE NOT tgisinternal"
            ) == [("0",)]
            assert await world.rows(0, "SELECT count(*) FROM pgherd_information.triggers") == [("0",)]

    run(job())


def test_a_gateway_that_does_not_know_yet_sends_the_statement_again(yard: Yard) -> None:
    """What another gateway did is done here behind the gateway's back; its map is old until it looks at the epoch again."""
    cluster = yard.cluster("guarded", embedded=True, groups=2)
    dsn = cluster.dsn(cluster.existing())

    async def job() -> None:
        link = await asyncpg.connect(dsn)
        try:
            await link.execute("CREATE TABLE r (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY)")
            await link.execute("INSERT INTO r VALUES (1)")
            await link.execute("INSERT INTO d VALUES (1)")
            async with await World.open(nodes(cluster)) as world:
                await world.call("reference", "r")
                await link.execute("INSERT INTO r VALUES (2)")
                assert await world.everywhere("SELECT count(*) FROM public.r") == [[("2",)]] * 2
                await world.call("distribute", "d", "hash", "id")
                await link.execute("INSERT INTO d VALUES (2)")
                assert await link.fetchval("SELECT count(*) FROM d") == 2
        finally:
            await link.close()

    try:
        run(job())
    finally:
        cluster.kill()
