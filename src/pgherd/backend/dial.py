"""Opening connections to servers: TCP, and TLS where a context is given."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from pgherd.catalog.model import Node
from pgherd.errors import GroupDown
from pgherd.gateway import wire

P = TypeVar("P", bound=asyncio.Protocol)


async def dial(
    node: Node, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None, protocol: Callable[[], P]
) -> P:
    """A connection to `node` over TCP, with TLS if there is a context. Raises OSError.

    TLS is asked for by SSLRequest, as every version of PostgreSQL knows it (manual, "SSL Session Encryption").
    """
    if tls is None:
        return (await loop.create_connection(protocol, node.host, node.port))[1]
    plain, question = await loop.create_connection(lambda: _TlsQuestion(loop), node.host, node.port)
    try:
        if not await question.answer:
            raise GroupDown(
                f"group {node.group} does not offer TLS at {node.host}:{node.port}",
                hint="Set ssl = on there (tls_cert and tls_key of its node), or server_tls = off here.",
            )
        made = protocol()
        secret = await loop.start_tls(plain, made, tls, server_hostname=node.host)
    except ssl.SSLError as error:
        plain.abort()
        raise GroupDown(
            f"group {node.group}: no TLS with {node.host}:{node.port}: {error.reason or error}",
            hint="Check server_ca, and that the certificate there names the node's host.",
        ) from error
    except BaseException:
        plain.abort()
        raise
    assert secret is not None
    made.connection_made(secret)
    return made


class _TlsQuestion(asyncio.Protocol):
    """Asks a server for TLS and takes its answer, one byte: more would be somebody else's words."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[bool] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(wire.SSL_REQUEST)

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data == b"S")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("closed instead of an answer about TLS"))


class CancelLine(asyncio.Protocol):
    """The connection of a cancel request: written to once, then closed by the server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
