"""PostgreSQL's extended hash functions, as hash partitioning uses them, in plain Python.

Bob Jenkins' lookup3 as PostgreSQL has it (src/common/hashfn.c), seeded with HASH_PARTITION_SEED, little-endian
servers. Every function takes a canonical value (see `catalog.keys`) and answers an unsigned 64-bit number. The rounds are
written out, because a point read hashes once and a call costs more than a round.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

PARTITION_SEED: Final = 0x7A5B22367996DCFD
_M32: Final = 0xFFFFFFFF
M64: Final = 0xFFFFFFFFFFFFFFFF
COMBINE: Final = 0x49A0F4DD15E5A8E3
_words = struct.Struct("<III").unpack_from


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c ^ (c << 4 | c >> 28)) & _M32
    c = c + b & _M32
    b = (b - a ^ (a << 6 | a >> 26)) & _M32
    a = a + c & _M32
    c = (c - b ^ (b << 8 | b >> 24)) & _M32
    b = b + a & _M32
    a = (a - c ^ (c << 16 | c >> 16)) & _M32
    c = c + b & _M32
    b = (b - a ^ (a << 19 | a >> 13)) & _M32
    a = a + c & _M32
    c = (c - b ^ (b << 4 | b >> 28)) & _M32
    b = b + a & _M32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    """The last seven rounds; all of b and c is the hash."""
    c = (c ^ b) - (b << 14 | b >> 18) & _M32
    a = (a ^ c) - (c << 11 | c >> 21) & _M32
    b = (b ^ a) - (a << 25 | a >> 7) & _M32
    c = (c ^ b) - (b << 16 | b >> 16) & _M32
    a = (a ^ c) - (c << 4 | c >> 28) & _M32
    b = (b ^ a) - (a << 14 | a >> 18) & _M32
    c = (c ^ b) - (b << 24 | b >> 8) & _M32
    return b << 32 | c


@lru_cache(maxsize=4096)
def _start(length: int) -> tuple[int, int, int]:
    """The state after the seed: it depends on the length alone."""
    a = b = c = 0x9E3779B9 + length + 3923095 & _M32
    return _mix(a + (PARTITION_SEED >> 32) & _M32, b + PARTITION_SEED & _M32, c)


def hash_bytes(data: bytes) -> int:
    """hash_bytes_extended of `data`."""
    a, b, c = _start(len(data))
    at, rest = 0, len(data)
    while rest >= 12:
        x, y, z = _words(data, at)
        a, b, c = _mix(a + x & _M32, b + y & _M32, c + z & _M32)
        at += 12
        rest -= 12
    # at most 11 bytes: four for a, four for b, and three for the upper bytes of c (its lowest is the length's)
    tail = int.from_bytes(data[at:], "little")
    return _final(a + tail & _M32, b + (tail >> 32) & _M32, c + (tail >> 56 & 0xFFFFFF00) & _M32)


_INT_A, _INT_B, _INT_C = _start(4)


def hash_int(value: int) -> int:
    """hashint2extended, hashint4extended and hashint8extended agree on values that all of them can hold."""
    low = value ^ (value >> 32 if value >= 0 else ~(value >> 32))
    return _final(_INT_A + low & _M32, _INT_B, _INT_C)


_BATCH: Final = 4096  # so many at a time: then the long numbers below stay in the processor's cache


def int_slots(values: Sequence[int], modulus: int) -> bytes:
    """`partition_hash` modulo `modulus`, for many values from 0 to 2**63 - 1 at once, about eight times as fast.

    `modulus` is a power of two up to 256. The rounds of `_final` run on one long number that holds each value in a lane of
    64 bits, of which the upper half is room for shifts and for the borrow of a subtraction.
    """
    return b"".join(_slots(values[at : at + _BATCH], modulus) for at in range(0, len(values), _BATCH))


@lru_cache(maxsize=8)
def _lanes(count: int) -> int:
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")


def _slots(values: Sequence[int], modulus: int) -> bytes:
    count = len(values)
    ones = _lanes(count)
    mask, borrow = ones * _M32, ones << 32
    packed = int.from_bytes(struct.pack(f"<{count}Q", *values), "little")
    a = (ones * _INT_A + ((packed ^ packed >> 32) & mask)) & mask
    first = (_INT_C ^ _INT_B) - (_INT_B << 14 | _INT_B >> 18) & _M32
    b, c = ones * _INT_B, ones * first
    a = ((a ^ c) + borrow - ((c << 11 | c >> 21) & mask)) & mask
    b = ((b ^ a) + borrow - ((a << 25 | a >> 7) & mask)) & mask
    c = ((c ^ b) + borrow - ((b << 16 | b >> 16) & mask)) & mask
    a = ((a ^ c) + borrow - ((c << 4 | c >> 28) & mask)) & mask
    b = ((b ^ a) + borrow - ((a << 14 | a >> 18) & mask)) & mask
    c = ((c ^ b) + borrow - ((b << 24 | b >> 8) & mask)) & mask
    slots = (c + ones * (COMBINE & _M32)) & ones * (modulus - 1)
    return slots.to_bytes(8 * count, "little")[::8]


def hash_text(value: str) -> int:
    """hashtextextended under a deterministic collation, in a UTF-8 database."""
    return hash_bytes(value.encode())


def hash_numeric(value: tuple[int, Decimal]) -> int:
    """hash_numeric_extended: over the digits in base 10,000 without leading and trailing zeros, and their weight."""
    number = value[1]
    if value[0] or not number.is_finite():
        return PARTITION_SEED
    if not number:
        return PARTITION_SEED - 1
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)) + "0" * (exponent % 4)  # now a whole power of 10,000 scales it
    text = text.zfill(-(-len(text) // 4) * 4)
    groups = [int(text[at : at + 4]) for at in range(0, len(text), 4)]
    weight = exponent // 4 + len(groups) - 1
    first = next(at for at, group in enumerate(groups) if group)
    while not groups[-1]:
        groups.pop()
    groups = groups[first:]
    return hash_bytes(struct.pack(f"<{len(groups)}h", *groups)) ^ (weight - first & M64)


HASHERS: Final[Mapping[str, Callable[[Any], int]]] = {
    "text": hash_text,
    "character varying": hash_text,
    "smallint": hash_int,
    "integer": hash_int,
    "bigint": hash_int,
    "uuid": hash_bytes,
    "date": hash_int,
    "timestamp without time zone": hash_int,
    "timestamp with time zone": hash_int,
    "numeric": hash_numeric,
}


def partition_hash(key_types: tuple[str, ...], values: tuple[Any, ...]) -> int:
    """compute_partition_hash_value for canonical values, none of them None."""
    if len(values) == 1:
        return HASHERS[key_types[0]](values[0]) + COMBINE & M64
    row = 0
    for key_type, value in zip(key_types, values, strict=True):
        row ^= HASHERS[key_type](value) + COMBINE + (row << 54) + (row >> 7) & M64
    return row
