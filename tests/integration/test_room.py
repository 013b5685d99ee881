"""Disks with too little room: nothing is sent there, neither by the controller nor by hand, and it is said why."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from elastic_world import NAMES, Elastic, opened

from pgherd.deploy.local import LocalCluster
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(180)
MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(yard: Yard) -> Iterator[LocalCluster]:
    made = yard.cluster("room", embedded=True, groups=3)
    yield made
    made.kill()


def say(cluster: LocalCluster, group: int, free_mib: int) -> None:
    """Let a group's server measure this on its disk of 1000 MiB, of which a tenth must stay free."""
    with psycopg.connect(uris(cluster)[group], autocommit=True) as link:
        link.execute(
            "CREATE OR REPLACE FUNCTION pgherd.disk() RETURNS bigint[] LANGUAGE sql"
            f" AS 'SELECT ARRAY[{free_mib * MIB}, {1000 * MIB}]::bigint[]'".encode()
        )


async def heavy(world: Elastic) -> None:
    """Five shards of about 200 kB in group 1."""
    await world.gate.execute(
        "CREATE TABLE heavy (name text PRIMARY KEY, body text) PARTITION BY RANGE (name)"
    )
    for point in ("D", "H", "M", "R"):
        await world.gate.execute(f"CALL pgherd.split('heavy', '{point}')")
    for number, *_ in await world.shards("heavy"):
        await world.gate.execute(f"CALL pgherd.move({number}, 1)")
    rows = [(name, random.Random(name).randbytes(4000).hex()) for name in NAMES]
    await world.gate.executemany("INSERT INTO heavy VALUES ($1, $2)", rows)


def test_nothing_goes_where_there_is_no_room(cluster: LocalCluster) -> None:
    async def story(world: Elastic) -> None:
        await world.quick(balancing="off")
        await heavy(world)
        told: list[str] = []
        world.gate.add_log_listener(lambda _, message: told.append(message.message))

        say(cluster, 0, free_mib=900)
        say(cluster, 2, free_mib=100)  # all of it must stay free
        await world.gate.execute("CALL pgherd.rebalance(dry_run => true)")
        assert len(told) > 1 and all(" to group 0:" in line for line in told[1:]), told

        shard = (await world.shards("heavy"))[0][0]
        with pytest.raises(asyncpg.PostgresError, match="group 2 has 100 MiB free on its disk"):
            await world.gate.execute(f"CALL pgherd.move({shard}, 2, offline => false)")

        say(cluster, 0, free_mib=99)
        told.clear()
        await world.gate.execute("CALL pgherd.rebalance(dry_run => true)")
        assert told == [
            "nothing to move: no move for which there is room would leave the groups clearly more even"
        ]

        await world.gate.execute("CALL pgherd.drain(1, wait => false)")
        await world.until("a reason", lambda: _reason(world))
        assert {group for _, group, *_ in await world.shards("heavy")} == {1}

        assert (
            await world.gate.fetchval("SELECT count(*) FROM pgherd.workflows WHERE origin = 'controller'")
            == 0
        )

        say(cluster, 0, free_mib=900)  # seen when disks are measured again
        await world.until("an empty group", lambda: _only_in(world, 0))
        await world.gate.execute("CALL pgherd.drain(1, stop => true)")

    async def bounded() -> None:
        async with asyncio.timeout(150), opened(cluster.dsn(cluster.existing())) as world:
            await story(world)

    asyncio.run(bounded())


async def _reason(world: Elastic) -> bool:
    row = await world.gate.fetchrow(
        "SELECT reason, figures::text FROM pgherd.decisions_log WHERE code = 'no_room' AND from_group = 1"
    )
    if row is None:
        return False
    assert (
        "no room on group 2 for a copy of shard" in row[0]
        and "0 B free beside what must stay free, needs" in row[0]
    )
    return True


async def _only_in(world: Elastic, group: int) -> bool:
    return {found for _, found, *_ in await world.shards("heavy")} == {group}
