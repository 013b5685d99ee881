"""Contestants take turns, round after round; medians and ratios of what they reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.figures import Aim, Figure, Reached
from bench.watch import Watch, spent

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn did: `count` statements in `seconds`. `cpu`: seconds of CPU by part, where the contestant knows better."""

    count: int
    seconds: float
    cpu: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Contestant:
    """`run(seconds)` takes one turn. `parts`: whose CPU time counts for it."""

    name: str
    run: Callable[[float], Awaitable[Turn]]
    parts: tuple[str, ...] = ("client", "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How often and how long; `unit` "/s" compares rates, "ms" and "µs" the time of one statement."""

    rounds: int
    seconds: float
    watch: Watch
    unit: str = "/s"
    warm_up: float = 0.3


async def contest(
    item: str,
    name: str,
    contestants: Sequence[Contestant],
    terms: Terms,
    aims: Sequence[Aim] = (),
    note: str = "",
) -> Figure:
    """Let the contestants take turns (the first is pgherd; who begins changes); ratios are medians over rounds."""
    turns: dict[str, list[Turn]] = {contestant.name: [] for contestant in contestants}
    for contestant in contestants if terms.warm_up < terms.seconds else ():
        await _watched(contestant, terms.warm_up, terms.watch)
    for number in range(terms.rounds):
        at = number % len(contestants)
        for contestant in (*contestants[at:], *contestants[:at]):
            turns[contestant.name].append(await _watched(contestant, terms.seconds, terms.watch))
    reached = {contestant.name: _reached(turns[contestant.name], terms.unit) for contestant in contestants}
    return Figure(
        item=item,
        name=name,
        unit=terms.unit,
        reached=reached,
        ratios=ratios(reached),
        aims=tuple(aim for aim in aims if aim.against in reached),
        note=note,
    )


def ratios(reached: Mapping[str, Reached]) -> dict[str, float]:
    """The first one's rounds divided by each other one's of the same round; their median."""
    first, *others = reached
    ours = reached[first].rounds
    return {
        name: median(a / b if b else float("nan") for a, b in zip(ours, reached[name].rounds, strict=True))
        for name in others
    }


async def _watched(contestant: Contestant, seconds: float, watch: Watch) -> Turn:
    before = watch.read()
    turn = await contestant.run(seconds)
    cpu = {**spent(before, watch.read()), **turn.cpu}
    return Turn(
        count=turn.count,
        seconds=turn.seconds,
        cpu={part: cpu[part] for part in contestant.parts if part in cpu},
    )


def _reached(turns: Sequence[Turn], unit: str) -> Reached:
    values = [_value(turn, unit) for turn in turns]
    parts = turns[0].cpu
    cpu = {part: median(turn.cpu[part] * 1e6 / max(1, turn.count) for turn in turns) for part in parts}
    return Reached(median=median(values), rounds=tuple(values), cpu_us=cpu)


def _value(turn: Turn, unit: str) -> float:
    if unit == "/s":
        return turn.count / turn.seconds
    return turn.seconds * {"ms": 1e3, "µs": 1e6}[unit] / max(1, turn.count)


async def side_by_side(steps: Sequence[Step], seconds: float) -> Turn:
    """Each step again and again in a task of its own, until the time is over."""
    begun = time.perf_counter()
    deadline = begun + seconds

    async def repeat(step: Step) -> int:
        count = 0
        while time.perf_counter() < deadline:
            await step()
            count += 1
        return count

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(repeat(step)) for step in steps]
    return Turn(count=sum(task.result() for task in running), seconds=time.perf_counter() - begun)


async def once(step: Step) -> Turn:
    """One step, timed."""
    begun = time.perf_counter()
    await step()
    return Turn(count=1, seconds=time.perf_counter() - begun)
