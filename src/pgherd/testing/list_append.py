"""The list-append workload: REPEATABLE READ transactions over lists in several groups, and the history they leave."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field

from pgherd.catalog.model import GroupId
from pgherd.errors import OutcomeUnknown, PgherdError, ServerError
from pgherd.testing.cycles import Append, Done, Outcome, Read
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.perform import Lender
from pgherd.transaction.snapshot import Gates

KEYS = 9  # few, so that transactions meet


@dataclass
class ListAppend:
    """`history` fills while it runs. Key k lies in group k modulo the number of groups."""

    lender: Lender
    groups: tuple[GroupId, ...]
    gates: Gates
    snapshot: bool = True
    history: list[Done] = field(default_factory=list[Done])
    spanned: int = 0
    _ids: itertools.count[int] = field(default_factory=itertools.count)
    _values: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def setup(self) -> None:
        """An empty list for each key."""
        for group in self.groups:
            link = await self.lender.lend(group)
            await link.run(
                "DROP TABLE IF EXISTS public.lists; CREATE TABLE public.lists (k int PRIMARY KEY, v text NOT NULL); "
                f"INSERT INTO public.lists SELECT k, '' FROM generate_series(0, {KEYS - 1}) k "
                f"WHERE k % {len(self.groups)} = {self.groups.index(group)}"
            )
            self.lender.give_back(link, reusable=True)

    def _group(self, key: int) -> GroupId:
        return self.groups[key % len(self.groups)]

    async def _read(self, tx: Transaction, key: int) -> Read:
        link = await tx.branch(self._group(key), write=False)
        rows = await link.run(f"SELECT v FROM public.lists WHERE k = {key}")
        return Read(key, tuple(int(value) for value in str(rows[0][0]).split()))

    async def _append(self, tx: Transaction, key: int, value: int) -> Append:
        link = await tx.branch(self._group(key))
        try:
            await link.run(f"UPDATE public.lists SET v = v || ' {value}' WHERE k = {key}")
        except ServerError as error:
            raise ServerError(tx.told(error.fields)) from error
        return Append(key, value)

    async def one(self, chance: random.Random) -> None:
        """One transaction of two to four operations."""
        id_ = next(self._ids)
        tx = Transaction(
            self.lender, self.groups, gates=self.gates, isolation="repeatable read", snapshot=self.snapshot
        )
        done: list[Append | Read] = []
        outcome: Outcome = "committed"
        keys = chance.sample(range(KEYS), chance.randint(2, 4))
        try:
            for key in keys:
                value = next(self._values)
                if chance.random() < 0.5:
                    done.append(Append(key, value))  # even if it fails half way: it may not be seen then
                    await self._append(tx, key, value)
                else:
                    done.append(await self._read(tx, key))
            await tx.commit()
        except OutcomeUnknown:
            outcome = "unknown"
        except PgherdError as error:
            if isinstance(error, ServerError) and error.code not in ("40001", "40P01"):
                raise
            outcome = "aborted"
            await tx.rollback()
        if len({self._group(key) for key in keys}) > 1 and outcome == "committed":
            self.spanned += 1
        self.history.append(Done(id_, tuple(done), outcome))

    async def run(self, seconds: float, *, tasks: int = 5, seed: int = 1) -> None:
        """So many tasks for so long, and then one that reads all lists."""
        clock = asyncio.get_running_loop()
        end = clock.time() + seconds

        async def work(number: int) -> None:
            chance = random.Random(seed * 100 + number)
            while clock.time() < end:
                await self.one(chance)

        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(work(number))
        tx = Transaction(self.lender, self.groups, gates=self.gates, isolation="repeatable read")
        reads = [await self._read(tx, key) for key in range(KEYS)]
        await tx.commit()
        self.history.append(Done(next(self._ids), tuple(reads)))
