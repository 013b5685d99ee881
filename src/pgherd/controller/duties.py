"""The controller: background duties of whichever gateway holds the controller lock.

The lock is a session advisory lock on group 0, held by a connection of its own: it is free as soon as its holder is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.errors import PgherdError
from pgherd.transaction import recovery
from pgherd.transaction.deadlock import Detector
from pgherd.transaction.perform import Lender

log = logging.getLogger(__name__)

LOCK = 0x7069 << 48  # the controller lock's key
AGAIN_S = 0.5
Groups = Callable[[], tuple[GroupId, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Seconds between two rounds of each duty, and between two tries for the lock.

    `young_s`: recovery leaves to their coordinators what was prepared so recently.
    """

    lock_s: float = 2.0
    recovery_s: float = 1.0
    deadlock_s: float = 0.6
    cleaning_s: float = 60.0
    young_s: float = 1.0


class Controller:
    """Runs the duties while it holds the lock. `lender` must lend a superuser's connections; `groups` says which there are."""

    def __init__(
        self,
        lender: Lender,
        groups: Groups,
        intervals: Intervals | None = None,
        more: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        """`more`: further duties, each done every second."""
        self.more = dict(more or {})
        self.lender, self.groups = lender, groups
        self.intervals = intervals or Intervals()
        self.detector = Detector(lender)
        self.holds_lock = False
        self.settled = 0
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled: get the lock, do the duties while its connection lives, try again. Raises nothing else."""
        while True:
            pause_s = self.intervals.lock_s
            try:
                link = await self._lock()
                if link is not None:
                    await self._hold(link)
            except (PgherdError, OSError, TimeoutError) as error:
                self._say("lock", error)
                pause_s = min(
                    pause_s, AGAIN_S
                )  # a failover takes seconds: whoever is first goes on with the duties
            else:
                self._said.pop("lock", None)
            await asyncio.sleep(pause_s)

    def _say(self, duty: str, error: BaseException) -> None:
        """Log what keeps a duty from being done, once."""
        kind = type(error).__name__
        if self._said.get(duty) != kind:
            self._said[duty] = kind
            log.info("controller, %s: %s", duty, error)

    async def _lock(self) -> Link | None:
        link = await self.lender.lend(GroupId(0))
        got = False
        try:
            async with asyncio.timeout(5.0):
                rows = await link.run(f"SELECT pg_try_advisory_lock({LOCK})::text")
            got = rows[0][0] in ("true", "t", "True")
        finally:
            if not got:
                self.lender.give_back(link, reusable=not link.broken)
        return link if got else None

    async def _hold(self, link: Link) -> None:
        self.holds_lock = True
        duties = [
            asyncio.create_task(self._every("recovery", self.intervals.recovery_s, self._recover)),
            asyncio.create_task(
                self._every("deadlocks", self.intervals.deadlock_s, self._look_for_deadlocks)
            ),
            asyncio.create_task(self._every("cleaning", self.intervals.cleaning_s, self._clean)),
            *(asyncio.create_task(self._every(name, 1.0, duty)) for name, duty in self.more.items()),
        ]
        try:
            while (
                True
            ):  # the lock's own connection, asked now and then: without it somebody else is the controller
                async with asyncio.timeout(5.0):
                    await link.run("SELECT 1")
                await asyncio.sleep(self.intervals.lock_s)
        finally:
            self.holds_lock = False
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
            self.lender.give_back(link, reusable=False)

    async def _every(self, name: str, seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await duty()
            except (PgherdError, OSError, TimeoutError) as error:
                self._say(name, error)  # a group that is down: the next round may find it up
            else:
                self._said.pop(name, None)
            await asyncio.sleep(seconds)

    async def _recover(self) -> None:
        done = await recovery.recover(self.lender, self.groups(), young_s=self.intervals.young_s)
        self.settled += len(done.committed) + len(done.aborted)
        for outcome, ids in (("committed", done.committed), ("aborted", done.aborted)):
            for transaction_id in ids:
                log.info("recovered transaction %s: %s", transaction_id, outcome)

    async def _look_for_deadlocks(self) -> None:
        for deadlock in await self.detector.look(self.groups()):
            log.info("deadlock across groups: %s", deadlock.text)

    async def _clean(self) -> None:
        await recovery.clean(self.lender, self.groups())
