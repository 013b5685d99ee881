"""How much each shard is used: counters that gateways and clients keep, add up, let fade and send as JSON.

A counter holds statements, busy seconds and a bounded sample of keys. The sample is taken at even distances of busy time:
each key in it stands for the same number of seconds, so slow and frequent statements are in it as often as they deserve. When
it is full, every other key is dropped and the distance doubles. Everything fades with a half-life.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pgherd.balance.picture import STATEMENT_S, KeySample
from pgherd.catalog import keys
from pgherd.catalog.model import Key, ShardId

SAMPLE_MAX: Final = 128
STEP_S: Final = 20 * STATEMENT_S  # busy seconds between two sampled keys, at first
HALF_LIFE_S: Final = 300.0
KEPT_MAX: Final = (
    3  # times that one statement's key is sampled: a server that stalls once shall not look like a hot key
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLoad:
    """A shard's use: totals that fade, over `span_s` seconds that fade likewise, so total / span is the present rate.

    Each of `sample` stands for `step_s` busy seconds. `writes` are statements, too; of the written keys that were looked at,
    `written`, `appends` were above every key before. `highest` is the highest of them, which (numbers, dates and times) goes up
    by `advance` a second.
    """

    statements: float = 0.0
    seconds: float = 0.0
    writes: float = 0.0
    written: float = 0.0
    appends: float = 0.0
    span_s: float = 0.0
    step_s: float = STEP_S
    sample: tuple[Key, ...] = ()
    highest: Key | None = None
    advance: float = 0.0

    def merged(self, other: ShardLoad) -> ShardLoad:
        """The use that two sources made of the shard at the same time: rates add up. Commutative but for the sample's order."""
        span = max(self.span_s, other.span_s)
        mine = span / self.span_s if self.span_s > 0 else 1.0
        theirs = span / other.span_s if other.span_s > 0 else 1.0
        step, sample = _joined((self.step_s * mine, self.sample), (other.step_s * theirs, other.sample))
        highest = max((key for key in (self.highest, other.highest) if key is not None), default=None)
        return ShardLoad(
            statements=self.statements * mine + other.statements * theirs,
            seconds=self.seconds * mine + other.seconds * theirs,
            writes=self.writes * mine + other.writes * theirs,
            written=self.written + other.written, appends=self.appends + other.appends,
            span_s=span, step_s=step, sample=sample, highest=highest,
            advance=max(self.advance, other.advance),
        )  # fmt: skip

    @property
    def statements_per_s(self) -> float:
        return self.statements / self.span_s if self.span_s > 0 else 0.0

    @property
    def seconds_per_s(self) -> float:
        return self.seconds / self.span_s if self.span_s > 0 else 0.0

    @property
    def write_share(self) -> float:
        """The writes' part of the statements."""
        return self.writes / self.statements if self.statements > 0 else 0.0

    @property
    def appended(self) -> float:
        """The part of the written keys that were above all before; 0 as long as few were seen."""
        return self.appends / self.written if self.written >= 8 else 0.0

    @property
    def keys(self) -> KeySample:
        """The sample, each key with the busy seconds that it stands for."""
        return KeySample.even(self.sample, self.step_s)


def _joined(
    one: tuple[float, tuple[Key, ...]], two: tuple[float, tuple[Key, ...]]
) -> tuple[float, tuple[Key, ...]]:
    """Two samples as one with the same distance for all: the finer one is thinned."""
    if not one[1] or not two[1]:
        return two if not one[1] else one
    step = max(one[0], two[0])
    sample = [*_thinned(one[1], one[0] / step), *_thinned(two[1], two[0] / step)]
    while len(sample) > SAMPLE_MAX:
        sample, step = sample[::2], 2 * step
    return step, tuple(sample)


def _thinned(sample: tuple[Key, ...], share: float) -> list[Key]:
    """Every so many-th key, so that `share` of them stay."""
    due, kept = 0.5, list[Key]()
    for key in sample:
        due += share
        if due >= 1.0:
            due -= 1.0
            kept.append(key)
    return kept


class _Counter:
    """One shard's counter in the process that uses it."""

    __slots__ = (
        "advance", "appends", "before", "highest", "owed", "sample", "seconds", "span_s", "statements", "step", "writes", "written"
    )  # fmt: skip

    def __init__(self) -> None:
        self.statements, self.seconds, self.writes = 0.0, 0.0, 0.0
        self.written, self.appends = 0.0, 0.0
        self.owed, self.step = 0.0, STEP_S
        self.span_s = 0.0  # its own: of a new shard the rate is known at once
        self.sample: list[Key] = []
        self.highest: Key | None = None
        self.before: Key | None = None  # the highest one when time passed last, at first the first one
        self.advance = 0.0

    def move_on(self, elapsed_s: float) -> None:
        """See how far the highest key has gone since last time."""
        if self.before is not None and self.highest is not None and elapsed_s > 0:
            first, last = self.before[0], self.highest[0]
            if isinstance(first, int) and isinstance(last, int):
                self.advance = (self.advance + (last - first) / elapsed_s) / 2
        self.before = self.highest

    def keep(self, key: Key) -> None:
        """Busy time of a step and more has passed: sample this key, once for each step that its statement took, a few times."""
        times = int(self.owed / self.step)
        if times > KEPT_MAX:  # one long statement, among short ones: the distance grows instead
            self.step, times = self.owed / KEPT_MAX, KEPT_MAX
        self.owed -= times * self.step
        self.sample += [key] * times
        if len(self.sample) > SAMPLE_MAX:
            self.sample = self.sample[::2]
            self.step *= 2


