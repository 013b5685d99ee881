"""The shop's customers: statements that never stop, through gateway and client, counted by name; errors are kept, never retried."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from pgherd.client.database import Database
from pgherd.demo.people import SEED, Crowd
from pgherd.demo.place import Place

CUT = "N"  # where the story cut the table
HOT_SHARE = 0.75  # of all statements are about people whose name comes before it
WRITE_SHARE = 1 / 3
GATEWAY_WORKERS = 4
CLIENT_WORKERS = 4
PAUSE_S = 0.008  # of each worker between two statements: customers, not a stress test
STATEMENT_S = 30.0  # no statement may take longer

READ = "SELECT credit FROM people WHERE last_name = $1 AND id = $2"
WRITE = "UPDATE people SET credit = credit + 1 WHERE last_name = $1 AND id = $2"

Person = tuple[str, int]
Link = asyncpg.Connection | Database


@dataclass(slots=True)
class Traffic:
    """What was sent so far: statements by last name, acknowledged writes, the longest wait (s), errors that a user would have seen."""

    names: Counter[str] = field(default_factory=Counter[str])
    statements: int = 0
    writes: int = 0
    longest_s: float = 0.0
    failed: list[str] = field(default_factory=list[str])

    def told(self) -> str:
        """The two counters that matter, in words."""
        return f"{self.statements:,} statements, {len(self.failed)} failed"


class Customers:
    """Whom the statements are about: three of four have a name before N."""

    def __init__(self, crowd: Crowd) -> None:
        self._names = crowd.last_names
        self._hot = [number for number, name in enumerate(self._names) if name < CUT]
        self._cold = [number for number, name in enumerate(self._names) if name >= CUT]

    def draw(self, chance: random.Random) -> Person:
        """Somebody."""
        number = chance.choice(self._hot if chance.random() < HOT_SHARE else self._cold)
        return self._names[number], number + 1


@asynccontextmanager
async def flowing(place: Place, client: Database, crowd: Crowd) -> AsyncGenerator[Traffic]:
    """Traffic, until the block ends; a statement that is under way then is waited for."""
    traffic, customers, stop = Traffic(), Customers(crowd), asyncio.Event()
    gates = [
        await asyncpg.connect(place.dsn, command_timeout=STATEMENT_S, timeout=30)
        for _ in range(GATEWAY_WORKERS)
    ]
    links: list[Link] = [*gates, *[client] * CLIENT_WORKERS]
    tasks = [
        asyncio.create_task(
            _worker(link, random.Random(f"{SEED} customer {number}"), customers, traffic, stop)
        )
        for number, link in enumerate(links)
    ]
    try:
        yield traffic
    finally:
        stop.set()
        _, late = await asyncio.wait(tasks, timeout=2 * STATEMENT_S)
        for task in late:
            task.cancel()
        if late:
            traffic.failed.append(f"{len(late)} statements never ended")
        for gate in gates:
            await _closed(gate)


async def _worker(
    link: Link, chance: random.Random, customers: Customers, traffic: Traffic, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        person = customers.draw(chance)
        write = chance.random() < WRITE_SHARE
        started = time.monotonic()
        try:
            async with asyncio.timeout(STATEMENT_S):
                await _one(link, person, write=write)
        except Exception as error:  # whatever it is: the user would have seen it
            traffic.failed.append(f"{type(error).__name__}: {error}")
        else:
            traffic.writes += write
        traffic.names[person[0]] += 1
        traffic.statements += 1
        traffic.longest_s = max(traffic.longest_s, time.monotonic() - started)
        await asyncio.sleep(PAUSE_S)


async def _one(link: Link, person: Person, *, write: bool) -> None:
    if not write:
        if await link.fetchval(READ, *person) is None:
            raise LookupError(f"{person[0]} {person[1]} was not found")
    elif (tag := await link.execute(WRITE, *person)) != "UPDATE 1":
        raise LookupError(f"{person[0]} {person[1]}: {tag}")


async def _closed(gate: asyncpg.Connection) -> None:
    try:
        await gate.close(timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        gate.terminate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A shard as pgherd.shards shows it; bounds are last names, None: no bound."""

    id: int
    group: int
    low: str | None
    high: str | None

    @property
    def holds(self) -> str:
        """Its range, in words."""
        return f"{self.low or '-∞'} … {self.high or '+∞'}"

    def has(self, name: str) -> bool:
        """Whether rows of this name lie in it."""
        return (self.low is None or name >= self.low) and (self.high is None or name < self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Statements per second: of each shard, and of each group (also of those without shards)."""

    shards: Sequence[tuple[Piece, float]]
    groups: dict[int, float]

    @property
    def total(self) -> float:
        return sum(self.groups.values())

    @property
    def highest(self) -> float:
        """The busiest group's part of all statements."""
        return max(self.groups.values()) / (self.total or 1.0)


def level(pieces: Sequence[Piece], groups: Sequence[int], names: Counter[str], seconds: float) -> Level:
    """How statements about these names, sent in so many seconds, fall on shards and groups."""
    shards = [
        (piece, sum(count for name, count in names.items() if piece.has(name)) / seconds) for piece in pieces
    ]
    sums = dict.fromkeys(groups, 0.0)
    for piece, rate in shards:
        sums[piece.group] = sums.get(piece.group, 0.0) + rate
    return Level(shards=shards, groups=sums)


async def measured(
    traffic: Traffic, pieces: Callable[[], Awaitable[tuple[Sequence[Piece], Sequence[int]]]], seconds: float
) -> Level:
    """Count for so long, and see where the rows are then."""
    before, started = traffic.names.copy(), time.monotonic()
    await asyncio.sleep(seconds)
    sent = traffic.names - before
    elapsed = time.monotonic() - started
    shards, groups = await pieces()
    return level(shards, groups, sent, elapsed)


def rows_of(rows: Sequence[Any]) -> Sequence[Piece]:
    """Pieces out of rows (id, group_id, low, high)."""
    return [Piece(id=row[0], group=row[1], low=row[2], high=row[3]) for row in rows]
