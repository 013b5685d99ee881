"""How a client learns of changes that others make to the cluster's map."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.integration.client_world import World, make, run

import pgherd
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    return make(yard)


def test_a_table_that_another_client_distributes_is_noticed_within_the_bound(world: World) -> None:
    async def job() -> None:
        async with pgherd.connect(world.dsn) as one, pgherd.connect(world.dsn) as two:
            await one.execute("CREATE TABLE grown (id bigint PRIMARY KEY, v int)")
            await one.execute("INSERT INTO grown SELECT n, n FROM generate_series(1, 20) n")
            assert await two.fetchval("SELECT count(*) FROM grown") == 20
            epoch = two.map.epoch
            await one.execute("CALL pgherd.distribute('grown', by => 'hash', key => 'id')")
            async with asyncio.timeout(10):
                while two.map.epoch == epoch:  # noqa: ASYNC110 it looks by itself
                    await asyncio.sleep(0.05)
            assert await two.fetchval("SELECT count(*) FROM grown") == 20
            await one.execute("DROP TABLE grown")

    run(job())
