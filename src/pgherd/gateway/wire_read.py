"""Reading the bodies of messages of the PostgreSQL wire protocol (without type byte and length).

A body that does not follow the protocol raises `ProtocolViolation`, a text that is not UTF-8 `BadEncoding`, and nothing
else is ever raised, whatever the bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

from pgherd.errors import BadEncoding, ProtocolViolation
from pgherd.gateway.wire_build import Field

_P = ParamSpec("_P")
_T = TypeVar("_T")
_int32 = struct.Struct(">i").unpack_from
_uint32 = struct.Struct(">I").unpack_from
_uint16 = struct.Struct(">H").unpack_from
_field_tail = struct.Struct(">IhIhih")


def _reads(name: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Whatever goes wrong in reading a `name` message is the peer's fault."""

    def wrap(read: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(read)
        def reading(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return read(*args, **kwargs)
            except UnicodeDecodeError as error:
                wrong = " ".join(f"0x{byte:02x}" for byte in error.object[error.start : error.end])
                raise BadEncoding(f'invalid byte sequence for encoding "UTF8": {wrong}') from None
            except (struct.error, ValueError, IndexError):
                raise ProtocolViolation(f"invalid {name} message") from None

        return reading

    return wrap


def _end(body: bytes, at: int) -> None:
    if at != len(body):
        raise ValueError("bytes left over")


def _cstring(body: bytes, at: int) -> tuple[str, int]:
    end = body.index(0, at)
    return body[at:end].decode(), end + 1


def _oids(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = _uint16(body, at)
    return struct.unpack_from(f">{count}I", body, at + 2), at + 2 + 4 * count


def _formats(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = _uint16(body, at)
    if not count:
        return (), at + 2
    return struct.unpack_from(f">{count}H", body, at + 2), at + 2 + 2 * count


def _values(body: bytes, at: int) -> tuple[list[bytes | None], int]:
    (count,) = _uint16(body, at)
    at += 2
    values: list[bytes | None] = []
    for _ in range(count):
        (size,) = _int32(body, at)
        at += 4
        if size < 0:
            if size != -1:
                raise ValueError("negative length")
            values.append(None)
            continue
        end = at + size
        if end > len(body):
            raise ValueError("a value ends behind its message")
        values.append(body[at:end])
        at = end
    return values, at


# ---- startup --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Startup:
    """StartupMessage. `parameters` without the protocol options `_pq_.*`, whose names are in `options`."""

    major: int
    minor: int
    parameters: dict[str, str]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client asks for TLS."""


@dataclass(frozen=True, slots=True)
class GssEncRequest:
    """The client asks for GSSAPI encryption."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """The client asks to cancel what the session with this process id and key is doing."""

    process_id: int
    key: bytes


StartupPacket = Startup | SslRequest | GssEncRequest | CancelRequest


@_reads("startup")
def read_startup(body: bytes) -> StartupPacket:
    """The first packet of a connection; other major versions than 3 are answered as they are, without parameters."""
    (code,) = _int32(body)
    if code == 1234 << 16 | 5679:
        _end(body, 4)
        return SslRequest()
    if code == 1234 << 16 | 5680:
        _end(body, 4)
        return GssEncRequest()
    if code == 1234 << 16 | 5678:
        if not 4 <= len(body) - 8 <= 256:
            raise ValueError("length of the cancel key")
        return CancelRequest(_uint32(body, 4)[0], body[8:])
    major, minor = code >> 16 & 0xFFFF, code & 0xFFFF
    if major != 3:
        return Startup(major, minor, {})
    parameters: dict[str, str] = {}
    at = 4
    while body[at]:
        name, at = _cstring(body, at)
        parameters[name], at = _cstring(body, at)
    _end(body, at + 1)
    options = tuple(name for name in parameters if name.startswith("_pq_."))
    for name in options:
        del parameters[name]
    return Startup(major, minor, parameters, options)


# ---- from a client --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parse:
    """Prepare `sql` under `name` ("" is the unnamed statement); `oids` may be shorter than its parameters, 0 is not said."""

    name: str
    sql: str
    oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind values to a statement, making a portal. `tail` is the message after the two names, for `rebind`."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: list[bytes | None]
    result_formats: tuple[int, ...]
    tail: bytes


@dataclass(frozen=True, slots=True)
class SaslInitial:
    """SASLInitialResponse."""

    mechanism: str
    data: bytes | None


@_reads("query")
def read_cstring(body: bytes) -> str:
    """A body that is one text: Query, PasswordMessage, CopyFail."""
    text, at = _cstring(body, 0)
    _end(body, at)
    return text


@_reads("parse")
def read_parse(body: bytes) -> Parse:
    """Parse."""
    name, at = _cstring(body, 0)
    sql, at = _cstring(body, at)
    oids, at = _oids(body, at)
    _end(body, at)
    return Parse(name, sql, oids)


@_reads("bind")
def split_bind(body: bytes) -> tuple[str, str, bytes]:
    """Portal, statement and tail of a Bind message; the tail is not looked into."""
    portal, at = _cstring(body, 0)
    statement, at = _cstring(body, at)
    return portal, statement, body[at:]


@_reads("bind")
def read_bind_tail(tail: bytes) -> tuple[tuple[int, ...], list[bytes | None], tuple[int, ...]]:
    """Parameter formats, values and result formats. Formats: none (all text), one for all, or one each."""
    formats, at = _formats(tail, 0)
    values, at = _values(tail, at)
    if len(formats) > 1 and len(formats) != len(values):
        raise ProtocolViolation(
            f"bind message has {len(formats)} parameter formats but {len(values)} parameters"
        )
    result_formats, at = _formats(tail, at)
    _end(tail, at)
    return formats, values, result_formats


def read_bind(body: bytes) -> Bind:
    """Bind."""
    portal, statement, tail = split_bind(body)
    return Bind(portal, statement, *read_bind_tail(tail), tail)


@_reads("describe")
def read_describe(body: bytes) -> tuple[Literal["S", "P"], str]:
    """Describe and Close: of a statement or a portal, and its name."""
    name, at = _cstring(body, 1)
    _end(body, at)
    if body[0] == 83:
        return "S", name
    if body[0] == 80:
        return "P", name
    raise ValueError("neither statement nor portal")


@_reads("execute")
def read_execute(body: bytes) -> tuple[str, int]:
    """Execute: the portal and the most rows wanted (0 or less: all)."""
    portal, at = _cstring(body, 0)
    (max_rows,) = _int32(body, at)
    _end(body, at + 4)
    return portal, max_rows


@_reads("password")
def read_sasl_initial(body: bytes) -> SaslInitial:
    """SASLInitialResponse."""
    mechanism, at = _cstring(body, 0)
    (size,) = _int32(body, at)
    if size == -1:
        _end(body, at + 4)
        return SaslInitial(mechanism, None)
    _end(body, at + 4 + size)
    return SaslInitial(mechanism, body[at + 4 :])


# ---- from a server --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Authentication:
    """An authentication request: `code` 0 ok, 3 clear text, 5 MD5, 10 SASL, 11 SASL continue, 12 SASL final."""

    code: int
    data: bytes
    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """CopyInResponse, CopyOutResponse or CopyBothResponse; formats are 0 (text) or 1 (binary)."""

    binary: bool
    formats: tuple[int, ...]


@_reads("authentication")
def read_authentication(body: bytes) -> Authentication:
    """Any of the authentication requests."""
    (code,) = _int32(body)
    mechanisms: list[str] = []
    at = 4
    while code == 10 and body[at]:
        name, at = _cstring(body, at)
        mechanisms.append(name)
    return Authentication(code, body[4:], tuple(mechanisms))


@_reads("row description")
def read_row_description(body: bytes) -> tuple[Field, ...]:
    """RowDescription."""
    (count,) = _uint16(body)
    at = 2
    fields: list[Field] = []
    for _ in range(count):
        name, at = _cstring(body, at)
        table_oid, attnum, oid, size, typmod, code = _field_tail.unpack_from(body, at)
        at += _field_tail.size
        fields.append(Field(name, oid, size, typmod, code, table_oid, attnum))
    _end(body, at)
    return tuple(fields)


@_reads("data row")
def read_data_row(body: bytes) -> list[bytes | None]:
    """DataRow; NULL is None."""
    values, at = _values(body, 0)
    _end(body, at)
    return values


@_reads("data row")
def text_row(body: bytes) -> tuple[str | None, ...]:
    """A DataRow whose columns are all in text form."""
    values, at = _values(body, 0)
    _end(body, at)
    return tuple([None if value is None else value.decode() for value in values])


@_reads("error")
def read_error(body: bytes) -> dict[str, str]:
    """ErrorResponse and NoticeResponse: the one-letter fields. Text that is not UTF-8 is shown with replacements."""
    fields: dict[str, str] = {}
    at = 0
    while body[at]:
        end = body.index(0, at + 1)
        fields[chr(body[at])] = body[at + 1 : end].decode("utf-8", "replace")
        at = end + 1
    _end(body, at + 1)
    return fields


@_reads("command complete")
def read_command_complete(body: bytes) -> str:
    """CommandComplete: its tag."""
    text, at = _cstring(body, 0)
    _end(body, at)
    return text


@_reads("parameter status")
def read_parameter_status(body: bytes) -> tuple[str, str]:
    """ParameterStatus: name and value."""
    name, at = _cstring(body, 0)
    value, at = _cstring(body, at)
    _end(body, at)
    return name, value


@_reads("parameter description")
def read_parameter_description(body: bytes) -> tuple[int, ...]:
    """ParameterDescription: type OIDs."""
    oids, at = _oids(body, 0)
    _end(body, at)
    return oids


@_reads("backend key data")
def read_backend_key_data(body: bytes) -> tuple[int, bytes]:
    """BackendKeyData: process id and cancel key."""
    if not 4 <= len(body) - 4 <= 256:
        raise ValueError("length of the cancel key")
    return _uint32(body)[0], body[4:]


@_reads("ready for query")
def read_ready_for_query(body: bytes) -> Literal["I", "T", "E"]:
    """ReadyForQuery: the transaction status."""
    _end(body, 1)
    if body == b"I":
        return "I"
    if body == b"T":
        return "T"
    if body == b"E":
        return "E"
    raise ValueError("unknown status")


@_reads("copy response")
def read_copy_response(body: bytes) -> CopyResponse:
    """CopyInResponse, CopyOutResponse, CopyBothResponse."""
    formats, at = _formats(body, 1)
    _end(body, at)
    return CopyResponse(body[0] == 1, formats)


@_reads("notification")
def read_notification(body: bytes) -> tuple[int, str, str]:
    """NotificationResponse: process id, channel, payload."""
    (process_id,) = _uint32(body)
    channel, at = _cstring(body, 4)
    payload, at = _cstring(body, at)
    _end(body, at)
    return process_id, channel, payload


@_reads("protocol negotiation")
def read_negotiate_protocol_version(body: bytes) -> tuple[int, tuple[str, ...]]:
    """NegotiateProtocolVersion: the server's newest version and the options it does not know."""
    (version,) = _int32(body)
    (count,) = _uint32(body, 4)
    at, unknown = 8, list[str]()
    for _ in range(count):
        name, at = _cstring(body, at)
        unknown.append(name)
    _end(body, at)
    return version, tuple(unknown)
