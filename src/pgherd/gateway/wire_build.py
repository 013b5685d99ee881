"""Making messages of the PostgreSQL wire protocol. Every function answers whole messages, header included."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pgherd.errors import PgherdError, ProtocolViolation, ServerError

VERSION_3_0: Final = 3 << 16
VERSION_3_2: Final = 3 << 16 | 2
_CANCEL: Final = 1234 << 16 | 5678
_SSL: Final = 1234 << 16 | 5679
_GSSENC: Final = 1234 << 16 | 5680

_int32 = struct.Struct(">i").pack
_uint32 = struct.Struct(">I").pack
_uint16 = struct.Struct(">H").pack
_header = struct.Struct(">ci").pack
_field_tail = struct.Struct(">IhIhih").pack
_NULL: Final = b"\xff\xff\xff\xff"

PARSE_COMPLETE: Final = b"1\0\0\0\x04"
BIND_COMPLETE: Final = b"2\0\0\0\x04"
CLOSE_COMPLETE: Final = b"3\0\0\0\x04"
NO_DATA: Final = b"n\0\0\0\x04"
PORTAL_SUSPENDED: Final = b"s\0\0\0\x04"
EMPTY_QUERY_RESPONSE: Final = b"I\0\0\0\x04"
COPY_DONE: Final = b"c\0\0\0\x04"
FLUSH: Final = b"H\0\0\0\x04"
SYNC: Final = b"S\0\0\0\x04"
TERMINATE: Final = b"X\0\0\0\x04"
AUTHENTICATION_OK: Final = b"R\0\0\0\x08\0\0\0\0"
SSL_REQUEST: Final = _int32(8) + _int32(_SSL)
GSSENC_REQUEST: Final = _int32(8) + _int32(_GSSENC)


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a RowDescription. `format` 0 is text, 1 binary; `size` -1 is variable."""

    name: str
    oid: int
    size: int = -1
    typmod: int = -1
    format: int = 0
    table_oid: int = 0
    attnum: int = 0


def message(kind: bytes, body: bytes) -> bytes:
    """One message of type `kind` (one byte)."""
    return _header(kind, len(body) + 4) + body


