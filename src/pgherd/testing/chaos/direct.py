"""Writers that go straight to every node, past pgherd: whoever takes writes of a group and acknowledges them must be its only primary."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

import asyncpg

from pgherd.testing.chaos.faces import LOST, Face, Session
from pgherd.testing.chaos.world import World
from pgherd.testing.network import Host

STATEMENT_S = 5.0
PAUSE_S = 0.1


@dataclass
class Direct:
    """One writer for each node. An acknowledged row is in the group's primary at the end: two primaries would each have lost some."""

    world: World
    name: str = "direct"
    counts: Counter[str] = field(default_factory=Counter[str])
    acknowledged: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _begun: bool = False

    async def setup(self, session: Session) -> None:
        for group in range(self.world.layout.groups):
            self.acknowledged[group] = set()
            connection = await self.world.direct(self.world.primary(group))
            await connection.execute("CREATE TABLE IF NOT EXISTS public.chaos_direct (n bigint PRIMARY KEY)")
            connection.terminate()

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        if self._begun:  # one set of writers is enough
            return
        self._begun = True
        async with asyncio.TaskGroup() as group:
            for (number, _), host in self.world.nodes.items():
                group.create_task(self._write(number, host, stop))

    async def _write(self, group: int, host: Host, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                connection = await self.world.direct(host)
            except (*LOST, asyncpg.PostgresError, TimeoutError):
                await asyncio.sleep(PAUSE_S)
                continue
            said: list[str] = []
            connection.add_log_listener(lambda _, message, said=said: said.append(str(message)))
            try:
                while not stop.is_set():
                    await self._one(group, host, connection, said)
            except (*LOST, asyncpg.PostgresError, TimeoutError):
                self.counts["ends"] += 1
                await asyncio.sleep(PAUSE_S)
            finally:
                connection.terminate()

    async def _one(self, group: int, host: Host, connection: asyncpg.Connection, said: list[str]) -> None:
        number = next(self._numbers)
        # the bound ends the connection without a cancel request's chance to look like success
        job = asyncio.ensure_future(connection.execute("INSERT INTO public.chaos_direct VALUES ($1)", number))
        done, _ = await asyncio.wait([job], timeout=STATEMENT_S)
        if not done:
            connection.terminate()
        await job
        if not any("synchronous replication" in text for text in said):
            self.acknowledged[group].add(number)
            self.counts[host.name] += 1

    async def check(self, session: Session) -> list[str]:
        wrong: list[str] = []
        for group in range(self.world.layout.groups):
            connection = await self.world.direct(self.world.primary(group))
            there = {row[0] for row in await connection.fetch("SELECT n FROM public.chaos_direct")}
            connection.terminate()
            if lost := sorted(self.acknowledged[group] - there):
                wrong.append(f"group {group} lost {len(lost)} acknowledged rows: {lost[:10]}")
        return wrong
