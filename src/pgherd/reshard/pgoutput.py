"""What pgoutput sends (PostgreSQL manual, "Logical Replication Message Formats"), protocol 1, values as text. Pure.

A row is a tuple with one entry for each column: bytes (the text form), NULL, or UNCHANGED for a large value that an update left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from pgherd.errors import ProtocolViolation

Field = bytes | None | bool
Row = tuple[Field, ...]
NULL: Final = None
UNCHANGED: Final = False

_int16 = Struct(">H").unpack_from
_int32 = Struct(">I").unpack_from
_int64 = Struct(">Q").unpack_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table as the source describes it. `key`: positions of the columns of its replica identity; `full`: it is the whole row."""

    id: int
    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[int, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """`lsn`: where the transaction's commit record begins: transactions come in this order."""

    lsn: int


@dataclass(frozen=True, slots=True)
class Commit:
    """`end`: the position after the commit record."""

    end: int


@dataclass(frozen=True, slots=True)
class Insert:
    relation: int
    row: Row


@dataclass(frozen=True, slots=True)
class Update:
    """`old`: the key before (the whole row under REPLICA IDENTITY FULL), if it changed or is large, else None."""

    relation: int
    old: Row | None
    row: Row


@dataclass(frozen=True, slots=True)
class Delete:
    relation: int
    old: Row


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """What pg_logical_emit_message wrote."""

    prefix: str
    content: bytes


Change = Begin | Commit | Relation | Insert | Update | Delete | Truncate | Message | None


def read(data: bytes) -> Change:
    """One message; None for those that say nothing that matters here (types, origins)."""
    reader = _READERS.get(data[0])
    if reader is None:
        raise ProtocolViolation(f"unknown replication message {chr(data[0])!r}")
    return reader(data)


def _row(data: bytes, at: int) -> tuple[Row, int]:
    count = _int16(data, at)[0]
    at += 2
    fields: list[Field] = []
    for _ in range(count):
        kind = data[at]
        if kind == 0x74:  # t
            end = at + 5 + _int32(data, at + 1)[0]
            fields.append(data[at + 5 : end])
            at = end
        elif kind == 0x6E:  # n
            fields.append(NULL)
            at += 1
        else:  # u
            fields.append(UNCHANGED)
            at += 1
    return tuple(fields), at


def _begin(data: bytes) -> Begin:
    return Begin(_int64(data, 1)[0])


def _commit(data: bytes) -> Commit:
    return Commit(_int64(data, 10)[0])


def _insert(data: bytes) -> Insert:
    return Insert(_int32(data, 1)[0], _row(data, 6)[0])


def _update(data: bytes) -> Update:
    relation = _int32(data, 1)[0]
    if data[5] == 0x4E:  # N
        return Update(relation, None, _row(data, 6)[0])
    old, at = _row(data, 6)
    return Update(relation, old, _row(data, at + 1)[0])


def _delete(data: bytes) -> Delete:
    return Delete(_int32(data, 1)[0], _row(data, 6)[0])


def _truncate(data: bytes) -> Truncate:
    count = _int32(data, 1)[0]
    return Truncate(tuple(_int32(data, 6 + 4 * number)[0] for number in range(count)))


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1


def _relation(data: bytes) -> Relation:
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    full = data[at] == 0x66
    count = _int16(data, at + 1)[0]
    at += 3
    columns: list[str] = []
    key: list[int] = []
    for number in range(count):
        if data[at] & 1:
            key.append(number)
        column, at = _text(data, at + 1)
        columns.append(column)
        at += 8
    return Relation(
        id=_int32(data, 1)[0], schema=schema or "pg_catalog", name=name, columns=tuple(columns), key=tuple(key), full=full,
    )  # fmt: skip


def _message(data: bytes) -> Message:
    prefix, at = _text(data, 10)
    size = _int32(data, at)[0]
    return Message(prefix, data[at + 4 : at + 4 + size])


def _nothing(data: bytes) -> None:
    del data


_READERS: Final[dict[int, Callable[[bytes], Change]]] = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("I"): _insert,
    ord("U"): _update,
    ord("D"): _delete,
    ord("T"): _truncate,
    ord("R"): _relation,
    ord("M"): _message,
    ord("Y"): _nothing,
    ord("O"): _nothing,
}