class LoadCounters:
    """All shards' counters of one process. The query path records one statement of every `every`."""

    def __init__(self, *, every: int = 1) -> None:
        self.every = every
        self._shards: dict[ShardId, _Counter] = {}

    def record(
        self, shard: ShardId, key: Key | None, seconds: float, write: bool = False, weight: float = 1.0
    ) -> None:
        """One statement: its shard, its key if it has one, how long the server took. It stands for `every`, `weight` times."""
        counter = self._shards.get(shard)
        if counter is None:
            counter = self._shards[shard] = _Counter()
        counter.statements += weight
        counter.seconds += seconds * weight
        if write:
            counter.writes += weight
        if key is None:
            return
        counter.owed += (seconds + STATEMENT_S) * weight
        if counter.owed >= counter.step:
            counter.keep(key)
        if write:
            counter.written += 1.0
            if counter.highest is None or key > counter.highest:
                counter.appends += 1.0
                counter.before = key if counter.highest is None else counter.before
                counter.highest = key

    def pass_time(self, elapsed_s: float, half_life_s: float = HALF_LIFE_S) -> None:
        """Let everything fade; what has all but gone is forgotten. Call it whenever the counters are sent."""
        factor = 0.5 ** (elapsed_s / half_life_s)
        for shard, counter in list(self._shards.items()):
            counter.span_s = (counter.span_s + elapsed_s) * factor
            counter.statements *= factor
            counter.seconds *= factor
            counter.writes *= factor
            counter.written *= factor
            counter.appends *= factor
            counter.step *= factor
            counter.owed *= factor
            counter.move_on(elapsed_s)
            if counter.statements < 0.01:
                del self._shards[shard]

    def loads(self) -> dict[ShardId, ShardLoad]:
        """The use of each shard as it is now."""
        many = float(self.every)
        return {
            shard: ShardLoad(
                statements=counter.statements * many, seconds=counter.seconds * many, writes=counter.writes * many,
                written=counter.written, appends=counter.appends, span_s=counter.span_s, step_s=counter.step * many,
                sample=tuple(counter.sample), highest=counter.highest,
                advance=counter.advance,
            )
            for shard, counter in self._shards.items()
        }  # fmt: skip

    def forget(self, known: Iterable[ShardId]) -> None:
        """Drop the counters of shards that are no more."""
        kept = set(known)
        self._shards = {shard: counter for shard, counter in self._shards.items() if shard in kept}


def merge_all(loads: Iterable[ShardLoad]) -> ShardLoad:
    """The use that several sources made of a shard."""
    total = ShardLoad()
    for load in loads:
        total = total.merged(load)
    return total


def to_json(load: ShardLoad, key_types: tuple[str, ...]) -> dict[str, Any]:
    """A compact document: keys as the texts that PostgreSQL prints, a repeated key once with its count."""
    counts: dict[Key, int] = {}
    for key in load.sample:
        counts[key] = counts.get(key, 0) + 1
    document: dict[str, Any] = {
        "n": round(load.statements, 3), "s": round(load.seconds, 6), "w": round(load.writes, 3),
        "k": round(load.written, 3), "a": round(load.appends, 3), "t": round(load.span_s, 3),
        "e": round(load.step_s, 9), "m": [[count, *_texts(key_types, key)] for key, count in counts.items()],
    }  # fmt: skip
    if load.highest is not None:
        document["h"] = _texts(key_types, load.highest)
        document["v"] = round(load.advance, 3)
    return document


def from_json(document: str | Mapping[str, Any], key_types: tuple[str, ...]) -> ShardLoad:
    """The inverse of `to_json`; keys that another version wrote and this one cannot read are left out."""
    raw: Mapping[str, Any] = json.loads(document) if isinstance(document, str) else document
    sample: list[Key] = []
    for count, *texts in raw.get("m", ()):
        key = _key(key_types, texts)
        if key is not None:
            sample += [key] * int(count)
    highest = _key(key_types, raw["h"]) if "h" in raw else None
    return ShardLoad(
        statements=raw["n"], seconds=raw["s"], writes=raw["w"], written=raw["k"], appends=raw["a"], span_s=raw["t"],
        step_s=raw["e"], sample=tuple(sample), highest=highest,
        advance=raw.get("v", 0.0),
    )  # fmt: skip


def _texts(key_types: tuple[str, ...], key: Key) -> list[str]:
    return [keys.encode_text(key_type, value) for key_type, value in zip(key_types, key, strict=True)]


def _key(key_types: tuple[str, ...], texts: list[str]) -> Key | None:
    try:
        return tuple(
            keys.decode_text(key_type, text) for key_type, text in zip(key_types, texts, strict=True)
        )
    except (keys.Undecodable, ValueError):
        return None
