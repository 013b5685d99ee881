"""Workloads that read from replicas: what a session saw it sees again, and a bound of staleness is kept."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pgherd.testing.chaos.faces import Face, Session, outcome_of
from pgherd.testing.chaos.workloads import ERRORS, PAUSE_S, again_and_again, tried

ROWS = 12


@dataclass
class Sessions:
    """Counters that only grow. A session reads its own writes, never reads backwards, and neither does whoever has its token."""

    name: str = "sessions"
    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])

    async def setup(self, session: Session) -> None:
        await session.execute("DROP TABLE IF EXISTS chaos_counters")
        await session.execute(
            "CREATE TABLE chaos_counters (id bigint PRIMARY KEY, n bigint NOT NULL) PARTITION BY HASH (id)"
        )
        await session.execute(f"INSERT INTO chaos_counters SELECT i, 0 FROM generate_series(1, {ROWS}) i")

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            seen: dict[int, int] = {}
            token: str | None = None
            try:
                for _ in range(3):  # three sessions, one after the other, as web requests are
                    async with face.session("session", token) as session:
                        for _ in range(chance.randint(3, 12)):
                            await self._step(face, session, chance, seen)
                        token = await session.token()
                        self.counts[f"{face.name} tokens handed on"] += 1
            except ERRORS as error:
                outcome_of(error)
                await asyncio.sleep(PAUSE_S)

    async def _step(self, face: Face, session: Session, chance: random.Random, seen: dict[int, int]) -> None:
        row = chance.randint(1, ROWS)
        if chance.random() < 0.3:
            written = await session.fetchval(
                "UPDATE chaos_counters SET n = n + 1 WHERE id = $1 RETURNING n", row
            )
            seen[row] = max(written, seen.get(row, 0))
            self.counts[f"{face.name} writes"] += 1
            return
        read = await session.fetchval("SELECT n FROM chaos_counters WHERE id = $1", row)
        self.counts[f"{face.name} reads"] += 1
        if read < seen.get(row, 0):
            self.wrong.append(f"{face.name}: row {row} was {seen[row]} and then {read}")
        seen[row] = max(read, seen.get(row, 0))

    async def check(self, session: Session) -> list[str]:
        return self.wrong


@dataclass
class Heartbeat:
    """A beat is written to every row again and again; a bounded read must see all beats acknowledged before its bound."""

    name: str = "staleness"
    bound_s: float = 2.0
    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    beats: dict[int, list[tuple[float, int]]] = field(default_factory=dict[int, list[tuple[float, int]]])
    _n: int = 0

    async def setup(self, session: Session) -> None:
        await session.execute("DROP TABLE IF EXISTS chaos_beats")
        await session.execute(
            "CREATE TABLE chaos_beats (id bigint PRIMARY KEY, n bigint NOT NULL) PARTITION BY HASH (id)"
        )
        await session.execute(f"INSERT INTO chaos_beats SELECT i, 0 FROM generate_series(1, {ROWS}) i")

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(again_and_again(face, stop, self._beat))
            group.create_task(
                again_and_again(face, stop, self._reader(face), read=f"bounded {self.bound_s}s")
            )

    async def _beat(self, session: Session) -> None:
        clock = asyncio.get_running_loop()
        for row in range(1, ROWS + 1):
            self._n += 1
            beat = self._n
            # greatest: two faces beat at once, and a beat never goes back
            how, error = await tried(
                session.execute("UPDATE chaos_beats SET n = greatest(n, $2) WHERE id = $1", row, beat)
            )
            if error is not None:
                raise error
            assert how == "done"
            self.beats.setdefault(row, []).append((clock.time(), beat))
            self.counts["beats"] += 1
        await asyncio.sleep(0.02)  # the pace of the heart: nothing is waited for

    def _reader(self, face: Face) -> Callable[[Session], Awaitable[None]]:
        chance = random.Random(face.name)
        clock = asyncio.get_running_loop()

        async def read(session: Session) -> None:
            row = chance.randint(1, ROWS)
            before = clock.time()
            seen = await session.fetchval("SELECT n FROM chaos_beats WHERE id = $1", row)
            due = max(
                (beat for at, beat in self.beats.get(row, ()) if at <= before - self.bound_s), default=0
            )
            self.counts[f"{face.name} reads"] += 1
            if seen < due:
                self.wrong.append(
                    f"{face.name}: row {row} shows beat {seen}, but {due} was {self.bound_s:g} s old"
                )
            await asyncio.sleep(0.005)

        return read

    async def check(self, session: Session) -> list[str]:
        return self.wrong
