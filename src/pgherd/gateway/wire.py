"""The PostgreSQL wire protocol, versions 3.0 and 3.2, as a pure codec: bytes in, values out, and back.

This file cuts a stream into messages and gathers the public names; `wire_build` makes messages, `wire_read` reads their
bodies. PostgreSQL manual, chapter "Frontend/Backend Protocol". A stream that cannot be cut raises here and is beyond
repair; a body that cannot be read raises `ProtocolViolation` in `wire_read`, and the stream is still in step.
"""

from __future__ import annotations

import struct
from typing import Final

from pgherd.errors import ProtocolViolation, TooLarge
from pgherd.gateway.wire_build import (
    AUTHENTICATION_OK,
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    COPY_DONE,
    EMPTY_QUERY_RESPONSE,
    FLUSH,
    GSSENC_REQUEST,
    NO_DATA,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SSL_REQUEST,
    SYNC,
    TERMINATE,
    VERSION_3_0,
    VERSION_3_2,
    Field,
    authentication_cleartext,
    authentication_md5,
    authentication_sasl,
    authentication_sasl_continue,
    authentication_sasl_final,
    backend_key_data,
    bind,
    bind_tail,
    cancel_request,
    close_portal,
    close_statement,
    command_complete,
    copy_data,
    copy_fail,
    copy_in_response,
    copy_out_response,
    data_row,
    describe_portal,
    describe_statement,
    error_fields,
    error_response,
    error_response_from,
    execute,
    message,
    negotiate_protocol_version,
    notice_response,
    notification_response,
    parameter_description,
    parameter_status,
    parse,
    password_message,
    query,
    ready_for_query,
    rebind,
    row_description,
    sasl_initial_response,
    sasl_response,
    startup,
)
from pgherd.gateway.wire_read import (
    Authentication,
    Bind,
    CancelRequest,
    CopyResponse,
    GssEncRequest,
    Parse,
    SaslInitial,
    SslRequest,
    Startup,
    StartupPacket,
    read_authentication,
    read_backend_key_data,
    read_bind,
    read_bind_tail,
    read_command_complete,
    read_copy_response,
    read_cstring,
    read_data_row,
    read_describe,
    read_error,
    read_execute,
    read_negotiate_protocol_version,
    read_notification,
    read_parameter_description,
    read_parameter_status,
    read_parse,
    read_ready_for_query,
    read_row_description,
    read_sasl_initial,
    read_startup,
    split_bind,
    text_row,
)

__all__ = [
    "AUTHENTICATION_OK",
    "BIND_COMPLETE",
    "CLOSE_COMPLETE",
    "COPY_DONE",
    "EMPTY_QUERY_RESPONSE",
    "FLUSH",
    "GSSENC_REQUEST",
    "MAX_BEFORE_AUTHENTICATION",
    "NO_DATA",
    "PARSE_COMPLETE",
    "PORTAL_SUSPENDED",
    "SSL_REQUEST",
    "SYNC",
    "TERMINATE",
    "VERSION_3_0",
    "VERSION_3_2",
    "Authentication",
    "Bind",
    "CancelRequest",
    "CopyResponse",
    "Field",
    "GssEncRequest",
    "Parse",
    "SaslInitial",
    "Splitter",
    "SslRequest",
    "Startup",
    "StartupPacket",
    "authentication_cleartext",
    "authentication_md5",
    "authentication_sasl",
    "authentication_sasl_continue",
    "authentication_sasl_final",
    "backend_key_data",
    "bind",
    "bind_tail",
    "cancel_request",
    "check_length",
    "close_portal",
    "close_statement",
    "command_complete",
    "copy_data",
    "copy_fail",
    "copy_in_response",
    "copy_out_response",
    "data_row",
    "describe_portal",
    "describe_statement",
    "error_fields",
    "error_response",
    "error_response_from",
    "execute",
    "message",
    "negotiate_protocol_version",
    "notice_response",
    "notification_response",
    "parameter_description",
    "parameter_status",
    "parse",
    "password_message",
    "query",
    "read_authentication",
    "read_backend_key_data",
    "read_bind",
    "read_bind_tail",
    "read_command_complete",
    "read_copy_response",
    "read_cstring",
    "read_data_row",
    "read_describe",
    "read_error",
    "read_execute",
    "read_negotiate_protocol_version",
    "read_notification",
    "read_parameter_description",
    "read_parameter_status",
    "read_parse",
    "read_ready_for_query",
    "read_row_description",
    "read_sasl_initial",
    "read_startup",
    "ready_for_query",
    "rebind",
    "row_description",
    "sasl_initial_response",
    "sasl_response",
    "split_bind",
    "split_startup",
    "startup",
    "text_row",
]

MAX_BEFORE_AUTHENTICATION: Final = 10_000  # bytes of a startup packet or password message, as in PostgreSQL
_length = struct.Struct(">i").unpack_from


def check_length(length: int, max_bytes: int) -> None:
    """`length` as a message's header gives it: includes itself, not the type byte. Raises if it cannot be right."""
    if length < 4:
        raise ProtocolViolation("invalid message length")
    if length > max_bytes:
        raise TooLarge(f"a message of {length} bytes exceeds the limit of {max_bytes}")


def split_startup(buffer: bytes | bytearray) -> tuple[bytes, int] | None:
    """The body of the startup packet at the buffer's begin and where it ends, or None if it is not complete."""
    if len(buffer) < 4:
        return None
    (length,) = _length(buffer)
    if not 8 <= length <= MAX_BEFORE_AUTHENTICATION:
        raise ProtocolViolation("invalid length of startup packet")
    return (bytes(buffer[4:length]), length) if len(buffer) >= length else None


class Splitter:
    """Cuts a stream into messages. `max_bytes` may be raised once the peer is authenticated.

    Memory is bounded by `max_bytes` and the size of what is fed at once.
    """

    __slots__ = ("_rest", "max_bytes")

    def __init__(self, max_bytes: int = MAX_BEFORE_AUTHENTICATION) -> None:
        self.max_bytes = max_bytes
        self._rest = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an incomplete message that are kept."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that `data` completes, as (type byte, body). Raises ProtocolViolation or TooLarge."""
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            buffer = self._rest
        messages: list[tuple[int, bytes]] = []
        at, end = 0, len(buffer)
        while end - at >= 5:
            (length,) = _length(buffer, at + 1)
            check_length(length, self.max_bytes)
            after = at + 1 + length
            if after > end:
                break
            messages.append((buffer[at], bytes(buffer[at + 5 : after])))
            at = after
        if buffer is self._rest:
            del self._rest[:at]
        else:
            self._rest += data[at:]
        return messages
