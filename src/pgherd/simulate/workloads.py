"""Keys and how much they are used: zipf, a wandering hot spot, keys that only grow, surnames.

A workload cuts its key space into cells that are never divided: one key, or a small range of keys. It answers for a moment
how busy each cell is and how many bytes lie in it, as sums from the left, so that a shard's part is a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol, cast

from faker.providers.person.en_US import Provider

from pgherd.balance.settings import GIB
from pgherd.catalog.model import Key

DAY_S = 86400.0
CELLS_PER_SHARD = 4
MEAN_BYTES = 2 * GIB  # of a shard at the start


@dataclass(frozen=True, slots=True)
class Use:
    """Sums from the left: `load[i]` and `bytes[i]` are those of all cells before i, in busy seconds per second and bytes.

    `factor` multiplies every load: the time of the day. `end` is the first cell that does not exist yet, `appended` the part
    of the writes that come to the last one, `writes` their part of the statements.
    """

    load: Sequence[float]
    bytes: Sequence[float]
    factor: float
    end: int
    appended: float = 0.0
    writes: float = 0.2


class Workload(Protocol):
    """What the simulated world is used for."""

    @property
    def key_types(self) -> tuple[str, ...]:
        """The types of the key's columns."""
        ...

    @property
    def keys(self) -> Sequence[Key]:
        """Where each cell begins, in order."""
        ...

    def bounds(self, shards: int) -> list[int]:
        """The cells at which shards begin at first, without the first one's."""
        ...

    def use(self, now_s: float) -> Use:
        """How the cells are used at a moment."""
        ...


def day(now_s: float) -> float:
    """The part of the peak at a time of the day: least at 4, most at 16 o'clock."""
    return 0.7 - 0.3 * math.cos((now_s / DAY_S - 4 / 24) * 2 * math.pi)


