"""Logging in to a server: who we are, and the answers to its questions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgherd.backend.units import ERROR, PARAMETER_STATUS, READY, Framed, ready
from pgherd.errors import GroupDown, PgherdError, ServerError
from pgherd.gateway import scram, wire

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to log in: a role, and either a password, SCRAM keys learnt from a client, or nothing (trust)."""

    user: str
    password: str | None = None
    keys: scram.ScramKeys | None = None

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


class Greeting(Framed):
    """Reads the answers to the startup message, logging in on the way."""

    def __init__(self, credentials: Credentials, loop: asyncio.AbstractEventLoop) -> None:
        self.credentials = credentials
        self.future: asyncio.Future[None] = loop.create_future()
        self._scram: scram.ScramClient | None = None

    def message(self, link: ServerLink, kind: int, data: bytes, pos: int, end: int) -> bool:
        body = data[pos + 5 : end]
        if kind == 0x52:
            self._authenticate(link, int.from_bytes(body[:4], "big"), body[4:])
        elif kind == 0x4B:
            link.pid, link.secret = int.from_bytes(body[:4], "big"), body[4:]
        elif kind == PARAMETER_STATUS:
            link.parameter_status(data, pos, end)
        elif kind == ERROR:
            self.lost(ServerError(wire.read_error(body)))
        elif kind == READY:
            ready(link, data, pos)
            if not self.future.done():
                self.future.set_result(None)
            return True
        return False

    def _authenticate(self, link: ServerLink, kind: int, body: bytes) -> None:
        try:
            answer = self._answer(kind, body)
        except PgherdError as error:
            self.lost(error)
            return
        if answer:
            link.write(answer)

    def _answer(self, kind: int, body: bytes) -> bytes:
        if kind == 0:
            return b""
        if kind == 10:
            self._scram = scram.ScramClient(
                self.credentials.user, password=self.credentials.password, keys=self.credentials.keys
            )
            return wire.sasl_initial_response("SCRAM-SHA-256", self._scram.first())
        if kind == 11 and self._scram is not None:
            return wire.sasl_response(self._scram.final(body))
        if kind == 12 and self._scram is not None:
            self._scram.verify(body)
            return b""
        if kind == 3 and self.credentials.password is not None:
            return wire.password_message(self.credentials.password)
        raise GroupDown(
            "the server asks for an authentication method that pgherd does not offer",
            hint="Use scram-sha-256 in pg_hba.conf.",
        )

    def lost(self, error: PgherdError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
