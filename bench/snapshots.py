"""What consistent snapshots over groups cost: the readers' latency, idle and under writers, and the writers' rate beside readers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import median, quantiles

import asyncpg

import pgherd
from bench.accounts import Accounts, accounts, through_client
from bench.contest import Contestant, Step, Terms, Turn, contest, ratios, side_by_side
from bench.figures import Aim, Figure, Reached
from bench.ground import Ground
from bench.readers import bare, by_snapshot

PLACE = "grouped"
PACED_S = 0.05
LATENCY_NOTE = (
    "one reader at a time; a REPEATABLE READ transaction with one small read of both groups, begin to end"
)
READERS_NOTE = (
    "writers: 8 tasks with transfers over two groups, client; readers: a process of its own, 8 tasks"
)


async def run(ground: Ground) -> list[Figure]:
    """Six figures."""
    made = await accounts(ground)
    async with pgherd.connect(made.place.dsn, max_size=ground.effort.clients + 2) as db:
        figures = await _latency(ground, made, db, "idle")
        async with _writing(made, db, ground.effort.clients):
            figures += await _latency(ground, made, db, "under writers")
        return [*figures, *await _beside_readers(ground, made, db)]


# ---- latency ---------------------------------------------------------------------------------------------


async def _latency(ground: Ground, made: Accounts, db: pgherd.client.Database, when: str) -> list[Figure]:
    straight = [await asyncpg.connect(uri) for uri in made.place.nodes]
    steps = {"pgherd snapshot": by_snapshot(db), "bare reads": bare(straight)}
    taken: dict[str, list[list[float]]] = {name: [] for name in steps}
    for _ in range(ground.effort.rounds):
        for name, step in steps.items():
            taken[name].append(await _timed(step, ground.effort.seconds))
    for connection in straight:
        await connection.close()
    return [
        _figure(f"{when}, {label}", {name: [pick(one) for one in rounds] for name, rounds in taken.items()})
        for label, pick in (("p50", median), ("p99", _p99))
    ]


async def _timed(step: Step, seconds: float) -> list[float]:
    """Milliseconds of each call."""
    found: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(found) < 2 or time.perf_counter() < deadline:
        begun = time.perf_counter()
        await step()
        found.append((time.perf_counter() - begun) * 1000)
    return found


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def _figure(name: str, rounds: Mapping[str, list[float]]) -> Figure:
    reached = {who: Reached(median=median(values), rounds=tuple(values)) for who, values in rounds.items()}
    return Figure(
        item="snapshots", name=name, unit="ms", reached=reached, ratios=ratios(reached), note=LATENCY_NOTE
    )


@asynccontextmanager
async def _writing(made: Accounts, db: pgherd.client.Database, clients: int) -> AsyncGenerator[None]:
    """Transfers in the background during the block."""
    stopped = asyncio.Event()
    step = through_client(made, db)

    async def write() -> None:
        while not stopped.is_set():
            await step()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(write())
        try:
            yield
        finally:
            stopped.set()


# ---- writers beside readers --------------------------------------------------------------------------------


async def _beside_readers(ground: Ground, made: Accounts, db: pgherd.client.Database) -> list[Figure]:
    effort = ground.effort
    terms = Terms(rounds=effort.rounds, seconds=effort.seconds, watch=made.place.watch)
    steps = [through_client(made, db)] * effort.clients
    reads: dict[str, list[float]] = {}

    def beside(kind: str, pause_s: float) -> Contestant:
        name = f"beside 8 {kind} readers"
        rates = reads.setdefault(name, [])
        return Contestant(name, _beside(made, steps, kind, pause_s, rates))

    paced = [beside("snapshot", PACED_S), Contestant("writers alone", _alone(steps))]
    aims = [Aim(against="writers alone", least=0.75)]
    first = await contest("snapshots", f"writers, readers every {PACED_S * 1000:.0f} ms", paced, terms, aims)
    first = replace(first, note=f"{READERS_NOTE}; {_said(reads)}")
    reads.clear()
    nonstop = [beside("snapshot", 0), beside("bare", 0), Contestant("writers alone", _alone(steps))]
    aims = [Aim(against="beside 8 bare readers", least=0.75)]
    second = await contest("snapshots", "writers, readers without pause", nonstop, terms, aims)
    return [first, replace(second, note=f"without pause, readers also take CPU: {_said(reads)}")]


def _said(reads: Mapping[str, list[float]]) -> str:
    return ", ".join(
        f"{name.removeprefix('beside ')} {median(rates):,.0f} reads/s" for name, rates in reads.items()
    )


def _alone(steps: list[Step]) -> Callable[[float], Awaitable[Turn]]:
    async def turn(seconds: float) -> Turn:
        return await side_by_side(steps, seconds)

    return turn


def _beside(
    made: Accounts, steps: list[Step], kind: str, pause_s: float, rates: list[float]
) -> Callable[[float], Awaitable[Turn]]:
    async def turn(seconds: float) -> Turn:
        words = [kind, str(pause_s), "8", made.place.dsn, *made.place.nodes]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.readers", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdin is not None
        if (await process.stdout.readline()).strip() != b"ready":
            raise RuntimeError("the readers do not start")
        done = await side_by_side(steps, seconds)
        process.stdin.close()
        rates.append(int(await process.stdout.readline()) / done.seconds)
        await process.wait()
        return done

    return turn
