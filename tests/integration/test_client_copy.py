"""The client's COPY of more rows than go to a shard at once."""

from __future__ import annotations

import io
from collections.abc import Iterator

import asyncpg
import pytest
from tests.integration.client_world import World, make, run

import pgherd
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    return make(yard)


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_copy_of_more_than_a_pile(world: World, form: str) -> None:
    """Each shard's rows go in several COPYs, each with the header (or signature) that the format wants."""

    async def main() -> None:
        async with scratch(
            world, "CREATE TABLE t (id bigint PRIMARY KEY, v text) PARTITION BY HASH (id)"
        ) as db:
            source = "SELECT n::bigint AS id, repeat('x', 200) || n AS v FROM generate_series(1, 20000) n"
            data = io.BytesIO()
            header = {} if form == "binary" else {"header": True}
            await db.copy_from_query(source, output=data, format=form, **header)
            done = await db.copy_to_table("t", source=data.getvalue(), format=form, **header)
            assert done == "COPY 20000"
            found = await db.fetchrow("SELECT count(*), sum(id), sum(length(v)) FROM t")
            assert tuple(found) == (20000, 200010000, 20000 * 200 + 88894)
            with pytest.raises(asyncpg.UniqueViolationError):
                await db.copy_to_table("t", source=data.getvalue(), format=form, **header)

    run(main())