def _cstring(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if b"\0" in raw:
        raise ProtocolViolation("a zero byte inside a text")
    return raw + b"\0"


# ---- from a server ------------------------------------------------------------------------------------


def authentication_cleartext() -> bytes:
    """AuthenticationCleartextPassword."""
    return message(b"R", _int32(3))


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password; `salt` is four bytes."""
    return message(b"R", _int32(5) + salt)


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    """AuthenticationSASL: the mechanisms offered, best first."""
    return message(b"R", _int32(10) + b"".join(map(_cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue."""
    return message(b"R", _int32(11) + data)


def authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal."""
    return message(b"R", _int32(12) + data)


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus."""
    return message(b"S", _cstring(name) + _cstring(value))


def backend_key_data(process_id: int, key: bytes) -> bytes:
    """BackendKeyData; `key` is 4 bytes in version 3.0, up to 256 in 3.2."""
    return message(b"K", _uint32(process_id) + key)


def negotiate_protocol_version(version: int, unknown: Sequence[str] = ()) -> bytes:
    """NegotiateProtocolVersion: the newest `version` spoken here, and the protocol options that are not known."""
    return message(b"v", _int32(version) + _int32(len(unknown)) + b"".join(map(_cstring, unknown)))


def ready_for_query(status: Literal["I", "T", "E"]) -> bytes:
    """ReadyForQuery: idle, in a transaction, in a failed one."""
    return b"Z\0\0\0\x05" + status.encode()


def row_description(fields: Iterable[Field]) -> bytes:
    """RowDescription."""
    parts = [b""]
    for f in fields:
        parts.append(_cstring(f.name))
        parts.append(_field_tail(f.table_oid, f.attnum, f.oid, f.size, f.typmod, f.format))
    parts[0] = _uint16(len(parts) // 2)
    return message(b"T", b"".join(parts))


def _values(values: Sequence[bytes | None]) -> bytes:
    parts = [_uint16(len(values))]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(_int32(len(value)))
            parts.append(value)
    return b"".join(parts)


def data_row(values: Sequence[bytes | None]) -> bytes:
    """DataRow; None is NULL."""
    return message(b"D", _values(values))


def command_complete(tag: str) -> bytes:
    """CommandComplete: "UPDATE 3"."""
    return message(b"C", _cstring(tag))


def parameter_description(oids: Sequence[int]) -> bytes:
    """ParameterDescription: the types of a prepared statement's parameters."""
    return message(b"t", struct.pack(f">H{len(oids)}I", len(oids), *oids))


def error_fields(error: PgherdError, severity: str = "ERROR") -> dict[str, str]:
    """The protocol's fields for an error; a ServerError keeps the server's own."""
    if isinstance(error, ServerError):
        return error.fields
    fields = {"S": severity, "V": severity, "C": error.sqlstate, "M": error.message}
    optional = {"D": error.detail, "H": error.hint, "W": error.context}
    fields.update({code: text for code, text in optional.items() if text})
    if error.position is not None:
        fields["P"] = str(error.position)
    return fields


def _fields(fields: Mapping[str, str]) -> bytes:
    return (
        b"".join(code.encode() + _cstring(text.replace("\0", "?")) for code, text in fields.items()) + b"\0"
    )


def error_response(fields: Mapping[str, str]) -> bytes:
    """ErrorResponse from the protocol's one-letter fields."""
    return message(b"E", _fields(fields))


def error_response_from(error: PgherdError, severity: str = "ERROR") -> bytes:
    """ErrorResponse for an error of pgherd's or a server's."""
    return error_response(error_fields(error, severity))


def notice_response(fields: Mapping[str, str]) -> bytes:
    """NoticeResponse from the protocol's one-letter fields."""
    return message(b"N", _fields(fields))


def notification_response(process_id: int, channel: str, payload: str) -> bytes:
    """NotificationResponse."""
    return message(b"A", _uint32(process_id) + _cstring(channel) + _cstring(payload))


def _copy_response(kind: bytes, binary: bool, columns: int) -> bytes:
    return message(kind, struct.pack(f">BH{columns}H", binary, columns, *([int(binary)] * columns)))


def copy_in_response(*, binary: bool, columns: int) -> bytes:
    """CopyInResponse; every column has the format of the whole."""
    return _copy_response(b"G", binary, columns)


def copy_out_response(*, binary: bool, columns: int) -> bytes:
    """CopyOutResponse; every column has the format of the whole."""
    return _copy_response(b"H", binary, columns)


# ---- from a client ------------------------------------------------------------------------------------


def startup(parameters: Mapping[str, str], version: int = VERSION_3_0) -> bytes:
    """StartupMessage."""
    body = b"".join(_cstring(name) + _cstring(value) for name, value in parameters.items())
    return _int32(len(body) + 9) + _int32(version) + body + b"\0"


def cancel_request(process_id: int, key: bytes) -> bytes:
    """CancelRequest."""
    return _int32(12 + len(key)) + _int32(_CANCEL) + _uint32(process_id) + key


def password_message(password: str) -> bytes:
    """PasswordMessage: the clear text, or "md5..."."""
    return message(b"p", _cstring(password))


def sasl_initial_response(mechanism: str, data: bytes) -> bytes:
    """SASLInitialResponse."""
    return message(b"p", _cstring(mechanism) + _int32(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    """SASLResponse."""
    return message(b"p", data)


def query(sql: str) -> bytes:
    """Query: the simple protocol."""
    return message(b"Q", _cstring(sql))


def parse(name: str, sql: str, oids: Sequence[int] = ()) -> bytes:
    """Parse: prepare `sql` under `name`."""
    return message(b"P", _cstring(name) + _cstring(sql) + struct.pack(f">H{len(oids)}I", len(oids), *oids))


def bind_tail(formats: Sequence[int], values: Sequence[bytes | None], result_formats: Sequence[int]) -> bytes:
    """What follows the two names in a Bind message."""
    head = struct.pack(f">H{len(formats)}H", len(formats), *formats)
    return (
        head
        + _values(values)
        + struct.pack(f">H{len(result_formats)}H", len(result_formats), *result_formats)
    )


def rebind(tail: bytes, portal: str, statement: str) -> bytes:
    """Bind with other names: `tail` is what follows the names, as `split_bind` or `bind_tail` gives it."""
    return message(b"B", _cstring(portal) + _cstring(statement) + tail)


def bind(
    portal: str,
    statement: str,
    values: Sequence[bytes | None],
    *,
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """Bind."""
    return rebind(bind_tail(formats, values, result_formats), portal, statement)


def describe_statement(name: str) -> bytes:
    """Describe a prepared statement."""
    return message(b"D", b"S" + _cstring(name))


def describe_portal(name: str) -> bytes:
    """Describe a portal."""
    return message(b"D", b"P" + _cstring(name))


def close_statement(name: str) -> bytes:
    """Close a prepared statement."""
    return message(b"C", b"S" + _cstring(name))


def close_portal(name: str) -> bytes:
    """Close a portal."""
    return message(b"C", b"P" + _cstring(name))


def execute(portal: str, max_rows: int = 0) -> bytes:
    """Execute; 0 rows means all."""
    return message(b"E", _cstring(portal) + _int32(max_rows))


# ---- from either --------------------------------------------------------------------------------------


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return _header(b"d", len(data) + 4) + data


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return message(b"f", _cstring(reason))
