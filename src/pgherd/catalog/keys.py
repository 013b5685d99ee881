"""Shard keys outside PostgreSQL: the same order, the same hash.

Canonical values: text and varchar are str (C.UTF-8 orders by code point, as Python does); int2/4/8 are int; uuid is
16 bytes; date is days and timestamp/timestamptz microseconds since 2000-01-01 (UTC), infinities at the
ends; numeric is a pair that orders NaN last.

A value that PostgreSQL surely refuses raises `errors.BadKey` in PostgreSQL's words. A value that it might accept, but
whose meaning is not certain here (it depends on a setting, or the form is rare), raises `Undecodable`: ask a server.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from pgherd.catalog import calendar
from pgherd.catalog.hashing import partition_hash
from pgherd.errors import BadKey, OutOfRange

__all__ = [
    "KEY_TYPES",
    "Undecodable",
    "decode_binary",
    "decode_python",
    "decode_text",
    "encode_text",
    "partition_hash",
    "same_family",
]


class Undecodable(Exception):
    """The text or bytes may well be valid for PostgreSQL, but are not understood here: ask a server."""


_INT_BITS: Final = {"smallint": 15, "integer": 31, "bigint": 63}
_TEXT_OIDS: Final = frozenset({0, 25, 1043, 705, 19})  # own, text, varchar, unknown, name
_INT_OIDS: Final = frozenset({0, 20, 21, 23})
_OIDS: Final[Mapping[str, frozenset[int]]] = {
    "text": _TEXT_OIDS,
    "character varying": _TEXT_OIDS,
    "smallint": _INT_OIDS,
    "integer": _INT_OIDS,
    "bigint": _INT_OIDS,
    "uuid": frozenset({0, 2950}),
    "date": frozenset({0, 1082}),
    "timestamp without time zone": frozenset({0, 1114}),
    "timestamp with time zone": frozenset({0, 1184}),
    "numeric": frozenset({0, 1700}),
}
KEY_TYPES: Final = frozenset(_OIDS)  # as format_type() names them

_SPACES: Final = " \t\n\v\f\r"
_INT_FORM: Final = re.compile(
    r"[ \t\n\v\f\r]*(?P<sign>[+-]?)"
    r"(?:(?P<ten>[0-9]+(?:_[0-9]+)*)|(?P<other>0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+))"
    r"[ \t\n\v\f\r]*"
)
_UUID_FORM: Final = re.compile(r"(?P<brace>\{)?[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}(?(brace)\})")
_NUMBER_FORM: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NUMBER_CHARS_MAX: Final = 1000  # longer numbers are valid, but not worth reading here
_EXPONENT_MAX: Final = 1000

_int16: Final = struct.Struct(">h")
_int32: Final = struct.Struct(">i")
_int64: Final = struct.Struct(">q")
_numeric_head: Final = struct.Struct(">HhHH")

Number = tuple[int, Decimal]  # (0, value), or (1, 0) for NaN, which PostgreSQL orders last
_NAN: Final[Number] = (1, Decimal(0))


def same_family(key_type: str, oid: int) -> bool:
    """Whether a parameter of type `oid` (0: not said) has the values and the input syntax of a key of type `key_type`."""
    return oid in _OIDS.get(key_type, ())


def decode_text(key_type: str, text: str) -> Any:
    """The canonical value of a literal in PostgreSQL's text form. Raises Undecodable, BadKey."""
    read = _FROM_TEXT.get(key_type)
    if read is None:
        raise Undecodable(key_type)
    return read(key_type, text)


def _invalid(key_type: str, text: str) -> BadKey:
    return BadKey(f'invalid input syntax for type {key_type}: "{text}"')


def _text_from_text(key_type: str, text: str) -> str:
    if "\0" in text:
        raise Undecodable(key_type)
    return text


