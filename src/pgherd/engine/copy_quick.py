"""Short cuts from a raw key field to its place, for columns whose values hardly repeat.

A short cut answers None for whatever is not in the plainest form; the general path then decides (or complains).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final

from pgherd.catalog.hashing import COMBINE, M64, hash_bytes, hash_int, int_slots
from pgherd.catalog.model import Keyspace, Shard
from pgherd.engine.copy_place import Piles, Target

Place = Callable[[bytes], None]
ShortCut = Callable[[bytes], Place | None]
BatchCut = Callable[[list[bytes]], Iterator[Place] | None]

_SAFE_DIGITS: Final = {"smallint": 4, "integer": 9, "bigint": 18}  # so many digits surely fit
_TEXTS: Final = ("text", "character varying")


def short_cut(target: Target, piles: Piles, null: bytes) -> ShortCut | None:
    """The short cut where one column decides, or None if there is none for its type and shards."""
    keyspace = target.keyspace
    if len(target.kinds) != 1:
        return None
    kind = target.kinds[0]
    if keyspace.strategy == "range":
        bounds = _bounds(keyspace)
        if bounds is None:
            return None
        places = [piles.by_shard[shard.id].append for shard in keyspace.shards]
        return _range_cut(kind, bounds, places, null)
    slots = _slots(keyspace)
    if slots is None:
        return None
    return _hash_cut(kind, [piles.by_shard[shard.id].append for shard in slots], null)


def batch_cut(target: Target, piles: Piles, null: bytes) -> BatchCut | None:
    """As `short_cut`, for all fields of a block at once: hashing many integers together costs an eighth."""
    keyspace = target.keyspace
    if keyspace.strategy != "hash" or len(target.kinds) != 1 or null.isdigit():
        return None
    digits = _SAFE_DIGITS.get(target.kinds[0])
    slots = _slots(keyspace)
    if digits is None or slots is None or len(slots) > 256 or len(slots) & len(slots) - 1:
        return None
    places = [piles.by_shard[shard.id].append for shard in slots]

    def by_ints(raws: list[bytes]) -> Iterator[Place] | None:
        plain = b"".join(raws).isdigit() and b"" not in raws and len(max(raws, key=len)) <= digits
        return map(places.__getitem__, int_slots(list(map(int, raws)), len(slots))) if plain else None

    return by_ints


def _bounds(keyspace: Keyspace) -> list[Any] | None:
    """The first values of all shards but the first, if the shards cover everything without a gap."""
    shards = keyspace.shards
    if not shards or shards[0].lower is not None or shards[-1].upper is not None:
        return None
    bounds = [shard.lower for shard in shards[1:]]
    if bounds != [shard.upper for shard in shards[:-1]]:
        return None
    return [bound[0] for bound in bounds if bound is not None]


def _slots(keyspace: Keyspace) -> list[Shard] | None:
    modulus = max((shard.modulus for shard in keyspace.shards), default=0)
    slots: dict[int, Shard] = {}
    for shard in keyspace.shards:
        slots.update(dict.fromkeys(range(shard.remainder, modulus, shard.modulus), shard))
    return [slots[at] for at in range(modulus)] if modulus and len(slots) == modulus else None


def _range_cut(kind: str, bounds: list[Any], places: list[Place], null: bytes) -> ShortCut | None:
    if kind in _TEXTS:
        encoded = [bound.encode() for bound in bounds]

        def by_text(raw: bytes) -> Place | None:
            return None if raw == null or b"\\" in raw or b"\r" in raw else places[bisect_right(encoded, raw)]

        return by_text
    digits = _SAFE_DIGITS.get(kind)
    if digits is None:
        return None

    def by_int(raw: bytes) -> Place | None:
        plain = raw.isdigit() and len(raw) <= digits and raw != null
        return places[bisect_right(bounds, int(raw))] if plain else None

    return by_int


def _hash_cut(kind: str, places: list[Place], null: bytes) -> ShortCut | None:
    count = len(places)
    if kind in _TEXTS:

        def by_text(raw: bytes) -> Place | None:
            if raw == null or b"\\" in raw or b"\r" in raw or not raw.isascii():
                return None
            return places[(hash_bytes(raw) + COMBINE & M64) % count]

        return by_text
    if kind == "uuid":

        def by_uuid(raw: bytes) -> Place | None:
            if len(raw) != 36 or raw[8:24:5] != b"----" or not (plain := raw.replace(b"-", b"")).isalnum():
                return None
            try:
                return places[(hash_bytes(bytes.fromhex(plain.decode())) + COMBINE & M64) % count]
            except ValueError:
                return None

        return by_uuid
    digits = _SAFE_DIGITS.get(kind)
    if digits is None:
        return None

    def by_int(raw: bytes) -> Place | None:
        plain = raw.isdigit() and len(raw) <= digits and raw != null
        return places[(hash_int(int(raw)) + COMBINE & M64) % count] if plain else None

    return by_int
