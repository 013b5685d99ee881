"""Where to cut: the point that halves what a sample of keys weighs, and the end of keys that only grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pgherd.balance.picture import KeySample, ShardPicture
from pgherd.catalog import keys
from pgherd.catalog.model import Key

NEARLY: Final = 0.05  # a shorter, rounder point may be worse by so much of the weight
LEAD_S: Final = 120.0  # a cut at the end lies so far ahead: the copy takes a while


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A point and what lies on its right and on the heavier side, as shares of the weight; and the heaviest single key's share."""

    at: Key | None
    right: float
    side: float
    hottest: Key | None
    hottest_share: float


def inside(shard: ShardPicture, point: Key) -> bool:
    """Whether a range shard can be cut at `point`: strictly between its bounds."""
    return (shard.lower is None or point > shard.lower) and (shard.upper is None or point < shard.upper)


def _held(shard: ShardPicture, key: Key) -> bool:
    return (shard.lower is None or key >= shard.lower) and (shard.upper is None or key < shard.upper)


def mixed(parts: tuple[tuple[KeySample, float], ...], shard: ShardPicture) -> list[tuple[Key, float]]:
    """The distinct keys of a range shard in order, with weights that add up to 1: each sample counts by its factor."""
    weights: dict[Key, float] = {}
    for sample, factor in parts:
        held = [(key, w) for key, w in zip(sample.keys, sample.weights, strict=True) if _held(shard, key)]
        total = sum(weight for _, weight in held)
        if total <= 0 or factor <= 0:
            continue
        for key, weight in held:
            weights[key] = weights.get(key, 0.0) + weight / total * factor
    total = sum(weights.values())
    return [(key, weights[key] / total) for key in sorted(weights)]


def cut_range(shard: ShardPicture, weighted: list[tuple[Key, float]]) -> Cut:
    """The point that halves the weight; among points that are nearly as good, the one with the fewest columns and letters."""
    if not weighted:
        return Cut(at=None, right=0.0, side=1.0, hottest=None, hottest_share=0.0)
    hottest, share = max(weighted, key=lambda item: item[1])
    left, sides = 0.0, list[tuple[float, float, int]]()
    for number in range(
        1, len(weighted)
    ):  # the first key cannot begin the right part: all would be on one side
        left += weighted[number - 1][1]
        sides.append((max(left, 1 - left), 1 - left, number))
    if not sides:
        return Cut(at=None, right=0.0, side=1.0, hottest=hottest, hottest_share=share)
    best = min(sides)[0]
    points = [
        ((len(point), _letters(point)), side, right, point)
        for side, right, number in sides
        if side <= best + NEARLY
        for point in (_shortest(shard, weighted[number - 1][0], weighted[number][0]),)
    ]
    _, side, right, at = min(points, key=lambda item: item[:2])
    return Cut(at=at, right=right, side=side, hottest=hottest, hottest_share=share)


def _letters(point: Key) -> int:
    return len(point[-1]) if isinstance(point[-1], str) else 0


def _shortest(shard: ShardPicture, before: Key, key: Key) -> Key:
    """The shortest point that separates two neighbours, before < point <= key: few columns, few letters."""
    for count in range(1, len(key) + 1):
        point = key[:count]
        if point > before and inside(shard, point):
            return _few_letters(shard, before, point)
    return key


def _few_letters(shard: ShardPicture, before: Key, point: Key) -> Key:
    text = point[-1]
    if not isinstance(text, str):
        return point
    for count in range(1, len(text)):
        shorter = (*point[:-1], text[:count])
        if shorter > before and inside(shard, shorter):
            return shorter
    return point


def cut_hash(shard: ShardPicture, key_types: tuple[str, ...], sample: KeySample) -> Cut:
    """What doubling the modulus does to the weight of the sampled keys."""
    sides, weights = [0.0, 0.0], dict[Key, float]()
    for key, weight in zip(sample.keys, sample.weights, strict=True):
        slot = keys.partition_hash(key_types, key) % (2 * shard.modulus)
        if slot % shard.modulus == shard.remainder:
            sides[slot != shard.remainder] += weight
            weights[key] = weights.get(key, 0.0) + weight
    total = sum(sides)
    if total <= 0:
        return Cut(at=None, right=0.5, side=0.5, hottest=None, hottest_share=0.0)
    hottest = max(weights, key=lambda key: weights[key])
    share = weights[hottest] / total
    return Cut(at=None, right=sides[1] / total, side=max(sides) / total, hottest=hottest, hottest_share=share)


_LARGEST: Final[Mapping[str, int]] = {
    "smallint": 2**15 - 1,
    "integer": 2**31 - 1,
    "bigint": 2**63 - 1,
    "date": 2145031948,
    "timestamp without time zone": 9223371331199999999,
    "timestamp with time zone": 9223371331199999999,
}


def end_point(shard: ShardPicture, key_types: tuple[str, ...]) -> Key | None:
    """A point above all keys that a growing shard will hold in the next minutes, or None if none lies inside."""
    if shard.highest is None:
        return None
    point = (_ahead(key_types[0], shard.highest[0], shard.advance),)
    if point > shard.highest and inside(shard, point):
        return point
    return shard.highest if inside(shard, shard.highest) else None


def _ahead(key_type: str, value: Any, advance: float) -> Any:
    largest = _LARGEST.get(key_type)
    if largest is not None:
        return min(value + max(1, int(advance * LEAD_S)), largest)
    if key_type == "uuid":  # such as version 7: the time comes first, in milliseconds, in 48 bits
        ahead = int.from_bytes(value, "big") + (int(LEAD_S * 1000) << 80)
        return min(ahead, 2**128 - 1).to_bytes(16, "big")
    return value