def _int_from_text(key_type: str, text: str) -> int:
    if len(text) < 1000 and text.isascii() and text.isdigit():
        value = int(text)
    else:
        found = _INT_FORM.fullmatch(text)
        if found is None:
            raise _invalid(key_type, text)
        digits = found["ten"] or ""
        if len(text) > 1000:
            raise Undecodable(key_type)
        value = int(digits) if digits else int(found["other"], 0)
        value = -value if found["sign"] == "-" else value
    if not -1 <= value >> _INT_BITS[key_type] <= 0:
        raise OutOfRange(f'value "{text}" is out of range for type {key_type}')
    return value


def _uuid_from_text(key_type: str, text: str) -> bytes:
    if _UUID_FORM.fullmatch(text) is None:
        raise _invalid(key_type, text)
    return bytes.fromhex(text.strip("{}").replace("-", ""))


def _date_from_text(key_type: str, text: str) -> int:
    days = calendar.date_from_text(text)
    if days is None:
        raise Undecodable(key_type)
    return days


def _time_from_text(key_type: str, text: str) -> int:
    us = calendar.time_from_text(text, zoned=key_type == "timestamp with time zone")
    if us is None:
        raise Undecodable(key_type)
    return us


def _numeric_from_text(key_type: str, text: str) -> Number:
    if len(text) > _NUMBER_CHARS_MAX:
        raise Undecodable(key_type)
    bare = text.strip(_SPACES)
    if _NUMBER_FORM.fullmatch(bare):
        return _number(Decimal(bare))
    word = bare.lower()
    if word == "nan":
        return _NAN
    if word.lstrip("+-") in ("infinity", "inf") and word.count("-") + word.count("+") < 2:
        return (0, Decimal(word))
    if bare[:1].isalpha() or not bare:
        raise _invalid(key_type, text)
    raise Undecodable(key_type)  # 1_000, 0x1F: valid from PostgreSQL 16 on


def _number(value: Decimal) -> Number:
    if value.is_nan():
        return _NAN
    if value.is_finite() and (
        value.adjusted() > _EXPONENT_MAX or int(value.as_tuple().exponent) < -_EXPONENT_MAX
    ):
        raise Undecodable("numeric")
    return (0, value)


def decode_binary(key_type: str, oid: int, data: bytes) -> Any:
    """The canonical value of a parameter of type `oid` (0: the column's own) in binary form. Raises Undecodable."""
    if not same_family(key_type, oid):
        raise Undecodable(key_type)
    try:
        return _FROM_BINARY[key_type](data)
    except (ValueError, KeyError, struct.error):
        raise Undecodable(key_type) from None  # the server says what is wrong with it


def _int_from_binary(data: bytes) -> int:
    """Two, four or eight bytes: which of them the column has does not matter to order and hash."""
    if len(data) not in (2, 4, 8):
        raise ValueError
    return int.from_bytes(data, "big", signed=True)


def _text_from_binary(data: bytes) -> str:
    return _text_from_text("text", data.decode())


def _uuid_from_binary(data: bytes) -> bytes:
    if len(data) != 16:
        raise ValueError
    return bytes(data)


def _numeric_from_binary(data: bytes) -> Number:
    count, weight, sign, scale = _numeric_head.unpack_from(data)
    if len(data) != 8 + 2 * count or count > 250 or scale > _EXPONENT_MAX:
        raise ValueError
    if sign not in (0, 0x4000):
        return {0xC000: _NAN, 0xD000: (0, Decimal("Infinity")), 0xF000: (0, Decimal("-Infinity"))}[sign]
    digits = struct.unpack_from(f">{count}H", data, 8)
    if any(digit > 9999 for digit in digits):
        raise ValueError
    number = "".join(f"{digit:04}" for digit in digits) or "0"
    exponent = (weight - count + 1) * 4 if count else 0
    if -exponent > scale + 3:
        raise ValueError  # more digits than the scale shows: the server would cut them off
    return _number(Decimal(f"{'-' if sign else ''}{number}E{exponent}"))


