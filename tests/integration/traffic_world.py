"""Sessions that write, transfer and look while tables and shards change under them; what nobody should have seen is kept."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

ACCOUNTS = 40
START = 100
Job = Callable[[], Awaitable[None]]


class Traffic:
    """Over the tables `<name>_set` and `<name>_bank`. `wrong`: what nobody should have seen. `acknowledged`: numbers whose insertion was
    confirmed. `pause_s`: between two jobs of a session."""

    def __init__(self, name: str, *, pause_s: float = 0.0) -> None:
        self.name, self.pause_s = name, pause_s
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.acknowledged: list[int] = []
        self.stop = False
        self.numbers: Iterator[int] = count()

    async def forever(self, name: str, job: Job) -> None:
        """The job again and again, until `stop`."""
        while not self.stop:
            try:
                await job()
                self.counts[name] += 1
            except Exception as error:
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.05)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)

    def add(self, db: Any, text: str, values: Callable[[int], tuple[Any, ...]]) -> Job:
        """A row with a new number."""

        async def job() -> None:
            number = next(self.numbers)
            await db.execute(text, *values(number))
            self.acknowledged.append(number)

        return job

    def transfer(self, db: Any, chance: random.Random, key: Callable[[int], Any]) -> Job:
        """One from an account to another, in a transaction of two statements."""

        async def job() -> None:
            one, two = sorted(chance.sample(range(ACCOUNTS), 2))
            async with db.transaction():
                await db.execute(f"UPDATE {self.name}_bank SET balance = balance - 1 WHERE id = $1", key(one))
                await db.execute(f"UPDATE {self.name}_bank SET balance = balance + 1 WHERE id = $1", key(two))

        return job

    def look(self, db: Any, sql: str, wanted: tuple[Any, ...]) -> Job:
        """A query whose row is always the same."""

        async def job() -> None:
            found = tuple(await db.fetchrow(sql))
            if found != wanted:
                self.wrong.append(f"a look saw {found}")

        return job

    @property
    def all(self) -> tuple[str, tuple[int, int]]:
        """The look at all accounts, and what it must see."""
        return f"SELECT count(*), sum(balance) FROM {self.name}_bank", (ACCOUNTS, ACCOUNTS * START)
