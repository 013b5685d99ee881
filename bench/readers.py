"""A process of readers beside the writers: python -m bench.readers KIND PAUSE_S READERS DSN NODE NODE.

KIND "snapshot": one consistent snapshot over all groups; "bare": each group read at its own moment with asyncpg. It says "ready",
reads until its standard input ends, then prints how many reads it did.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import asyncpg
import uvloop

import pgherd
from bench.contest import Step

READ = "SELECT count(*), sum(balance) FROM accounts WHERE id <= 20"


def by_snapshot(db: pgherd.client.Database) -> Step:
    """A read over all groups in a snapshot of its own."""

    async def step() -> None:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            await db.fetchrow(READ)

    return step


def bare(connections: list[asyncpg.Connection]) -> Step:
    """What asyncpg would do: the same read on every group, side by side, with no common moment."""

    async def one(connection: asyncpg.Connection) -> None:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.fetchrow(READ.replace("accounts", "here.accounts"))

    async def step() -> None:
        await asyncio.gather(*(one(connection) for connection in connections))

    return step


async def main(kind: str, pause_s: float, readers: int, dsn: str, nodes: list[str]) -> None:
    async with AsyncExitStack() as stack:
        if kind == "snapshot":
            db = await stack.enter_async_context(pgherd.connect(dsn, max_size=readers))
            steps = [by_snapshot(db)] * readers
        else:
            steps = [bare([await asyncpg.connect(uri) for uri in nodes]) for _ in range(readers)]
        await asyncio.gather(*(step() for step in steps))
        print("ready", flush=True)
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        counts = await asyncio.gather(*(_repeat(step, pause_s, ended) for step in steps))
        print(sum(counts), flush=True)


async def _repeat(step: Step, pause_s: float, ended: asyncio.Future[str]) -> int:
    count = 0
    while not ended.done():
        await step()
        count += 1
        await asyncio.sleep(pause_s)
    return count


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]))
