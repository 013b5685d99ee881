"""What applications do while things break, and what must hold afterwards.

Each workload has `setup`, `run` (until the event is set; several may run at once) and `check` (a list of violations, empty if all is well).
`counts` says how much it did.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncpg

from pgherd.errors import PgherdError
from pgherd.testing.chaos.faces import LOST, STATEMENT_S, Face, Outcome, Session, outcome_of
from pgherd.testing.cycles import Append, Done, Read, check

ERRORS = (PgherdError, asyncpg.PostgresError, TimeoutError, *LOST)
PAUSE_S = 0.05  # between two tries of a session that failed


class Workload(Protocol):
    """See the module."""

    name: str
    counts: Counter[str]

    async def setup(self, session: Session) -> None: ...
    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None: ...
    async def check(self, session: Session) -> list[str]: ...


async def again_and_again(
    face: Face,
    stop: asyncio.Event,
    job: Callable[[Any], Awaitable[None]],
    *,
    read: str = "strong",
    lost: Callable[[BaseException], None] = lambda _: None,
) -> None:
    """Run `job` on one session after another until `stop`; `job` returns or raises when it wants a new session."""
    while not stop.is_set():
        try:
            async with face.session(read) as session:
                while not stop.is_set():
                    await job(session)
        except ERRORS as error:
            outcome_of(error)  # Hanging, and faults of our own, are not swallowed
            lost(error)
            await asyncio.sleep(PAUSE_S)


async def tried(action: Awaitable[Any]) -> tuple[Outcome, BaseException | None]:
    """How an action ended. Raises Hanging."""
    try:
        async with asyncio.timeout(2 * STATEMENT_S):
            await action
    except ERRORS as error:
        return outcome_of(error), error
    return "done", None


@dataclass
class Inserts:
    """A set of numbered rows, inserted one by one: what was acknowledged is there, what was refused is not."""

    name: str = "set"
    counts: Counter[str] = field(default_factory=Counter[str])
    done: dict[Outcome, set[int]] = field(
        default_factory=lambda: {"done": set(), "refused": set(), "unknown": set()}
    )
    moments: list[float] = field(default_factory=list[float])  # when an insert was acknowledged, loop time
    errors: Counter[str] = field(default_factory=Counter[str])
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def setup(self, session: Session) -> None:
        await session.execute("DROP TABLE IF EXISTS chaos_set")
        await session.execute(
            "CREATE TABLE chaos_set (id bigint PRIMARY KEY, by text NOT NULL) PARTITION BY HASH (id)"
        )

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop()

        async def insert(session: Session) -> None:
            number = next(self._numbers)
            how, error = await tried(
                session.execute("INSERT INTO chaos_set VALUES ($1, $2)", number, face.name)
            )
            self.done[how].add(number)
            self.counts[f"{face.name} {how}"] += 1
            if error is not None:
                self.errors[f"{face.name}: {type(error).__name__}: {str(error)[:100]}"] += 1
                raise error
            self.moments.append(clock.time())

        def lost(error: BaseException) -> None:
            self.errors[f"{face.name}, its session: {type(error).__name__}: {str(error)[:100]}"] += 1

        await again_and_again(face, stop, insert, lost=lost)

    async def check(self, session: Session) -> list[str]:
        there = Counter(row[0] for row in await session.fetch("SELECT id FROM chaos_set"))
        return [
            *_listed("acknowledged inserts are lost", self.done["done"] - there.keys()),
            *_listed("refused inserts are there", self.done["refused"] & there.keys()),
            *_listed("inserts are there twice", (number for number, count in there.items() if count > 1)),
        ]


@dataclass
class Transfers:
    """The bank: money moves between shards; each transfer leaves two numbered ledger rows; every look sees the same total."""

    name: str = "bank"
    accounts: int = 24
    start: int = 1000
    counts: Counter[str] = field(default_factory=Counter[str])
    done: dict[Outcome, set[int]] = field(
        default_factory=lambda: {"done": set(), "refused": set(), "unknown": set()}
    )
    wrong: list[str] = field(default_factory=list[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def setup(self, session: Session) -> None:
        await session.execute("DROP TABLE IF EXISTS chaos_money, chaos_ledger")
        await session.execute(
            "CREATE TABLE chaos_money (id bigint PRIMARY KEY, v int NOT NULL) PARTITION BY HASH (id)"
        )
        await session.execute(
            "CREATE TABLE chaos_ledger (number bigint, side int, PRIMARY KEY (number, side)) "
            "PARTITION BY HASH (number, side)"
        )
        await session.execute(
            f"INSERT INTO chaos_money SELECT n, {self.start} FROM generate_series(1, {self.accounts}) n"
        )

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        chance = random.Random(seed)

        async def step(session: Session) -> None:
            if chance.random() < 0.2:
                await self._look(face, session)
            else:
                await self._transfer(face, session, chance)

        await again_and_again(face, stop, step)

    async def _transfer(self, face: Face, session: Session, chance: random.Random) -> None:
        number = next(self._numbers)
        one, two = sorted(chance.sample(range(1, self.accounts + 1), 2))

        async def move() -> None:
            async with session.transaction():
                await session.execute("INSERT INTO chaos_ledger VALUES ($1, 0)", number)
                await session.execute("INSERT INTO chaos_ledger VALUES ($1, 1)", number)
                await session.execute("UPDATE chaos_money SET v = v - 1 WHERE id = $1", one)
                await session.execute("UPDATE chaos_money SET v = v + 1 WHERE id = $1", two)

        how, error = await tried(move())
        self.done[how].add(number)
        self.counts[f"{face.name} {how}"] += 1
        if error is not None:
            self.errors[f"{face.name}: {type(error).__name__}: {str(error)[:100]}"] += 1
            if getattr(error, "sqlstate", "") not in ("40001", "40P01"):
                raise error

    async def _look(self, face: Face, session: Session) -> None:
        total = await session.fetchval("SELECT sum(v) FROM chaos_money")
        self.counts[f"{face.name} looks"] += 1
        if total != self.accounts * self.start:
            self.wrong.append(f"a look through {face.name} saw {total}")

    async def check(self, session: Session) -> list[str]:
        rows = await session.fetch("SELECT number, count(*) FROM chaos_ledger GROUP BY number")
        sides = {row[0]: row[1] for row in rows}
        total = await session.fetchval("SELECT sum(v) FROM chaos_money")
        return [
            *self.wrong,
            *([] if total == self.accounts * self.start else [f"in the end the total is {total}"]),
            *_listed(
                "acknowledged transfers are lost", (n for n in self.done["done"] if sides.get(n, 0) != 2)
            ),
            *_listed("refused transfers are there", (n for n in self.done["refused"] if n in sides)),
            *_listed("half transfers", (n for n, count in sides.items() if count != 2)),
        ]


@dataclass
class Lists:
    """List-append under REPEATABLE READ: the history must have no cycle that snapshot isolation forbids."""

    name: str = "list-append"
    keys: int = 9
    counts: Counter[str] = field(default_factory=Counter[str])
    history: list[Done] = field(default_factory=list[Done])
    _ids: itertools.count[int] = field(default_factory=itertools.count)
    _values: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def setup(self, session: Session) -> None:
        await session.execute("DROP TABLE IF EXISTS chaos_lists")
        await session.execute(
            "CREATE TABLE chaos_lists (k bigint PRIMARY KEY, v text NOT NULL) PARTITION BY HASH (k)"
        )
        await session.execute(
            f"INSERT INTO chaos_lists SELECT k, '' FROM generate_series(0, {self.keys - 1}) k"
        )

    async def run(self, face: Face, seed: int, stop: asyncio.Event) -> None:
        chance = random.Random(seed)

        async def one(session: Session) -> None:
            operations: list[Append | Read] = []
            how, error = await tried(self._transact(session, chance, operations))
            self.counts[f"{face.name} {how}"] += 1
            outcome = {"done": "committed", "refused": "aborted", "unknown": "unknown"}[how]
            self.history.append(Done(next(self._ids), tuple(operations), outcome))  # type: ignore[arg-type]
            if error is not None and getattr(error, "sqlstate", "") not in ("40001", "40P01"):
                raise error

        await again_and_again(face, stop, one)

    async def _transact(self, session: Session, chance: random.Random, done: list[Append | Read]) -> None:
        async with session.transaction(isolation="repeatable_read"):
            for key in chance.sample(range(self.keys), chance.randint(2, 4)):
                if chance.random() < 0.5:
                    value = next(self._values)
                    done.append(Append(key, value))  # even if it fails half way
                    await session.execute("UPDATE chaos_lists SET v = v || $2 WHERE k = $1", key, f" {value}")
                else:
                    done.append(await self._read(session, key))

    async def _read(self, session: Session, key: int) -> Read:
        text = await session.fetchval("SELECT v FROM chaos_lists WHERE k = $1", key)
        return Read(key, tuple(int(value) for value in text.split()))

    async def check(self, session: Session) -> list[str]:
        async with session.transaction(isolation="repeatable_read"):
            reads = [await self._read(session, key) for key in range(self.keys)]
        history = [*self.history, Done(next(self._ids), tuple(reads))]
        return [f"{anomaly.kind}: {anomaly.detail}" for anomaly in check(history)]


def _listed(what: str, numbers: Iterable[int]) -> list[str]:
    found = sorted(numbers)
    return [f"{len(found)} {what}: {found[:10]}"] if found else []