def even_bounds(cells: int, shards: int) -> list[int]:
    """So many shards of equally many cells."""
    return sorted({cells * number // shards for number in range(1, shards)} - {0})


class Zipf:
    """Keys of very different popularity (Zipf's law, exponent 0.8), in no order; it changes with the time of the day alone."""

    def __init__(self, shards: int, load: float, chance: Random) -> None:
        self.key_types = ("bigint",)
        cells = shards * CELLS_PER_SHARD
        self.keys: Sequence[Key] = [(number * 1000,) for number in range(cells)]
        weights = [1 / rank**0.8 for rank in range(1, cells + 1)]
        chance.shuffle(weights)
        total = sum(weights)
        self._load = [0.0, *accumulate(weight / total * load for weight in weights)]
        sizes = [chance.uniform(0.5, 1.5) * MEAN_BYTES / CELLS_PER_SHARD for _ in range(cells)]
        self._bytes = [0.0, *accumulate(sizes)]

    def bounds(self, shards: int) -> list[int]:
        return even_bounds(len(self.keys), shards)

    def use(self, now_s: float) -> Use:
        return Use(self._load, self._bytes, day(now_s), len(self.keys))


class Hotspot:
    """All keys alike, but half of the load goes to a hundredth of them, which is elsewhere every day."""

    def __init__(self, shards: int, load: float, chance: Random) -> None:
        self.key_types = ("bigint",)
        cells = shards * CELLS_PER_SHARD
        self.keys: Sequence[Key] = [(number * 1000,) for number in range(cells)]
        self._bytes = [0.0, *accumulate([MEAN_BYTES / CELLS_PER_SHARD] * cells)]
        self._total, self._seed = load, chance.random()
        self._day, self._load = -1, [0.0]

    def bounds(self, shards: int) -> list[int]:
        return even_bounds(len(self.keys), shards)

    def use(self, now_s: float) -> Use:
        number = int(now_s // DAY_S)
        if number != self._day:
            cells = len(self.keys)
            width = max(1, cells // 100)
            start = Random(f"{self._seed} {number}").randrange(cells - width + 1)
            rates = [0.5 * self._total / cells] * cells
            for cell in range(start, start + width):
                rates[cell] += 0.5 * self._total / width
            self._day, self._load = number, [0.0, *accumulate(rates)]
        return Use(self._load, self._bytes, day(now_s), len(self.keys))


class Growing:
    """Keys are times: new rows come at the end, and what was written lately is read most. A tenth more comes to be in seven days."""

    def __init__(self, shards: int, load: float, days: float) -> None:
        self.key_types = ("timestamp with time zone",)
        old = shards * CELLS_PER_SHARD
        new = max(CELLS_PER_SHARD * 4, int(old * 0.1 * days / 7))
        self._cell_s = days * DAY_S / new
        self._old, self._load_total, self._at = old, load, -1
        step = int(self._cell_s * 1e6)
        self.keys: Sequence[Key] = [((number - old) * step,) for number in range(old + new + old // 20 + 4)]
        self._all = [0.0, *accumulate([MEAN_BYTES / CELLS_PER_SHARD] * len(self.keys))]
        recent = max(4, old // 10)  # reads fade with age
        self._by_age = [
            0.2 / (old + new) + 0.8 * math.exp(-age / recent) / recent for age in range(len(self.keys))
        ]
        self._load, self._bytes = [0.0], [0.0]

    def bounds(self, shards: int) -> list[int]:
        return even_bounds(self._old, shards)

    def use(self, now_s: float) -> Use:
        end = min(self._old + int(now_s / self._cell_s) + 1, len(self.keys))
        if end != self._at:
            ages, rest = self._by_age[end - 1 :: -1], len(self.keys) - end
            self._load = [0.0, *accumulate(weight * self._load_total for weight in ages)]
            self._load += [self._load[-1]] * rest
            self._bytes = self._all[: end + 1] + [self._all[end]] * rest
            self._at = end
        return Use(self._load, self._bytes, day(now_s), end, appended=0.97, writes=0.3)


class Surnames:
    """People by (last_name, id), with American surnames at their real frequencies, cut evenly by the alphabet at first.

    On the second day names from A to M begin to be used three times as much, within some hours.
    """

    IDS = 64

    def __init__(self, shards: int, load: float) -> None:
        self.key_types = ("text", "bigint")
        names = dict(sorted(cast(Mapping[str, float], Provider.last_names).items()))
        ids = max(self.IDS, CELLS_PER_SHARD * shards // len(names) + 1)
        total = sum(names.values())
        self.keys: Sequence[Key] = [(name, part * 1_000_000) for name in names for part in range(ids)]
        rates = [names[name] / total / ids for name in names for _ in range(ids)]
        self._bytes = [0.0, *accumulate(rate * shards * MEAN_BYTES for rate in rates)]
        self._base = [rate * load for rate in rates]
        self._first_n = next(at for at, key in enumerate(self.keys) if str(key[0]) >= "N")
        self._rise, self._load = -1.0, [0.0]

    def bounds(self, shards: int) -> list[int]:
        return even_bounds(len(self.keys), shards)

    def use(self, now_s: float) -> Use:
        rise = round(1 + 2 * min(1.0, max(0.0, (now_s - DAY_S) / (DAY_S / 4))), 1)
        if rise != self._rise:
            rates = [rate * rise for rate in self._base[: self._first_n]] + self._base[self._first_n :]
            self._rise, self._load = rise, [0.0, *accumulate(rates)]
        return Use(self._load, self._bytes, day(now_s), len(self.keys))


NAMES = ("zipf", "hotspot", "growing", "surnames")


def make(name: str, *, shards: int, days: float, load: float, chance: Random) -> Workload:
    """The workload of that name; `load` is busy seconds per second of all groups together at the peak. Raises KeyError."""
    makers = {
        "zipf": lambda: Zipf(shards, load, chance),
        "hotspot": lambda: Hotspot(shards, load, chance),
        "growing": lambda: Growing(shards, load, days),
        "surnames": lambda: Surnames(shards, load),
    }
    return makers[name]()
