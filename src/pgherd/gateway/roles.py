"""Roles as the gateway knows them from the servers: their passwords' verifiers, and what their sessions begin with."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgherd.backend.connection import ServerLink
from pgherd.backend.state import SessionState
from pgherd.catalog.model import GroupId
from pgherd.engine.link import Row
from pgherd.errors import GroupDown, TooManyClients
from pgherd.gateway import scram
from pgherd.gateway.variables import OWN_DEFAULTS, own_value

if TYPE_CHECKING:
    from pgherd.gateway.server import Gateway
    from pgherd.gateway.session import ClientSession

_REPORTED = (
    "server_version", "server_encoding", "client_encoding", "application_name", "is_superuser", "session_authorization",
    "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings", "search_path",
    "default_transaction_read_only", "in_hot_standby", "scram_iterations",
)  # fmt: skip
KNOWN_S = 60.0
LOOK_UPS = 3  # a node may vanish while one is under way; hardly one after the other


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a role's sessions: the parameters that clients are told, its settings of our own (ALTER ROLE ... SET), and
    until when that is believed."""

    shown: dict[str, str]
    own: dict[str, str]
    until: float


class Roles:
    """Belongs to a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._secret = secrets.token_bytes(16)
        self._known: dict[tuple[str, SessionState], Known] = {}

    async def greeting(self, session: ClientSession) -> dict[str, str]:
        """What to tell a client about its session; checks that its role may log in and its settings are valid."""
        if len(self._gateway.sessions) >= self._gateway.settings.client_max:
            raise TooManyClients(
                "sorry, too many clients already", hint=f"client_max is {self._gateway.settings.client_max}."
            )
        session.replan()
        key, now = (session.user, session.state), self._gateway.loop.time()
        known = self._known.get(key)
        if known is None or now > known.until:
            known = await self._learn(session, now + KNOWN_S)
            if len(self._known) > 1000:
                self._known.clear()
            self._known[key] = known
        session.options_first = {**known.own, **session.options_first}
        session.set_options(session.options_first)
        return known.shown

    async def _learn(self, session: ClientSession, until: float) -> Known:
        for group in self._gateway.servers.readiest(self._gateway.groups()):
            try:
                link = await self._any_node(session, group)
            except GroupDown:
                continue
            try:
                shown = {name: link.parameters[name] for name in _REPORTED if name in link.parameters}
                names = list(OWN_DEFAULTS)
                asked = ", ".join(f"pg_catalog.current_setting('{name}', true)" for name in names)
                row = (await link.run(f"SELECT {asked}"))[0]
            finally:
                session.give_back(link)
            own = ((name, value) for name, value in zip(names, row, strict=True) if value)
            kept = {name: found for name, value in own if (found := own_value(name, value)) is not None}
            return Known(shown | {"in_hot_standby": "off"}, kept, until)
        raise GroupDown("no group of the cluster answers", hint="See pgherd status.")

    async def _any_node(self, session: ClientSession, group: GroupId) -> ServerLink:
        """A connection with the session's role and settings, to a replica if there is no primary."""
        node = self._gateway.servers.stand_in(group)
        return await (session.lend(group) if node is None else session.lend_replica(node))

    async def verifier(self, user: str) -> str:
        """The SCRAM verifier of a role as the servers store it; one that nothing fits if it may not log in."""
        name = user.replace("'", "''")
        rows = await self._look_up(
            "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolcanlogin AND rolname = "
            f"'{name}' AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())"
        )
        found = rows[0][0] if rows else None
        if found is None or not found.startswith("SCRAM-SHA-256$"):
            return scram.fake_verifier(user, self._secret)
        return found

    async def _look_up(self, sql: str) -> list[Row]:
        """Rows of a look-up of the gateway's own, anywhere. A connection may be lost just then: its node is gone."""
        for tries_left in reversed(range(LOOK_UPS)):
            link = await self._gateway.servers.readable(self._gateway.groups())
            try:
                return await link.run(sql)
            except GroupDown:
                if not tries_left:
                    raise
            finally:
                self._gateway.lender.give_back(link)
        raise AssertionError
