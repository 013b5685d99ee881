"""Shard keys outside PostgreSQL: the same order, the same hash.

Canonical values: text and varchar are str (C.UTF-8 orders by code point, as Python does); int2/4/8 are int; uuid is
16 bytes; date is days and timestamp/timestamptz microseconds since 2000-01-01 (UTC), infinities at the
ends; numeric is a pair that orders NaN last.
"""

from __future__ import annotations

from typing import Any


class Undecodable(Exception):
    """The text or bytes may well be valid for PostgreSQL, but are not understood here: ask a server."""


def decode_text(key_type: str, text: str) -> Any:
    """The canonical value of a literal in PostgreSQL's text form. Raises Undecodable."""
    raise NotImplementedError


def decode_binary(key_type: str, oid: int, data: bytes) -> Any:
    """The canonical value of a parameter of type `oid` (0: the column's own) in binary form. Raises Undecodable."""
    raise NotImplementedError


def decode_python(key_type: str, value: Any) -> Any:
    """The canonical value of a Python argument as asyncpg would encode it. Raises Undecodable."""
    raise NotImplementedError


def encode_text(key_type: str, value: Any) -> str:
    """The text form of a canonical value: what PostgreSQL would accept in a bound or print in a view."""
    raise NotImplementedError


def partition_hash(key_types: tuple[str, ...], values: tuple[Any, ...]) -> int:
    """PostgreSQL's hash of a partition key as an unsigned 64-bit number (compute_partition_hash_value)."""
    raise NotImplementedError
