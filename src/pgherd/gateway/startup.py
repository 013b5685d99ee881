"""The beginning of a client's connection: TLS, cancel requests, the startup packet, logging in.

Until it is done nothing is believed: messages are short, and there is a time limit.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
from typing import TYPE_CHECKING

from pgherd.backend.connection import Credentials
from pgherd.backend.state import SessionState, state_of
from pgherd.errors import BadSetting, LoginRefused, PgherdError, ProtocolViolation, Refused, UnknownDatabase
from pgherd.gateway import scram, wire
from pgherd.gateway.session import READY, ClientSession
from pgherd.gateway.variables import TOKEN, TOO_QUIET, own_value

if TYPE_CHECKING:
    from pgherd.gateway.server import Gateway

MESSAGE_MAX_BYTES = 10_000
_NOT_SETTINGS = frozenset({"user", "database", "options", "replication"})
_UTF8 = frozenset({"utf8", "utf-8", "unicode"})


class Startup:
    """One for each new connection; it leaves the session when the session is ready."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._session: ClientSession | None = None
        self._buffer = b""
        self._step = "startup"
        self._scram: scram.ScramServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None

    def connected(self, session: ClientSession) -> None:
        if self._session is not None:
            return  # the second call, after TLS
        self._session = session
        self._timer = self.gateway.loop.call_later(self.gateway.settings.login_timeout, self._too_late)

    def _too_late(self) -> None:
        if self._session is not None and self._session.startup is not None:
            self._session.close()

    def lost(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    # ---- bytes -----------------------------------------------------------------------------------------

    def received(self, session: ClientSession, data: bytes) -> None:
        self._buffer += data
        try:
            while self._buffer and self._session is not None and session.startup is not None:
                if not self._next(session):
                    break
        except PgherdError as error:
            session.fatal(error)

    def _next(self, session: ClientSession) -> bool:
        """Deal with one message; False if it is not all there, or must wait."""
        if self._step == "startup":
            split = wire.split_startup(self._buffer)
            if split is None:
                return False
            body, used = split
            self._buffer = self._buffer[used:]
            return self._first(session, wire.read_startup(body))
        if self._step == "waiting":
            if len(self._buffer) > MESSAGE_MAX_BYTES:
                raise ProtocolViolation("too much data before authentication")
            return False
        if len(self._buffer) < 5:
            return False
        length = int.from_bytes(self._buffer[1:5], "big")
        wire.check_length(length, MESSAGE_MAX_BYTES)
        if len(self._buffer) < length + 1:
            return False
        kind, body, self._buffer = self._buffer[0], self._buffer[5 : length + 1], self._buffer[length + 1 :]
        if kind != 0x70:
            raise ProtocolViolation(f"expected a password message, got {chr(kind)!r}")
        self._replies.put_nowait(body)
        return True

    def _first(self, session: ClientSession, packet: wire.StartupPacket) -> bool:
        assert session.transport is not None
        match packet:
            case wire.SslRequest():
                return self._tls(session)
            case wire.GssEncRequest():
                session.transport.write(b"N")
                return True
            case wire.CancelRequest():
                self.gateway.cancel(packet.process_id, packet.key)
                session.close()
                return False
            case wire.Startup():
                self._step = "waiting"
                self._task = self.gateway.loop.create_task(self._login(session, packet))
                return False

    def _tls(self, session: ClientSession) -> bool:
        assert session.transport is not None
        if self.gateway.tls is None or session.transport.get_extra_info("ssl_object") is not None:
            session.transport.write(b"N")
            return True
        if self._buffer:
            # Bytes sent in the clear after the request could be somebody else's: CVE-2021-23214.
            raise ProtocolViolation("received unencrypted data after SSL request")
        session.transport.write(b"S")
        self._step = "waiting"
        self._task = self.gateway.loop.create_task(self._upgrade(session))
        return False

    async def _upgrade(self, session: ClientSession) -> None:
        assert session.transport is not None and self.gateway.tls is not None
        try:
            transport = await self.gateway.loop.start_tls(
                session.transport, session, self.gateway.tls, server_side=True
            )
        except (OSError, ConnectionError):
            session.close()
            return
        if transport is not None:
            session.transport = transport
        self._step = "startup"
        self.received(session, b"")

    # ---- logging in ------------------------------------------------------------------------------------

    async def _login(self, session: ClientSession, packet: wire.Startup) -> None:
        try:
            await self._greet(session, packet)
        except PgherdError as error:
            session.fatal(error)
        except asyncio.CancelledError:
            raise
        except Exception:  # the last line of defence: no traceback reaches a client
            self.gateway.log.exception("login failed")
            session.fatal(PgherdError("internal error during login"))

    async def _greet(self, session: ClientSession, packet: wire.Startup) -> None:
        parameters = packet.parameters
        user = parameters.get("user", "")
        if not user:
            raise LoginRefused("no PostgreSQL user name specified in startup packet")
        if packet.minor > 0 or packet.options:
            session.write(wire.negotiate_protocol_version(wire.VERSION_3_0, packet.options))
        if parameters.get("replication", "off").lower() not in ("", "off", "false", "no", "0"):
            raise Refused(
                "replication connections are not offered by the gateway",
                hint="Connect to a node: SELECT * FROM pgherd.nodes.",
            )
        credentials = await self._authenticate(session, user)
        wanted = parameters.get("database") or user
        if wanted != self.gateway.settings.database:
            raise UnknownDatabase(
                f'database "{wanted}" does not exist',
                hint=f"This cluster is one database, named {self.gateway.settings.database}.",
            )
        settings, own = _settings(parameters)
        session.user, session.credentials = user, credentials
        session.state = session.state_first = settings
        token = own.pop(TOKEN, None)
        session.options_first = own
        shown = await self.gateway.roles.greeting(session)
        session.used = False
        if token is not None:
            session.all_seen().merge(token)
        self._ready(session, shown)

    async def _authenticate(self, session: ClientSession, user: str) -> Credentials:
        if self.gateway.settings.auth == "trust":
            session.write(wire.AUTHENTICATION_OK)
            return Credentials(user=user)
        self._step = "password"
        server = scram.ScramServer(await self.gateway.roles.verifier(user), user=user)
        session.write(wire.authentication_sasl(["SCRAM-SHA-256"]))
        session.flush()
        self.received(session, b"")
        initial = wire.read_sasl_initial(await self._replies.get())
        if initial.mechanism != "SCRAM-SHA-256" or initial.data is None:
            raise ProtocolViolation(f"unknown SASL mechanism {initial.mechanism!r}")
        session.write(wire.authentication_sasl_continue(server.first(initial.data)))
        session.flush()
        final = await self._replies.get()
        session.write(wire.authentication_sasl_final(server.final(final)))
        session.write(wire.AUTHENTICATION_OK)
        return Credentials(user=user, keys=server.keys)

    def _ready(self, session: ClientSession, shown: dict[str, str]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        session.secret = secrets.token_bytes(4)
        self.gateway.joined(session)
        for name, value in shown.items():
            session.write(wire.parameter_status(name, value))
        session.write(wire.backend_key_data(session.pid, session.secret))
        session.write(READY["I"])
        session.flush()
        session.startup = None
        left, self._buffer = self._buffer, b""
        if left:
            session.data_received(left)


def _settings(parameters: dict[str, str]) -> tuple[SessionState, dict[str, str]]:
    """A startup packet's settings for the servers, and those in our own name space."""
    found = {name.lower(): value for name, value in parameters.items() if name not in _NOT_SETTINGS}
    found |= _options(parameters.get("options", ""))
    encoding = found.get("client_encoding", "UTF8")
    if encoding.strip("'\"").lower() not in _UTF8:
        raise Refused(f'client_encoding "{encoding}" is not supported', hint="Set PGCLIENTENCODING=UTF8.")
    found.pop("client_encoding", None)
    if found.get("client_min_messages", "").lower() in TOO_QUIET:
        found["client_min_messages"] = "warning"
    own: dict[str, str] = {}
    for name, text in found.items():
        if name == TOKEN:
            own[name] = text
        elif name.startswith("pgherd.") and (value := own_value(name, text)) is not None:
            own[name] = value
    others = ((name, value) for name, value in found.items() if not name.startswith("pgherd."))
    return state_of(tuple(others)), own


def _options(text: str) -> dict[str, str]:
    """The settings in libpq's `options`: -c name=value, --name=value."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadSetting(f"options: {error}") from error
    found: dict[str, str] = {}
    words = iter(words)
    for word in words:
        if word == "-c":
            word = next(words, "")
        elif word.startswith(("--", "-c")):
            word = word[2:]
        else:
            raise BadSetting(f"options: {word!r} is not understood", hint="Use -c name=value.")
        name, equals, value = word.partition("=")
        if not equals:
            raise BadSetting(f"options: {word!r} has no value")
        found[name.lower().replace("-", "_")] = value
    return found
