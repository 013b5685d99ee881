"""Tables become distributed, and single again, while they are in use: nothing is lost, nothing is seen twice or not at all, nobody meets an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from catalog_world import run
from reshard_world import World

from pgherd.catalog.model import Node
from pgherd.deploy.server import Server
from pgherd.engine.stale import is_stale
from pgherd.errors import ServerError
from pgherd.testing.servers import Yard

Story = Callable[[Callable[[World], Awaitable[Any]]], None]


@pytest.fixture(scope="module")
def groups(yard: Yard, server: Server) -> list[Node]:
    return yard.groups(server, 3)


@pytest.fixture
def story(groups: list[Node]) -> Story:
    """Runs a story in the module's cluster, and drops its tables afterwards."""

    async def told(job: Callable[[World], Awaitable[Any]]) -> None:
        async with await World.open(groups) as world:
            try:
                await job(world)
            finally:
                await world.do(
                    "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC"
                )

    return lambda job: run(told(job))  # type: ignore[arg-type]


READS = (
    "SELECT * FROM t",
    "SELECT count(*) FROM t",
    "SELECT * FROM t WHERE id = 3",
    "SELECT * FROM t WHERE false OR id > 5 ORDER BY body LIMIT 1",
    "SELECT EXISTS (SELECT FROM t)",
    "SELECT * FROM codes LEFT JOIN t ON t.code = codes.code",
    "SELECT * FROM t FOR UPDATE",
    "COPY t TO STDOUT",
    "COPY (SELECT * FROM t) TO STDOUT",
    "EXECUTE mine(3)",
    "INSERT INTO t (id) VALUES (9)",
    "UPDATE t SET body = 'x'",
    "DELETE FROM t",
    "TRUNCATE t",
)


async def refused(world: World) -> None:
    """Statements with an old map, each of which must end in an error that says so."""
    for text in READS:
        with pytest.raises(ServerError) as caught:
            await world.rows(0, text)
        assert is_stale(caught.value), (text, caught.value)


@pytest.mark.parametrize("by", ["range", "hash"])
def test_who_still_takes_it_for_a_single_table_is_told(story: Story, by: str) -> None:
    async def job(world: World) -> None:
        await world.do(
            "CREATE TABLE codes (code int PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, code int, body text)"
        )
        await world.rows(
            0,
            "INSERT INTO t SELECT i, i, 'b' FROM generate_series(1, 10) i; PREPARE mine(bigint) AS SELECT id, body FROM t WHERE id = $1; EXECUTE mine(3)",
        )
        await world.call("distribute", "t", by, "id")
        await refused(world)
        # definitions mean the template: they go through, and the veil stays
        await world.do(
            "ALTER TABLE t ADD COLUMN more int DEFAULT 3; CREATE INDEX by_body ON t (body); ALTER TABLE t RENAME COLUMN more TO less"
        )
        await refused(world)
        assert await world.one(0, "SELECT pgherd.lift_veils()") == "1"
        assert await world.one(0, "SELECT pgherd.lift_veils('0 s')") == "0"
        assert await world.one(0, "SELECT count(*) FROM t") == "0"
        assert await world.one(1, "SELECT sum(id + less) FROM global.t") == str(55 + 30)

    story(job)
