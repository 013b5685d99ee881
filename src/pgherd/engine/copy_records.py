"""COPY's text and CSV formats: a stream of bytes into records, whatever the chunks are. Bytes stay as they came."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pgherd.engine.copy_fields import Shape
from pgherd.errors import BadCopy, Refused, TooLarge

RECORD_BYTES_MAX: Final = 1 << 28


class Records:
    """Cuts a stream into records, which keep a final `\\r` but not their `\\n`.

    Memory is bounded by one chunk and one record of `bytes_max`. `special` says whether the last answer's records may
    hold `shape.special`; `crlf` is known after the first record; `ended`: the end marker was seen.
    """

    __slots__ = (
        "_bytes_max",
        "_checked",
        "_goes_on",
        "_kept",
        "_open",
        "_shape",
        "_special",
        "_tail",
        "_text",
        "crlf",
        "ended",
        "special",
    )

    def __init__(self, shape: Shape, bytes_max: int = RECORD_BYTES_MAX) -> None:
        self._shape = shape
        self._special = shape.special
        self._text = shape.format == "text"
        self._bytes_max = bytes_max
        self._tail: list[bytes] = []  # pieces of a line whose end has not come
        self._open: list[bytes] = []  # whole lines of a record that goes on
        self._kept = 0  # bytes in both
        self._goes_on = _goes_on(shape)
        self._checked = False
        self.crlf = False
        self.ended = False
        self.special = False

    @property
    def open_lines(self) -> int:
        """Whole lines of a record whose end has not come."""
        return len(self._open)

    def feed(self, data: bytes) -> list[bytes]:
        """The records that `data` completes. Raises TooLarge, Refused."""
        cut = data.rfind(b"\n")
        if self.ended or cut < 0:
            self._keep(self._tail, data)
            return []
        block = b"".join([*self._tail, data[:cut]]) if self._kept else data[:cut]
        self._tail = [data[cut + 1 :]]
        records = block.split(b"\n")
        text, backslash = self._text, b"\\" in block  # one byte is found many times faster than two
        self.special = bool(self._open) or ((backslash or not text) and self._special in block)
        if self.special or (text and backslash and (b"\\\n" in block or block.endswith(b"\\"))):
            records = self._joined(records)
        if records and not self._checked:
            self._check_line_ends(records[0])
        self._kept = len(self._tail[0]) + sum(map(len, self._open))
        return self._before_marker(records) if backslash and b"\\." in block else records

    def close(self) -> list[bytes]:
        """The last record, if the stream did not end in a newline. Raises BadCopy."""
        last = b"".join(self._tail)
        if self.ended or not (last or self._open):
            return []
        if self._shape.format == "csv" and self._goes_on(last, bool(self._open)):
            raise BadCopy("unterminated CSV quoted field")
        record = b"\n".join([*self._open, last])
        self._tail, self._open = [], []
        if not self._checked:
            self._check_line_ends(record)
        self.special = self._shape.special in record
        if self.crlf and not record.endswith(b"\r"):
            record += b"\r"
        return self._before_marker([record])

    def _keep(self, where: list[bytes], piece: bytes) -> None:
        if self.ended:
            return
        where.append(piece)
        self._kept += len(piece)
        if self._kept > self._bytes_max:
            raise TooLarge(f"a record of COPY exceeds {self._bytes_max} bytes")

    def _check_line_ends(self, first: bytes) -> None:
        self._checked = True
        self.crlf = first.endswith(b"\r")
        if b"\r" in first[:-1] and self._shape.format == "text":
            raise Refused(
                "COPY data whose lines end in a carriage return alone", hint="End lines with a newline."
            )

    def _joined(self, lines: list[bytes]) -> list[bytes]:
        records: list[bytes] = []
        for line in lines:
            goes_on = self._goes_on(line, bool(self._open))
            if goes_on:
                self._keep(self._open, line)
            elif self._open:
                records.append(b"\n".join([*self._open, line]))
                self._open = []
                self._kept = 0
            else:
                records.append(line)
        return records

    def _before_marker(self, records: list[bytes]) -> list[bytes]:
        """A line `\\.` alone ends the data. In CSV with a single column it may be a value, and is left to the server."""
        if self._shape.format == "csv" and self._shape.columns == 1:
            return records
        for marker in (b"\\.", b"\\.\r"):
            if marker in records:
                self.ended = True
                records = records[: records.index(marker)]
        if self.ended:
            self._tail, self._open, self._kept = [], [], 0
        return records


def _goes_on(shape: Shape) -> Callable[[bytes, bool], bool]:
    """A function of a line, and whether it continues a record, that says whether the record goes on after it."""
    if shape.format == "text":
        return lambda line, _: bool((len(line) - len(line.rstrip(b"\\"))) % 2)
    quote = shape.quote
    if shape.escape == quote:
        return lambda line, inside: inside ^ (line.count(quote) % 2 == 1)
    marks = re.compile(
        re.escape(shape.escape)
        + b"(?:"
        + re.escape(shape.escape)
        + b"|"
        + re.escape(quote)
        + b")|"
        + re.escape(quote)
    )
    plain = re.compile(re.escape(quote))

    def escaped(line: bytes, inside: bool) -> bool:
        at = 0
        while found := (marks if inside else plain).search(line, at):
            at = found.end()
            if found[0] == quote:
                inside = not inside
        return inside

    return escaped
