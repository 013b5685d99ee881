"""From the raw key fields of a COPY record to its shard: decoded once for each distinct value, then remembered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from pgherd.catalog import keys
from pgherd.catalog.model import Keyspace, Shard, ShardId
from pgherd.errors import BadEncoding, NoShard, NullKey, Refused

_TEXTS: Final = (("text",), ("character varying",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a COPY goes. `positions` are the key columns' places in a record, from 0, in the key's order."""

    table: str
    columns: tuple[str, ...]
    positions: tuple[int, ...]
    keyspace: Keyspace

    @property
    def key_columns(self) -> tuple[str, ...]:
        return tuple(self.columns[position] for position in self.positions)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types of the columns at `positions`."""
        return self.keyspace.key_types[: len(self.positions)]

    def narrowed(self) -> Target:
        """Only the columns that decide: where all bounds are short, the key's later columns are the server's to check."""
        if self.keyspace.strategy == "hash":
            return self
        longest = max((len(shard.lower or ()) for shard in self.keyspace.shards), default=1)
        longest = max(longest, *(len(shard.upper or ()) for shard in self.keyspace.shards), 1)
        return replace(self, positions=self.positions[:longest])


class Piles:
    """One list of records for each shard; a record's place is its list's `append`."""

    __slots__ = ("_all", "by_shard")

    def __init__(self, keyspace: Keyspace) -> None:
        self.by_shard: dict[ShardId, list[bytes]] = {shard.id: [] for shard in keyspace.shards}
        self._all = list(self.by_shard.values())

    def __len__(self) -> int:
        return sum(map(len, self._all))

    def take(self) -> dict[ShardId, list[bytes]]:
        """What has been piled up since the last time; the piles are empty again."""
        taken = {shard: pile.copy() for shard, pile in self.by_shard.items() if pile}
        for pile in self._all:
            pile.clear()
        return taken


def locator(target: Target) -> Callable[[Sequence[bytes | None]], Shard]:
    """A function of the key's values in text form (UTF-8). It raises NullKey, NoShard, BadKey, BadEncoding, Refused."""
    keyspace = target.keyspace
    if keyspace.strategy == "range" and target.kinds in _TEXTS:
        return _by_bytes(target)

    def locate(values: Sequence[bytes | None]) -> Shard:
        key = tuple(
            _canonical(target, at, value, kind)
            for at, (value, kind) in enumerate(zip(values, target.kinds, strict=True))
        )
        return keyspace.locate(key) or nowhere(target, key)

    return locate


def _by_bytes(target: Target) -> Callable[[Sequence[bytes | None]], Shard]:
    """UTF-8 orders as code points do, so a text key needs no decoding; a wrong encoding is the server's to find."""
    shards = target.keyspace.shards
    lowers = [b"" if shard.lower is None else shard.lower[0].encode() for shard in shards]
    uppers = [None if shard.upper is None else shard.upper[0].encode() for shard in shards]
    first_open = bool(shards) and shards[0].lower is None

    def locate(values: Sequence[bytes | None]) -> Shard:
        (value,) = values
        if value is None:
            raise null_key(target, 0)
        at = bisect_right(lowers, value) - 1
        if at >= 0 and (at or first_open or value >= lowers[0]):
            upper = uppers[at]
            if upper is None or value < upper:
                return shards[at]
        return nowhere(target, (value.decode("utf-8", "replace"),))

    return locate


def _canonical(target: Target, at: int, value: bytes | None, kind: str) -> object:
    if value is None:
        raise null_key(target, at)
    try:
        return keys.decode_text(kind, value.decode())
    except UnicodeDecodeError as error:
        wrong = " ".join(f"0x{byte:02x}" for byte in value[error.start : error.end])
        raise BadEncoding(f'invalid byte sequence for encoding "UTF8": {wrong}') from None
    except keys.Undecodable:
        raise undecodable(target, at, value) from None


def undecodable(target: Target, at: int, value: bytes) -> Refused:
    """The error for a value in the `at`th key column that only a server could read."""
    shown = value.decode("utf-8", "replace")
    return Refused(
        f'COPY cannot tell the shard of value "{shown}" in column "{target.key_columns[at]}"',
        hint="Write dates and times as 2024-12-31 and 2024-12-31 23:59:59 (with time zone: +00 at the end).",
    )


def null_key(target: Target, at: int) -> NullKey:
    """The error for a NULL in the `at`th key column."""
    column = target.key_columns[at]
    return NullKey(
        f'null value in column "{column}" of relation "{target.table}" violates not-null constraint',
        hint="Give every column of the shard key a value.",
    )


def nowhere(target: Target, key: tuple[object, ...]) -> NoReturn:
    """No shard holds `key`: raises NoShard."""
    shown = ", ".join(keys.encode_text(kind, value) for kind, value in zip(target.kinds, key, strict=True))
    raise NoShard(
        f'no shard of relation "{target.table}" found for row',
        detail=f"Shard key of the failing row contains ({', '.join(target.key_columns)}) = ({shown}).",
    )
