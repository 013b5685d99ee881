"""The bank: money moves between accounts in different groups; every consistent look at it sees the same total.

Workload for the transaction layer alone (no SQL routing): setup, tasks that move money and tasks that look, check.
Each transfer leaves its number in the ledger of both groups, so that a lost or half commit is found by number.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Row
from pgherd.errors import GroupDown, OutcomeUnknown, PgherdError, Refused, ServerError, SnapshotBusy
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.perform import Bounds, Lender, OnStep, nothing
from pgherd.transaction.snapshot import Gates

ACCOUNTS = 8  # in each group
START = 1000  # on each account

_RETRY = ("40001", "40P01", "55P03", "57014", "57P01")


class NoParams:
    """No parameters, for links that take some."""

    def key(self, number: int, key_type: str) -> object:
        raise IndexError(number)

    def select(self, numbers: object) -> NoParams:
        return self


@dataclass
class Bank:
    """`counts` says what happened: transfers by outcome, looks by kind. `wrong` keeps totals that were not constant."""

    lender: Lender
    groups: tuple[GroupId, ...]
    gates: Gates
    on_step: OnStep = nothing
    snapshot: bool = True
    bounds: Bounds = field(default_factory=Bounds)
    counts: Counter[str] = field(default_factory=Counter[str])
    acknowledged: list[int] = field(default_factory=list[int])
    rolled_back: list[int] = field(default_factory=list[int])
    unknown: dict[int, str] = field(default_factory=dict[int, str])
    wrong: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    _number: int = 0

    @property
    def total(self) -> int:
        """What every consistent look must see."""
        return len(self.groups) * ACCOUNTS * START

    def transaction(self, isolation: str = "read committed", *, explicit: bool = True) -> Transaction:
        """A new transaction over the bank's groups."""
        return Transaction(
            self.lender, self.groups, gates=self.gates, isolation=isolation, snapshot=self.snapshot,
            explicit=explicit, on_step=self.on_step, bounds=self.bounds,
        )  # fmt: skip

    async def setup(self) -> None:
        """Tables, accounts and foreign tables to the other groups' accounts, in every group."""
        for group in self.groups:
            link = await self.lender.lend(group)
            await link.run(
                "DROP TABLE IF EXISTS public.bank, public.ledger CASCADE; "
                "CREATE TABLE public.bank (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0)); "
                "CREATE TABLE public.ledger (number int PRIMARY KEY); "
                f"INSERT INTO public.bank SELECT i, {START} FROM generate_series(1, {ACCOUNTS}) i"
            )
            for other in self.groups:
                await link.run(f"DROP FOREIGN TABLE IF EXISTS public.bank_{other}")
                if other != group:
                    await link.run(
                        f"CREATE FOREIGN TABLE public.bank_{other} (id int, balance int) SERVER group_{other} "
                        "OPTIONS (schema_name 'public', table_name 'bank')"
                    )
            self.lender.give_back(link, reusable=True)

    async def transfer(self, chance: random.Random) -> None:
        """Move money between two or three groups; count how it ended."""
        self._number += 1
        number = self._number
        size = 3 if len(self.groups) > 2 and chance.random() < 0.2 else 2
        groups = chance.sample(self.groups, size)
        tx = self.transaction()
        try:
            for at, group in enumerate(groups):
                link = await tx.branch(group)
                amount = size - 1 if at == 0 else -1
                account = chance.randint(1, ACCOUNTS)
                await link.run(f"INSERT INTO public.ledger VALUES ({number})")
                await link.run(f"UPDATE public.bank SET balance = balance - ({amount}) WHERE id = {account}")
            await tx.commit()
        except OutcomeUnknown:
            self.unknown[number] = tx.id
            self.counts["unknown"] += 1
        except (ServerError, GroupDown) as error:
            await tx.rollback()
            if isinstance(error, ServerError) and error.code not in (*_RETRY, "23514", "25P02"):
                raise
            self.rolled_back.append(number)
            self.counts["rolled back"] += 1
        except PgherdError:
            await tx.rollback()
            self.rolled_back.append(number)
            self.counts["rolled back"] += 1
        else:
            self.acknowledged.append(number)
            self.counts[f"committed over {size} groups"] += 1

    async def look(self, kind: str) -> None:
        """Read the total in one of the ways in which an application can; note it if it is wrong."""
        looks: dict[str, Callable[[], Awaitable[int]]] = {
            "scattered": self.look_scattered,
            "repeatable read": self.look_repeatable,
            "federated": self.look_federated,
            "among own writes": self.look_among_own_writes,
        }
        try:
            total = await looks[kind]()
        except (SnapshotBusy, GroupDown, Refused):
            self.counts[f"{kind}: no look"] += 1
            return
        except ServerError as error:
            if error.code not in _RETRY and error.code[:2] != "08":
                raise
            self.counts[f"{kind}: no look"] += 1
            return
        self.counts[f"{kind}: looks"] += 1
        if total != self.total:
            self.wrong.append((kind, total))

    async def look_scattered(self) -> int:
        """One READ COMMITTED statement over all groups, outside of a transaction."""
        async with self.transaction(explicit=False).reading(self.groups) as links:
            return _sum(
                await asyncio.gather(
                    *(link.run("SELECT sum(balance) FROM public.bank") for link in links.values())
                )
            )

    async def look_repeatable(self) -> int:
        """A REPEATABLE READ transaction that reads group after group, slowly."""
        tx = self.transaction("repeatable read")
        try:
            parts: list[list[Row]] = []
            for group in self.groups:
                link = await tx.branch(group, write=False)
                parts.append(await link.run("SELECT sum(balance) FROM public.bank"))
            await tx.commit()
            return _sum(parts)
        finally:
            await tx.rollback()

    async def look_federated(self) -> int:
        """One statement on one node, which fetches the rest through postgres_fdw."""
        async with self.transaction(explicit=False).federated(self.groups[0], self.groups) as link:
            tables = ["bank"] + [f"bank_{group}" for group in self.groups if group != link.group]
            union = " UNION ALL ".join(f"SELECT balance FROM public.{table}" for table in tables)
            return _sum([await link.run(f"SELECT sum(balance) FROM ({union}) AS every")])

    async def look_among_own_writes(self) -> int:
        """A READ COMMITTED transaction that has moved money itself and must see that in its look."""
        tx = self.transaction()
        try:
            for group, amount in ((self.groups[0], 1), (self.groups[1], -1)):
                link = await tx.branch(group)
                await link.run("SET LOCAL lock_timeout = '300ms'")
                await link.run(f"UPDATE public.bank SET balance = balance + ({amount}) WHERE id = 1")
            async with tx.reading(self.groups) as links:
                parts = await asyncio.gather(
                    *(link.run("SELECT sum(balance) FROM public.bank") for link in links.values())
                )
            return _sum(parts)
        finally:
            await tx.rollback()

    async def run(
        self, seconds: float, *, movers: int = 4, kinds: tuple[str, ...] = (), seed: int = 1
    ) -> None:
        """Movers and one looker for each of `kinds`, side by side, for so long."""
        clock = asyncio.get_running_loop()
        end = clock.time() + seconds

        async def mover(number: int) -> None:
            chance = random.Random(seed * 100 + number)
            while clock.time() < end:
                await self.transfer(chance)

        async def looker(kind: str) -> None:
            while clock.time() < end:
                await self.look(kind)

        async with asyncio.TaskGroup() as tasks:
            for number in range(movers):
                tasks.create_task(mover(number))
            for kind in kinds:
                tasks.create_task(looker(kind))

    async def check(self) -> None:
        """After recovery: the total is right, no transfer is half done, nothing acknowledged is missing.

        Raises AssertionError with the transfers' numbers.
        """
        total = 0
        ledgers: Counter[int] = Counter()
        for group in self.groups:
            link = await self.lender.lend(group)
            total += _sum([await link.run("SELECT sum(balance) FROM public.bank")])
            ledgers.update(int(row[0] or 0) for row in await link.run("SELECT number FROM public.ledger"))
            self.lender.give_back(link, reusable=True)
        assert total == self.total, f"the total is {total}, not {self.total}"
        half = [number for number, times in ledgers.items() if times < 2]
        assert not half, f"half done: {half}"
        lost = [number for number in self.acknowledged if number not in ledgers]
        assert not lost, f"acknowledged but gone: {lost}"
        ghosts = [number for number in self.rolled_back if number in ledgers]
        assert not ghosts, f"reported as rolled back but there: {ghosts}"


def _sum(parts: list[list[Row]]) -> int:
    return sum(int(rows[0][0] or 0) for rows in parts)
