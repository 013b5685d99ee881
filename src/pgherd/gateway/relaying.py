"""Hands a statement to one server and its answer to the client, as bytes; and answers that are held, as messages."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from pgherd.backend.connection import EXECUTE_ALL, SYNC, ServerLink
from pgherd.backend.units import PARSED_AND_BOUND, PLAIN, Relay, Swallow, unreplicated
from pgherd.engine.link import Link, Part
from pgherd.engine.params import BoundParams
from pgherd.errors import ConnectionLost, ServerError
from pgherd.gateway import wire
from pgherd.gateway.prepared import Target
from pgherd.gateway.streams import ArmRelay, Ending
from pgherd.plan.plans import Plan

if TYPE_CHECKING:
    from pgherd.gateway.session import ClientSession
    from pgherd.gateway.worker import Portal

_NUMBERS = count(
    1
)  # of portals on servers: they stay until their transaction ends, so no name may come again


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How an answer is to be given. `simple`: with its row description, as text. `alone`: the only statement up to the Sync.

    `last`: nothing follows in this unit. `limit`: rows wanted (0: all). `portal`: the extended protocol's portal.
    """

    simple: bool
    alone: bool
    last: bool = False
    limit: int = 0
    portal: Portal | None = None


class Relaying:
    """The part of a `Runner` that deals in messages."""

    __slots__ = ("session",)

    session: ClientSession

    async def relay(
        self, link: Link, sql: str, params: BoundParams, mode: Mode, *, target: Target | None = None
    ) -> None:
        """Run on `link`, hand the rows and the command tag on, keep the ReadyForQuery. Raises ServerError, GroupDown."""
        if not isinstance(link, ServerLink):
            part = await link.part(sql, params)  # a cursor under a window: what it answers is collected
            self.answer(part, mode.portal.prepared.plan if mode.portal is not None else Plan(), mode)
            return
        name = b""
        if mode.simple and not params.values:
            message = wire.query(sql)
        else:
            message, name = self._bound(link, sql, params, mode, target)
        await self.session.held(link)
        ending = Ending(self.session.loop)
        relay = Relay(
            self.session,
            ending.done,
            drop=PARSED_AND_BOUND,
            plain=PLAIN - PARSED_AND_BOUND,
            keep_ready=False,
            hold=_every,
            hold_late=True,
        )
        self.session.flush()
        if target is not None and target.shard is not None:
            meter = self.session.gateway.meter
            meter.left -= 1
            if meter.left < 0:
                self.session.time(link, target.shard)
        link.send(message, relay)
        try:
            await self._ended(relay, ending)
        finally:
            if self.session.sample is not None:
                self.session.timed(self.session.sample)
        if relay.error is not None:
            if name and not relay.parsed:
                link.prepared.pop(name, None)
            error = ServerError(relay.error, sent=sql)
            error.partial = relay.forwarded
            raise error
        if relay.unsure:
            raise unreplicated()

    def _bound(
        self, link: ServerLink, sql: str, params: BoundParams, mode: Mode, target: Target | None
    ) -> tuple[bytes, bytes]:
        """The messages that run a statement with parameters, and the name of a statement that is made on the way."""
        oids = link.types.inward(params.oids) if link.types else params.oids
        made = b""
        if target is not None and target.name in link.prepared:
            name, parse = target.name, b""
        elif target is not None and target.name and mode.portal is not None and mode.portal.prepared.uses > 1:
            name = made = target.name
            parse = link.remember(name) + wire.parse(name.decode(), sql, oids)
        else:
            name, parse = b"", wire.parse("", sql, oids)
        portal = ""
        if mode.limit and mode.portal is not None and self.session.tx is not None:
            portal = f"pgherd_{next(_NUMBERS)}"
            mode.portal.server = (link, portal)
        tail = params.bind_tail()
        names = portal.encode() + b"\0" + name + b"\0"
        bind = b"B" + (4 + len(names) + len(tail)).to_bytes(4, "big") + names + tail
        describe = wire.describe_portal(portal) if mode.simple else b""
        run = wire.execute(portal, mode.limit) if mode.limit else EXECUTE_ALL
        return parse + bind + describe + run + SYNC, made

    async def _ended(self, relay: Relay, ending: Ending, *, partial: bool = False) -> None:
        """Wait for the end of an answer. A connection lost on the way says whether part of it was sent (`partial`: before it)."""
        try:
            await ending.future
        except ConnectionLost as lost:
            lost.partial = partial or relay.forwarded
            raise

    async def resume(self, where: tuple[ServerLink, str], limit: int) -> None:
        """More rows of a portal (or cursor) that waits on a server."""
        link, name = where
        await self.session.held(link)
        ending = Ending(self.session.loop)
        relay = Relay(self.session, ending.done, keep_ready=False, hold=_every, hold_late=True)
        self.session.flush()
        link.send(wire.execute(name, limit) + SYNC, relay)
        await ending.future
        if relay.error is not None:
            raise ServerError(relay.error)

    def close_portal(self, link: ServerLink, name: str) -> None:
        """Close a server's portal; nobody waits for the answer."""

        link.send(wire.close_portal(name) + SYNC, Swallow())

    async def _arm(self, link: Link, sql: str, params: BoundParams, mode: Mode, *, first: bool) -> int:
        if not isinstance(link, ServerLink):
            part = await link.part(sql, params)
            if mode.simple and first and part.columns is not None:
                self.session.write(part.columns)
            for at in range(0, len(part.rows), 1000):
                self.session.write(b"".join(part.rows[at : at + 1000]))
                await self.session.drain()
            return part.count
        describe = wire.describe_portal("") if mode.simple and first else b""
        oids = link.types.inward(params.oids) if link.types else params.oids
        tail = params.bind_tail()
        bind = b"B" + (6 + len(tail)).to_bytes(4, "big") + b"\0\0" + tail
        await self.session.held(link)
        ending = Ending(self.session.loop)
        relay = ArmRelay(self.session, ending.done)
        self.session.flush()
        link.send(wire.parse("", sql, oids) + bind + describe + EXECUTE_ALL + SYNC, relay)
        await self._ended(relay, ending, partial=not first)
        if relay.error is not None:
            error = ServerError(relay.error, sent=sql)
            error.partial = relay.forwarded or not first
            raise error
        return int(relay.tag.rsplit(" ", 1)[-1] or 0)

    def answer(self, part: Part, plan: Plan, mode: Mode) -> None:
        """Write an answer that we hold; with a row limit, its beginning."""
        session = self.session
        portal = mode.portal
        if mode.simple and part.columns is not None:
            session.write(part.columns)
        if portal is not None and mode.limit and len(part.rows) > mode.limit:
            portal.rows, portal.tag, portal.sent = part.rows, part.tag or plan.tag, mode.limit
            session.write(b"".join(part.rows[: mode.limit]) + b"s\x00\x00\x00\x04")
            return
        for at in range(0, len(part.rows), 1000):
            session.write(b"".join(part.rows[at : at + 1000]))
        session.write(wire.command_complete(part.tag or plan.tag))


def _every(_fields: dict[str, str]) -> bool:
    return True
