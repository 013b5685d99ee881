"""What can go wrong, drawn from a seed: each fault is begun, lasts a while, and is mended.

A fault is a small value; `World` (world.py) does what it says. Faults of a round may overlap, but at most one of them takes
away a node for good measure from each group: more than one lost node at once is more than a group promises to survive.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill postgres",
    "kill patroni",
    "kill supervisor",
    "freeze postgres",
    "freeze patroni",
    "burn host",
    "freeze host",
    "unplug host",
    "cut from etcd",
    "cut from replicas",
    "cut from gateway",
    "cut from client",
    "one way to replicas",
    "one way from replicas",
    "lossy host",
    "kill etcd member",
    "freeze etcd",
    "kill gateway",
    "freeze gateway",
    "switchover",
]

# faults of one node, that its group must survive; of all others a group may have one beside it
NODE: tuple[Kind, ...] = (
    "kill postgres", "kill patroni", "kill supervisor", "freeze postgres", "freeze patroni", "burn host", "freeze host",
    "unplug host", "cut from etcd", "cut from replicas", "one way to replicas", "one way from replicas",
)  # fmt: skip
LIGHT: tuple[Kind, ...] = (
    "cut from gateway",
    "cut from client",
    "lossy host",
    "kill etcd member",
    "freeze etcd",
    "kill gateway",
    "freeze gateway",
)
ALL: tuple[Kind, ...] = (*NODE, *LIGHT, "switchover")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`group` concerned; `on_primary`: its primary at that moment, else a standby; seconds from the round's beginning."""

    kind: Kind
    group: int
    on_primary: bool
    begin_s: float
    last_s: float

    def __str__(self) -> str:
        whom = (
            f" of group {self.group}'s {'primary' if self.on_primary else 'standby'}"
            if self.kind in NODE
            else ""
        )
        return f"{self.kind}{whom} from {self.begin_s:.1f} s for {self.last_s:.1f} s"


def draw(seed: int, groups: int, kinds: tuple[Kind, ...] = ALL) -> tuple[Fault, ...]:
    """One round's faults: for each group perhaps one of a node, and up to two light ones, overlapping in time."""
    chance = random.Random(f"faults {seed}")
    heavy: list[Kind] = [kind for kind in kinds if kind in NODE or kind == "switchover"]
    light: list[Kind] = [kind for kind in kinds if kind in LIGHT]
    hit = [group for group in range(groups) if heavy and chance.random() < 0.75]
    found = [_fault(chance, chance.choice(heavy), group) for group in hit]
    some = chance.sample(light, min(len(light), chance.randint(0 if found else 1, 2)))
    found += [_fault(chance, kind, chance.randrange(groups)) for kind in some]
    found = found or [_fault(chance, chance.choice(kinds), chance.randrange(groups))]
    return tuple(sorted(found, key=lambda fault: fault.begin_s))


def _fault(chance: random.Random, kind: Kind, group: int) -> Fault:
    return Fault(
        kind=kind,
        group=group,
        on_primary=chance.random() < 0.8,
        begin_s=round(chance.uniform(0.5, 3.0), 2),
        last_s=round(chance.choice((0.3, 2.0, 5.0, 9.0)) * chance.uniform(0.8, 1.2), 2),
    )
