"""The client's COPY, in and out, in every format."""

from __future__ import annotations

import io
from collections.abc import Iterator

import asyncpg
import pytest
from tests.integration.client_world import World, make, run

import pgherd
from pgherd.errors import PgherdError
from pgherd.testing.servers import Yard


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[World]:
    return make(yard)


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_copy_of_more_than_a_pile(world: World, form: str) -> None:
    """Each shard's rows go in several COPYs, each with the header (or signature) that the format wants."""

    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            await db.execute("DROP TABLE IF EXISTS t")
            await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text) PARTITION BY HASH (id)")
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


def test_copy(world: World) -> None:
    async def main() -> None:
        async with pgherd.connect(world.dsn) as db:
            await db.execute("DROP TABLE IF EXISTS t")
            await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v int) PARTITION BY HASH (id)")
            tag = await db.copy_records_to_table("t", records=[(n, n % 100) for n in range(3000)])
            assert tag == "COPY 3000"
            chunks: list[bytes] = []

            async def keep(data: bytes) -> None:
                chunks.append(data)

            await db.copy_from_table("t", columns=["id", "v"], output=keep, format="csv", header=True)
            lines = b"".join(chunks).decode().splitlines()
            assert lines[0] == "id,v"
            assert sorted(lines[1:]) == sorted(f"{n},{n % 100}" for n in range(3000))
            await db.execute("TRUNCATE t")
            assert (
                await db.copy_to_table("t", source=b"".join(chunks), format="csv", header=True) == "COPY 3000"
            )
            assert await db.fetchval("SELECT sum(v) FROM t") == sum(n % 100 for n in range(3000))
            with pytest.raises(asyncpg.UniqueViolationError):
                await db.copy_records_to_table("t", records=[(n, 0) for n in range(5000, 2990, -1)])
            with pytest.raises(PgherdError):
                await db.copy_to_table("t", source=b"9000,1\nnothing,1\n", format="csv")
            assert await db.fetchval("SELECT count(*) FROM t") == 3000
            binary: list[bytes] = []
            await db.copy_from_query("SELECT id, v FROM t", output=binary.append, format="binary")
            await db.execute("DELETE FROM t")
            assert await db.copy_to_table("t", source=b"".join(binary), format="binary") == "COPY 3000"

    run(main())