def decode_python(key_type: str, value: Any) -> Any:
    """The canonical value of a Python argument as asyncpg would encode it. Raises Undecodable.

    As with asyncpg, the first and the last date (or timestamp) that Python has stand for the infinities, and a
    timestamp with time zone that names none is local time.
    """
    try:
        return _FROM_PYTHON[key_type](value)
    except (TypeError, ValueError, KeyError, ArithmeticError, BadKey):
        raise Undecodable(key_type) from None


def _text_from_python(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return _text_from_text("text", value)


def _int_from_python(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return int(value)


def _uuid_from_python(value: Any) -> bytes:
    if isinstance(value, str):
        return _uuid_from_text("uuid", value)
    if not isinstance(value, UUID):
        raise TypeError
    return value.bytes


_EPOCH_ORDINAL: Final = date(2000, 1, 1).toordinal()
_EPOCH: Final = datetime(2000, 1, 1)
_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _date_from_python(value: Any) -> int:
    if not isinstance(value, date):
        raise TypeError
    ordinal = value.toordinal()
    if ordinal == date.max.toordinal():
        return calendar.DATE_AFTER_ALL
    return calendar.DATE_BEFORE_ALL if ordinal == 1 else ordinal - _EPOCH_ORDINAL


def _datetime_from_python(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, date):
        raise TypeError
    return datetime(value.year, value.month, value.day)


def _microseconds(value: datetime, epoch: datetime) -> int:
    naive = value.replace(tzinfo=None)
    if naive in (datetime.max, datetime.min):
        return calendar.TIME_AFTER_ALL if naive == datetime.max else calendar.TIME_BEFORE_ALL
    since = value - epoch
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def _timestamp_from_python(value: Any) -> int:
    return _microseconds(_datetime_from_python(value), _EPOCH)


def _timestamptz_from_python(value: Any) -> int:
    moment = _datetime_from_python(value)
    if moment in (datetime.max, datetime.min) and moment.tzinfo is None:
        return _microseconds(moment, _EPOCH)
    return _microseconds(moment.astimezone(UTC), _EPOCH_UTC)


def _numeric_from_python(value: Any) -> Number:
    return _number(value if isinstance(value, Decimal) else Decimal(value))


def encode_text(key_type: str, value: Any) -> str:
    """The text form of a canonical value: what PostgreSQL would accept in a bound or print in a view."""
    match key_type:
        case "uuid":
            return str(UUID(bytes=value))
        case "date":
            return calendar.date_to_text(value)
        case "timestamp without time zone" | "timestamp with time zone":
            return calendar.time_to_text(value, zoned=key_type == "timestamp with time zone")
        case "numeric":
            return "NaN" if value[0] else f"{value[1] or abs(value[1]):f}"  # PostgreSQL has no -0
        case _:
            return str(value)


_FROM_TEXT: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "text": _text_from_text,
    "character varying": _text_from_text,
    "smallint": _int_from_text,
    "integer": _int_from_text,
    "bigint": _int_from_text,
    "uuid": _uuid_from_text,
    "date": _date_from_text,
    "timestamp without time zone": _time_from_text,
    "timestamp with time zone": _time_from_text,
    "numeric": _numeric_from_text,
}
_FROM_BINARY: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "text": _text_from_binary,
    "character varying": _text_from_binary,
    "smallint": _int_from_binary,
    "integer": _int_from_binary,
    "bigint": _int_from_binary,
    "uuid": _uuid_from_binary,
    "date": lambda data: _int32.unpack(data)[0],
    "timestamp without time zone": lambda data: _int64.unpack(data)[0],
    "timestamp with time zone": lambda data: _int64.unpack(data)[0],
    "numeric": _numeric_from_binary,
}
_FROM_PYTHON: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": _text_from_python,
    "character varying": _text_from_python,
    "smallint": _int_from_python,
    "integer": _int_from_python,
    "bigint": _int_from_python,
    "uuid": _uuid_from_python,
    "date": _date_from_python,
    "timestamp without time zone": _timestamp_from_python,
    "timestamp with time zone": _timestamptz_from_python,
    "numeric": _numeric_from_python,
}
