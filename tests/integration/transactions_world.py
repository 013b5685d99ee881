"""A small world for tests of transactions: three groups with one table each, no gateway, no client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pgherd.catalog.model import GroupId
from pgherd.testing.lender import PlainLender
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard
from pgherd.transaction import recovery
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.snapshot import Gates, GateSettings

A, B, C = GroupId(0), GroupId(1), GroupId(2)
GROUPS = (A, B, C)


@dataclass
class Here:
    """Three groups with one table `t` (id, v) each, ten rows of 100; what runs in one event loop."""

    lender: PlainLender
    gates: Gates

    def begin(self, isolation: str = "read committed", **more: Any) -> Transaction:
        return Transaction(self.lender, GROUPS, gates=self.gates, isolation=isolation, **more)

    async def ask(self, group: GroupId, sql: str) -> list[tuple[str | None, ...]]:
        return await recovery.ask(self.lender, group, sql)

    async def until(self, group: GroupId, sql: str) -> None:
        """Wait until the query has a row."""
        async with asyncio.timeout(5):
            while not await self.ask(group, sql):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def value(self, group: GroupId, row: int = 1) -> int:
        return int((await self.ask(group, f"SELECT v FROM public.t WHERE id = {row}"))[0][0] or 0)


async def add(tx: Transaction, group: GroupId, amount: int, row: int = 1) -> None:
    link = await tx.branch(group)
    await link.run(f"UPDATE public.t SET v = v + ({amount}) WHERE id = {row}")


async def get(tx: Transaction, group: GroupId, row: int = 1) -> int:
    link = await tx.branch(group, write=False)
    return int((await link.run(f"SELECT v FROM public.t WHERE id = {row}"))[0][0] or 0)


Run = Callable[[Callable[[Here], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def three_groups(yard: Yard) -> Iterator[list[str]]:
    cluster = yard.cluster("transactions", embedded=True, groups=3, gateway=False)
    yield uris(cluster)
    cluster.kill()


@pytest.fixture
def run(three_groups: list[str]) -> Run:
    def runner(story: Callable[[Here], Awaitable[None]]) -> None:
        async def told() -> None:
            lender = PlainLender(dict(zip(GROUPS, three_groups, strict=True)))
            here = Here(lender, Gates(lender, GateSettings(wait_s=1.5)))
            for group in GROUPS:
                await here.ask(
                    group,
                    "DROP TABLE IF EXISTS public.t CASCADE; CREATE TABLE public.t (id int PRIMARY KEY, v int NOT NULL); "
                    "INSERT INTO public.t SELECT i, 100 FROM generate_series(1, 10) i",
                )
            try:
                await story(here)
            finally:
                await here.gates.close()
                await lender.close()
            left = await recovery.in_doubt(lender, GROUPS)
            await lender.close()
            assert left == []

        asyncio.run(told())

    return runner
