"""Lends the client's connections to distributed transactions, and bounds how many of those run at once.

A transaction that holds connections of some groups and waits for one of another could wait for ever on its kind. So what
is bounded is the number of transactions; a connection they need is opened even where the pool has none left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgherd.catalog.model import GroupId
from pgherd.client.link import AsyncpgLink
from pgherd.client.near import NearLender, Reading
from pgherd.engine.link import Link
from pgherd.errors import GroupDown, PgherdError
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.snapshot import Gates

if TYPE_CHECKING:
    from pgherd.client.database import Database

LEND_S = 2.0
ISOLATIONS = {
    None: "read committed",
    "read_uncommitted": "read committed",
    "read_committed": "read committed",
    "repeatable_read": "repeatable read",
    "serializable": "serializable",
}


class Lender:
    """`transaction.perform.Lender` over the database's pools."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def lend(self, group: GroupId) -> Link:
        """A connection of `group`. Raises GroupDown within the time to connect."""
        pool = self._db.near.primary(group)
        return self._db.link(pool, await pool.overdraw(inside=self.inside(group)))

    def inside(self, _group: GroupId) -> bool:
        """Whether what borrows is under way in the group already, so that a pause must not stop it."""
        return False

    def give_back(self, link: Link, *, reusable: bool) -> None:
        """Take a connection back; one that is not `reusable` is closed."""
        assert isinstance(link, AsyncpgLink)
        if not reusable:
            link.held.dirty = True
        link.pool.give(link.held)


class BranchLender(Lender):
    """One transaction's."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.of: Transaction | None = None

    def inside(self, group: GroupId) -> bool:
        return self.of is not None and group in self.of.branches


class KeepersLender(Lender):
    """For windows, which keep what they borrow: the pool may have so many connections more, and so lends as many as ever.

    A pause does not stop them: who needs a window has its own connections already.
    """

    def inside(self, _group: GroupId) -> bool:
        return True

    async def lend(self, group: GroupId) -> Link:
        link = await super().lend(group)
        assert isinstance(link, AsyncpgLink)
        link.pool.size += 1
        return link

    def give_back(self, link: Link, *, reusable: bool) -> None:
        assert isinstance(link, AsyncpgLink)
        link.pool.size -= 1
        super().give_back(link, reusable=reusable)


class RecoveryLender(Lender):
    """For recovery while others wait: a group without a primary is left for later. A pause does not stop it: it makes transactions end."""

    def inside(self, _group: GroupId) -> bool:
        return True

    async def lend(self, group: GroupId) -> Link:
        pool = self._db.near.primary(group)
        if pool.shut and not pool.trusted:
            raise GroupDown(f"group {group} has no primary now")
        try:
            async with asyncio.timeout(LEND_S):
                return await super().lend(group)
        except TimeoutError:
            raise GroupDown(f"group {group} does not answer") from None


class Slots:
    """How many transactions may run at once."""

    def __init__(self, count: int, wait_max: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._wait_max = wait_max

    async def take(self) -> None:
        """Wait for one, within the bound."""
        if not self._free.locked():  # at once, without the cost of a bound
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_max):
                await self._free.acquire()
        except TimeoutError:
            raise Crowded(
                f"no transaction ended within {self._wait_max:g} s, and max_size of them are open",
                hint="Raise max_size, or look for transactions that stay open.",
            ) from None

    def give(self) -> None:
        """One is over."""
        self._free.release()


class Crowded(PgherdError):
    """Too many transactions of this client are open."""

    sqlstate = "53300"
    retry = True


def begin(
    db: Database,
    *,
    isolation: str | None,
    readonly: bool,
    deferrable: bool,
    explicit: bool,
    reading: Reading | None,
) -> Transaction:
    """A new distributed transaction; nothing is sent yet. With `reading` it only reads, on replicas: each group at a moment of
    its own, as only primaries can agree on one."""
    level = ISOLATIONS[isolation]
    modes = (
        f"ISOLATION LEVEL {level.upper()}"
        + (" READ ONLY" if readonly else "")
        + (" DEFERRABLE" if deferrable else "")
    )
    plain = level == "read committed" and not readonly and not deferrable
    lender = BranchLender(db)
    transaction = Transaction(
        lender if reading is None else NearLender(db, reading),
        tuple(sorted(db.map.groups)),
        gates=db.gates,
        isolation=level,
        modes="" if plain else modes,
        read_only=readonly,
        explicit=explicit,
        snapshot=reading is None,
        notice=db.notice,
    )
    lender.of = transaction
    return transaction


__all__ = ["ISOLATIONS", "Crowded", "Gates", "Lender", "RecoveryLender", "Slots", "begin"]
