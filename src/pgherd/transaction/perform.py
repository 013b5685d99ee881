"""The thin driver of the protocol: performs effects on links, asks for fresh ones where a connection was lost.

`drive` walks a `Protocol` to a final phase. `on_step` is called before and after each step; tests cut there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol as Shape

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.errors import GroupDown, OutcomeUnknown, PgherdError, ServerError
from pgherd.transaction.two_phase import (
    BARRIER,
    DURABLY,
    Ask,
    Decide,
    Effect,
    Finish,
    Prepare,
    Protocol,
    Result,
    Undo,
    UndoHome,
)

OnStep = Callable[[str, Protocol], Awaitable[None]]


class Lender(Shape):
    """Lends connections to groups. `lend` waits within a bound, else raises GroupDown."""

    async def lend(self, group: GroupId) -> Link: ...

    def give_back(self, link: Link, *, reusable: bool) -> None: ...


@asynccontextmanager
async def borrowed(lender: Lender, group: GroupId) -> AsyncGenerator[Link]:
    """A connection for the block. One on which an error or a cancel came in between is closed. Raises GroupDown."""
    link = await lender.lend(group)
    try:
        yield link
    except BaseException:
        lender.give_back(link, reusable=False)
        raise
    lender.give_back(link, reusable=not link.broken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long each part of a commit may take, in seconds.

    `prepare` includes waiting for deferred constraints and for a window to pass; `finish` is how long COMMIT PREPARED is
    tried again on a group that went down, before the client is told that the commit is decided but not visible everywhere.
    Both `ask` and `finish` outlast a failover.
    """

    prepare_s: float = 30.0
    decide_s: float = 30.0
    ask_s: float = 15.0
    finish_s: float = 15.0
    undo_s: float = 3.0


async def nothing(_when: str, _protocol: Protocol) -> None:
    """No hook."""


def is_lost(error: BaseException) -> bool:
    """Whether `error` leaves open what the server did: a lost connection, a bound, a server that shuts down, a cancelled
    wait for the standby."""
    if isinstance(error, ServerError):
        return error.fields.get("V", error.fields.get("S", "")) in (
            "FATAL",
            "PANIC",
        ) or error.code.startswith(("08", "57P"))
    return isinstance(error, GroupDown | OutcomeUnknown | OSError | TimeoutError)


class Performer:
    """Performs effects. `links` are the coordinator's own branches (empty for recovery); errors are kept in `errors`, those of
    PREPARE and of the decision, which tell why a transaction was not committed, in `reasons` as well."""

    def __init__(
        self, lender: Lender, links: Mapping[GroupId, Link] | None = None, bounds: Bounds | None = None
    ) -> None:
        self.lender = lender
        self.links = dict(links or {})
        self.bounds = bounds or Bounds()
        self.errors: list[BaseException] = []
        self.reasons: list[BaseException] = []
        self.lost: set[GroupId] = set()  # own links in an unknown state: never used or lent again

    async def perform(self, effect: Effect) -> Result:
        """Carry one effect out; never raises but for cancellation and programming errors."""
        match effect:
            case Prepare():
                return await self._once(effect, self.bounds.prepare_s)
            case Decide():
                return await self._once(effect, self.bounds.decide_s)
            case Ask():
                return await self._until(effect, self.bounds.ask_s)
            case Finish():
                return await self._until(effect, self.bounds.finish_s)
            case Undo():
                return await self._until(effect, self.bounds.undo_s)
            case UndoHome():
                await self._once(effect, self.bounds.undo_s)
                return (
                    Result.DONE
                )  # a lost branch that never decided cannot commit any more: nobody sends it COMMIT

    async def _once(self, effect: Prepare | Decide | UndoHome, bound_s: float) -> Result:
        """A statement of our own branch: it happens there or nowhere, and is never repeated."""
        if effect.group in self.lost:
            return Result.LOST
        link = self.links[effect.group]
        # The bound ends the connection and not the task: a commit is never cancelled, and an alarm is cheap.
        alarm = asyncio.get_running_loop().call_later(bound_s, link.abort)
        try:
            await link.do(effect.sql)
        except (PgherdError, OSError, TimeoutError) as error:
            self.errors.append(error)
            if not isinstance(effect, UndoHome):
                self.reasons.append(error)
            if not link.broken and not is_lost(error):
                return Result.REFUSED
            self.lost.add(effect.group)
            return Result.LOST
        finally:
            alarm.cancel()
        return Result.DONE

    async def _until(self, effect: Ask | Finish | Undo, bound_s: float) -> Result:
        """A statement that any connection can carry out, and that may be repeated: try until it is answered."""
        clock = asyncio.get_running_loop()
        deadline, pause_s = clock.time() + bound_s, 0.02
        while True:
            try:
                if (link := self._own(effect)) is not None:
                    return await self._on_own(link, effect, deadline)
                async with asyncio.timeout_at(deadline):
                    return await self._anywhere(effect)
            except (PgherdError, OSError, TimeoutError) as error:
                if clock.time() + pause_s >= deadline:
                    self.errors.append(error)
                    return Result.LOST
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, 0.5)

    def _own(self, effect: Ask | Finish | Undo) -> Link | None:
        """The coordinator's own branch, while it can carry the effect out."""
        link = self.links.get(effect.group)
        lost = link is None or link.broken or effect.group in self.lost or isinstance(effect, Ask)
        return None if lost else link

    async def _on_own(self, link: Link, effect: Ask | Finish | Undo, deadline: float) -> Result:
        alarm = asyncio.get_running_loop().call_at(deadline, link.abort)
        try:
            return await attempt(link, effect)
        except BaseException as error:
            if not isinstance(error, ServerError) or is_lost(error):
                self.lost.add(effect.group)
            raise
        finally:
            alarm.cancel()

    async def _anywhere(self, effect: Ask | Finish | Undo) -> Result:
        if isinstance(effect, Undo) and not effect.prepared:
            return Result.DONE  # its connection is gone, and the branch with it
        link = await self.lender.lend(effect.group)
        reusable = False
        try:
            if isinstance(effect, Finish):
                await link.do(DURABLY)
            result = await attempt(link, effect)
            reusable = True
            return result
        finally:
            self.lender.give_back(link, reusable=reusable)


async def attempt(link: Link, effect: Ask | Finish | Undo) -> Result:
    """One try on one link. Raises what the server raises, but for "does not exist": then somebody else did it."""
    if isinstance(effect, Ask):
        rows = await link.run(effect.sql)
        return Result.SAYS_COMMITTED if rows[-1][0] == "committed" else Result.SAYS_ABORTED
    try:
        await link.do(effect.sql)
    except ServerError as error:
        if error.code != "42704":
            raise
        if isinstance(effect, Finish):
            await link.do(BARRIER)  # whoever did it may not have waited for the standby
    return Result.DONE


async def drive(protocol: Protocol, performer: Performer, on_step: OnStep = nothing) -> Protocol:
    """Walk the protocol to a final phase; every wait in it is bounded by the performer's bounds."""
    watched = on_step is not nothing
    while not protocol.final:
        if watched:
            await on_step("before", protocol)
        effects = protocol.effects()
        if len(effects) == 1:  # the usual case, without the cost of tasks
            results = [await performer.perform(effects[0])]
        else:
            results = await asyncio.gather(*(performer.perform(effect) for effect in effects))
        if watched:
            await on_step("after", protocol)
        protocol = protocol.advance(dict(zip(effects, results, strict=True)))
    return protocol
