"""Transactions over groups made by applications that use the client library, and are killed in the middle."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import pgherd
from pgherd.deploy.local import LocalCluster
from pgherd.testing.coverage import covered
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard

ROWS = 30
ROUNDS = 8
SEED = 20_261

APPLICATION = """
import asyncio, random, sys
import pgherd

async def transfer(db, seed):
    chance = random.Random(seed)
    number = seed * 1_000_000
    while True:
        number += 1
        one, two = sorted(chance.sample(range(1, {rows} + 1), 2))
        try:
            async with db.transaction():
                await db.execute(f"INSERT INTO ledger VALUES ({{number}}, 0), ({{number}}, 1), ({{number}}, 2)")
                await db.execute("UPDATE money SET v = v - 1 WHERE id = $1", one)
                await db.execute("UPDATE money SET v = v + 1 WHERE id = $1", two)
        except Exception as error:
            if getattr(error, "sqlstate", "") == "40P01":
                continue
            raise
        print(number, flush=True)

async def main():
    async with pgherd.connect(sys.argv[1]) as db:
        await asyncio.gather(*(transfer(db, int(sys.argv[2]) * 10 + task) for task in range(4)))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[LocalCluster]:
    """Two groups on a server each, with a gateway, whose controller is the only one who tidies up."""
    cluster = yard.cluster("transactions-client", embedded=False, groups=2)

    async def fill() -> None:
        async with pgherd.connect(cluster.dsn(cluster.existing())) as db:
            await db.execute(
                "CREATE TABLE money (id bigint PRIMARY KEY, v int NOT NULL) PARTITION BY HASH (id)"
            )
            await db.execute(f"INSERT INTO money SELECT n, 100 FROM generate_series(1, {ROWS}) n")
            await db.execute(
                "CREATE TABLE ledger (number bigint, side int, PRIMARY KEY (number, side)) "
                "PARTITION BY HASH (number, side)"
            )

    asyncio.run(fill())
    yield cluster
    cluster.kill()


def acknowledged(dsn: str, round_: int, after: int, script: Path) -> list[int]:
    """Let an application work until it has acknowledged `after` transfers, kill it, and answer all that it acknowledged."""
    words = [sys.executable, str(script), dsn, str(round_)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        seen: list[int] = []
        for line in process.stdout:
            seen.append(int(line))
            if len(seen) == after:
                os.kill(process.pid, signal.SIGKILL)
        errors = process.stderr.read()
    assert process.returncode == -signal.SIGKILL, errors
    return seen


async def prepared(herd: LocalCluster) -> int:
    """Transactions left prepared anywhere."""
    count = 0
    for uri in uris(herd):
        db = await asyncpg.connect(uri)
        count += await db.fetchval("SELECT count(*) FROM pg_prepared_xacts")
        await db.close()
    return count


@pytest.mark.timeout(120)
def test_a_client_killed_under_load_loses_and_halves_nothing(herd: LocalCluster, tmp_path: Path) -> None:
    script = tmp_path / "application.py"
    script.write_text(APPLICATION.format(rows=ROWS))
    dsn = herd.dsn(herd.existing())
    chance = random.Random(SEED)
    known = [
        number
        for round_ in range(ROUNDS)
        for number in acknowledged(dsn, round_, chance.randrange(5, 60), script)
    ]

    async def check() -> int:
        async with pgherd.connect(dsn) as db:
            async with asyncio.timeout(20):  # locks of the dead are settled by the controller, within seconds
                await db.execute("UPDATE money SET v = v")
                while await prepared(herd):  # noqa: ASYNC110 another process settles them
                    await asyncio.sleep(0.1)
            assert await db.fetchval("SELECT sum(v) FROM money") == ROWS * 100, f"seed {SEED}"
            halves = await db.fetch(
                "SELECT number, count(*) FROM ledger GROUP BY number HAVING count(*) <> 3"
            )
            assert halves == [], f"seed {SEED}"
            there = {row["number"] for row in await db.fetch("SELECT DISTINCT number FROM ledger")}
            assert set(known) <= there, f"seed {SEED}: acknowledged and lost"
            return len(there - set(known))

    unknown = asyncio.run(check())
    covered(
        "clients killed under load",
        {
            "kills": ROUNDS,
            "transfers acknowledged": len(known),
            "committed without having been told": unknown,
        },
    )
