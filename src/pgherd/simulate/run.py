"""Run the simulation: rounds of decisions over a world, and what was seen at each hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pgherd.balance.decide import decide
from pgherd.balance.decision import Nothing
from pgherd.balance.memory import Memory, Round
from pgherd.simulate.world import World

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`round_s` between two rounds while nothing is under way; `busy_s` at least while something is."""

    round_s: float = 600.0
    busy_s: float = 60.0


@dataclass(slots=True)
class Hour:
    """One hour: balance at its end as max/mean over the groups, and what was done in it."""

    hour: int
    load_balance: float = 1.0
    size_balance: float = 1.0
    shards: int = 0
    moved_bytes: float = 0.0
    splits: int = 0
    moves: int = 0
    merges: int = 0


@dataclass(slots=True)
class Report:
    """What a run showed. `reasons` counts decisions by kind and code; `told` are the first few sentences of each."""

    before: dict[str, float] = field(default_factory=dict[str, float])
    after: dict[str, float] = field(default_factory=dict[str, float])
    hours: list[Hour] = field(default_factory=list[Hour])
    rounds: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    told: dict[str, str] = field(default_factory=dict[str, str])

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = asdict(self)
        found["reasons"] = dict(sorted(self.reasons.items()))
        return found


def run(
    world: World, *, days: float, pace: Pace | None = None, decider: Callable[..., Round] = decide,
    progress: Callable[[float], None] = lambda _: None,
) -> Report:  # fmt: skip
    """Simulate so many days. `decider` is `decide`, or something that wraps it; `progress` hears the part that is done."""
    pace, report, memory = pace or Pace(), Report(), Memory()
    end_s, hour = days * 24 * HOUR_S, Hour(0)
    report.before = balance(world)
    seen = (dict(world.done), world.moved_bytes)
    while world.now_s < end_s:
        made = decider(world.picture(), memory)
        memory = made.memory
        _note(report, made)
        for action in made.actions:
            if not isinstance(action, Nothing):
                world.begin(action)
        ahead = world.next_end_s
        next_s = world.now_s + pace.round_s
        if ahead is not None:
            next_s = min(next_s, max(ahead, world.now_s + pace.busy_s))
        world.pass_until(min(next_s, end_s))
        if world.now_s >= (hour.hour + 1) * HOUR_S or world.now_s >= end_s:
            seen = _close(report, world, hour, seen)
            hour = Hour(int(world.now_s // HOUR_S))
            progress(world.now_s / end_s)
    report.after = balance(world)
    return report


def _note(report: Report, made: Round) -> None:
    report.rounds += 1
    for decision in made.news:
        name = f"{decision.kind} {decision.code}"
        report.reasons[name] += 1
        report.told.setdefault(name, decision.reason)


def _close(
    report: Report, world: World, hour: Hour, seen: tuple[dict[str, int], float]
) -> tuple[dict[str, int], float]:
    now = balance(world)
    hour.load_balance, hour.size_balance = now["load_balance"], now["size_balance"]
    hour.shards, hour.moved_bytes = len(world.shards), world.moved_bytes - seen[1]
    hour.splits = world.done["split"] - seen[0]["split"]
    hour.moves = world.done["move"] - seen[0]["move"]
    hour.merges = world.done["merge"] - seen[0]["merge"]
    report.hours.append(hour)
    return dict(world.done), world.moved_bytes


def balance(world: World) -> dict[str, float]:
    """How even the groups truly are: max/mean of load and of bytes; and how much there is."""
    loads, sizes = world.totals()
    return {
        "load_balance": round(max(loads) * len(loads) / max(sum(loads), 1e-9), 4),
        "size_balance": round(max(sizes) * len(sizes) / max(sum(sizes), 1e-9), 4),
        "load": round(sum(loads), 3),
        "bytes": round(sum(sizes)),
        "shards": len(world.shards),
        "moved_bytes": round(world.moved_bytes),
    }
