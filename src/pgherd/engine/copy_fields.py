"""COPY's text and CSV formats: the fields of one record. Only fields that hold the key are ever decoded.

Source of the rules: PostgreSQL manual, COPY, "File Formats", and CopyReadAttributesText / CSV in copyfromparse.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from pgherd.errors import BadCopy

_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.)|$)", re.DOTALL)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the records are written. `columns` is how many fields a record has."""

    format: Literal["text", "csv"] = "text"
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    quote: bytes = b'"'
    escape: bytes = b'"'
    columns: int = 1

    @property
    def special(self) -> bytes:
        """What makes it wrong to cut a record at every delimiter."""
        return self.quote if self.format == "csv" else b"\\" + self.delimiter


def fields_of(record: bytes, shape: Shape, count: int) -> list[bytes | None]:
    """The first `count` fields of a record (fewer if it has fewer), decoded; NULL is None. Raises BadCopy."""
    if shape.format == "csv" and shape.quote in record:
        return _quoted_fields(record, shape, count)
    if shape.format == "text" and shape.special in record:
        raws = _split_escaped(record, shape.delimiter, count)
    else:
        raws = record.split(shape.delimiter, count)[:count]
    return [value_of(raw, shape) for raw in raws]


def key_pattern(shape: Shape, positions: tuple[int, ...]) -> re.Pattern[bytes]:
    """Matches a record's begin; its groups are the raw fields at `positions`, from left to right.

    Each repetition can go on in one way only, so a record that does not match costs no more than one that does. (Possessive
    repetitions would say the same, but those of the first releases of Python 3.11 are broken.)
    """
    delimiter, quote, escape = map(re.escape, (shape.delimiter, shape.quote, shape.escape))
    if shape.format == "text":
        plain = rb"[^\\%b]*" % delimiter
        field = rb"%b(?:\\(?:.|\Z)%b)*" % (plain, plain)
    else:
        plain = rb"[^%b%b]*" % (delimiter, quote)
        if shape.quote == shape.escape:
            within = rb"[^%b]*" % quote
        else:
            inner = rb"[^%b%b]*" % (quote, escape)
            either = rb"[%b%b]" % (quote, escape)
            within = rb"%b(?:%b(?:%b|(?!%b))%b)*" % (inner, escape, either, either, inner)
        field = rb"%b(?:%b%b%b%b)*" % (plain, quote, within, quote, plain)
    fields = [rb"(%b)" % field if at in positions else field for at in range(max(positions) + 1)]
    return re.compile(delimiter.join(fields) + rb"(?:%b|\Z)" % delimiter, re.DOTALL)


def value_of(raw: bytes, shape: Shape) -> bytes | None:
    """The value of one raw field; NULL is None."""
    if shape.format == "csv" and shape.quote in raw:
        return _csv_field(raw, 0, shape)[0]
    if raw == shape.null:
        return None
    return unescape(raw) if shape.format == "text" and b"\\" in raw else raw


def unescape(raw: bytes) -> bytes:
    """A text-format field without its backslash escapes."""

    def plain(found: re.Match[bytes]) -> bytes:
        octal, hexadecimal, letter = found.groups()
        if octal:
            return bytes([int(octal, 8) & 0xFF])
        if hexadecimal:
            return bytes([int(hexadecimal, 16)])
        return _LETTERS.get(letter, letter) if letter else b"\\"

    return _ESCAPE.sub(plain, raw)


def _split_escaped(record: bytes, delimiter: bytes, count: int) -> list[bytes]:
    """Split where the delimiter is not escaped: a backslash takes the byte after it along."""
    fields: list[bytes] = []
    start = 0
    for found in re.finditer(rb"\\.|" + re.escape(delimiter), record, re.DOTALL):
        if found[0] == delimiter:
            fields.append(record[start : found.start()])
            start = found.end()
            if len(fields) == count:
                return fields
    return [*fields, record[start:]]


def _quoted_fields(record: bytes, shape: Shape, count: int) -> list[bytes | None]:
    fields: list[bytes | None] = []
    at: int | None = 0
    while at is not None and len(fields) < count:
        value, at = _csv_field(record, at, shape)
        fields.append(value)
    return fields


def _csv_field(record: bytes, at: int, shape: Shape) -> tuple[bytes | None, int | None]:
    """The field that starts at `at`, and where the next one starts (None: it was the last)."""
    parts: list[bytes] = []
    quoted = False
    while True:
        stop = record.find(shape.delimiter, at)
        mark = record.find(shape.quote, at, len(record) if stop < 0 else stop)
        if mark < 0:
            break
        quoted = True  # quotes may open and close anywhere in a field
        parts.append(record[at:mark])
        at = _unquote(record, mark + 1, shape, parts)
    parts.append(record[at:] if stop < 0 else record[at:stop])
    value = b"".join(parts)
    return (None if not quoted and value == shape.null else value), (None if stop < 0 else stop + 1)


def _unquote(record: bytes, at: int, shape: Shape, parts: list[bytes]) -> int:
    """Append what the quotes hold to `parts`; answers where the record goes on behind them."""
    quote, escape = shape.quote[0], shape.escape[0]
    start, size = at, len(record)
    while at < size:
        byte = record[at]
        if byte == escape and at + 1 < size and record[at + 1] in (quote, escape):
            parts.append(record[start:at] + record[at + 1 : at + 2])
            at = start = at + 2
        elif byte == quote:
            parts.append(record[start:at])
            return at + 1
        else:
            at += 1
    raise BadCopy("unterminated CSV quoted field")
