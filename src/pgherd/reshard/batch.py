"""Many changes of one table as few: which keys go, which rows come. Pure.

Within a batch only the last state of each row matters: the keys in `gone` are deleted first, then `rows` are inserted. So several
rows may exchange unique values on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from pgherd.reshard.pgoutput import UNCHANGED, Field, Row

Key = tuple[bytes | None, ...]

_SPECIAL = re.compile(rb"[\\\n\r\t]")
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}


@dataclass(slots=True)
class Batch:
    """`key`: positions of the key's columns in a row. `partial`: rows with values that must be fetched from the target, by the key
    that they have there."""

    key: tuple[int, ...]
    rows: dict[Key, Row] = field(default_factory=dict[Key, Row])
    gone: dict[Key, None] = field(default_factory=dict[Key, None])
    partial: dict[Key, Key] = field(default_factory=dict[Key, Key])
    size: int = 0

    def key_of(self, row: Row) -> Key:
        return cast("Key", tuple(row[at] for at in self.key))

    def insert(self, row: Row) -> None:
        self.rows[self.key_of(row)] = row
        self.size += 1

    def delete(self, old: Row) -> None:
        key = self.key_of(old)
        self._leave(key)
        self.size += 1

    def update(self, old: Row | None, row: Row) -> None:
        """`old`: the key before, if the source sent it."""
        before = self.key_of(old) if old is not None else self.key_of(row)
        if UNCHANGED in row:
            row = self._filled(before, old, row)
        known, origin = self._leave(before)
        after = self.key_of(row)
        self.rows[after] = row
        if UNCHANGED in row:
            self.partial[after] = origin if known and origin is not None else before
        self.size += 1

    def _leave(self, key: Key) -> tuple[bool, Key | None]:
        """The row of this key goes. Answers whether it came in this batch, and the key of its unchanged values."""
        origin = self.partial.pop(key, None)
        if self.rows.pop(key, None) is not None:
            return True, origin
        self.gone[key] = None
        return False, origin

    def _filled(self, before: Key, old: Row | None, row: Row) -> Row:
        """Unchanged values from what is known: the row's last state, or its whole old form."""
        known = self.rows.get(before)
        return tuple(
            value if value is not UNCHANGED else _known(known, old, at) for at, value in enumerate(row)
        )

    @property
    def empty(self) -> bool:
        return not self.rows and not self.gone

    def clear(self) -> None:
        self.rows.clear()
        self.gone.clear()
        self.partial.clear()
        self.size = 0


def _known(known: Row | None, old: Row | None, at: int) -> Field:
    if known is not None:
        return known[at]
    return old[at] if old is not None and old[at] is not None else UNCHANGED


def copy_lines(rows: Iterable[Row]) -> bytes:
    """Rows as COPY takes them in text format."""
    return b"".join(map(_line, rows))


def _line(row: Row) -> bytes:
    return b"\t".join([_escaped(cast("bytes | None", value)) for value in row]) + b"\n"


def _escaped(value: bytes | None) -> bytes:
    if value is None:
        return b"\\N"
    return value if _SPECIAL.search(value) is None else _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)
