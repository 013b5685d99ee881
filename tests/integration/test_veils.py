"""Veils of tables that have just been distributed are lifted, whatever refers to the tables by then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from pgherd.catalog.model import GroupId
from pgherd.testing.servers import Yard

TABLES = ("people", "places")


@pytest.fixture(scope="module")
def dsns(yard: Yard) -> Iterator[tuple[str, str]]:
    """A gateway's address, and its group 0's."""
    cluster = yard.cluster("veils", embedded=True, groups=1, gateway=True)
    current = cluster.existing()
    home = next(node for node in cluster.nodes(current) if node.group == GroupId(0))
    yield cluster.dsn(current), f"postgresql://postgres@{home.host}:{home.port}/{home.database}"
    cluster.kill()


def test_foreign_keys_do_not_keep_veils(dsns: tuple[str, str]) -> None:
    async def story() -> None:
        gate, home = [await asyncpg.connect(dsn) for dsn in dsns]
        try:
            for table in TABLES:  # both veils are there at the same time
                await gate.execute(f"CREATE TABLE {table} (name text PRIMARY KEY)")
                await gate.execute(f"INSERT INTO {table} VALUES ('Adams')")
                await gate.execute(f"CALL pgherd.distribute('{table}', by => 'range', key => 'name')")
                await gate.execute(
                    f"CREATE TABLE of_{table} (name text PRIMARY KEY REFERENCES {table}) PARTITION BY RANGE (name)"
                )
                await gate.execute(f"INSERT INTO of_{table} VALUES ('Adams')")
            assert await home.fetchval("SELECT pgherd.lift_veils()") == len(TABLES)
            for _ in range(200):
                if await home.fetchval("SELECT pgherd.lift_veils('0 s')") == 0:
                    break
                await asyncio.sleep(0.1)  # somebody holds a lock
            else:
                pytest.fail("the veils are still there")
            for table in TABLES:
                assert await gate.fetchval(f"SELECT count(*) FROM {table} JOIN of_{table} USING (name)") == 1
                with pytest.raises(asyncpg.ForeignKeyViolationError):
                    await gate.execute(f"INSERT INTO of_{table} VALUES ('Nobody')")
        finally:
            await gate.close()
            await home.close()

    asyncio.run(story())
