"""Whether an answer counts, and whether a statement that failed is sent again. Nothing here sends anything twice that may have been done.

What may be sent again: reads; what was surely not done (see `losses`); and whatever runs in a transaction of its own and failed
before its commit, as then nothing is left of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import asyncpg

from pgherd.client import statements
from pgherd.client.losses import ENDED, LOST, UNSENT, doubtful, elsewhere, undone, unknown
from pgherd.client.pool import NoneFree
from pgherd.client.queries import raise_for_user
from pgherd.client.routes import Lent
from pgherd.engine.link import Part
from pgherd.engine.stale import is_stale, surely_stale
from pgherd.errors import GroupDown, PgherdError, ServerError, StaleMap, TransactionLost
from pgherd.topology.freshness import STRONG, Freshness
from pgherd.transaction import moved

if TYPE_CHECKING:
    from pgherd.client.database import Database
    from pgherd.transaction.coordinator import Transaction

READ_ONLY = "25006"  # what a standby answers to a write
ATTEMPTS = 6  # a statement that a standby refused is sent again at most so often


async def stands(db: Database, lent: Lent) -> bool:
    """Whether an answer counts that came while nobody was known to be primary; if not, it is asked again the long way."""
    pool, held, _, route = lent
    if held.doubted:
        raise doubtful(pool.group)
    return route.write or await pool.stands(held)


async def missed(db: Database, error: Exception, lent: Lent) -> Freshness | None:
    """Return if the statement may be sent again the long way (and how fresh, if not as before), else raise what the
    caller should see."""
    pool, held, _, route = lent
    replica = STRONG if pool.replica else None
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        await held.reread()
        return None
    if isinstance(error, ENDED) or (isinstance(error, LOST) and held.lost):
        held.dirty = True
        db.follow.suspect(pool.group)
        if route.write and not (isinstance(error, UNSENT) or (db.follow.watching and undone(error))):
            raise unknown(pool.group) from error
        return replica
    if isinstance(error, asyncpg.PostgresError):
        told = statements.as_server_error(error)
        if is_stale(told):
            await db.refresh()
            return replica
        if told.code == READ_ONLY and db.follow.watching:
            return None  # a standby by now, perhaps
        if pool.replica and elsewhere(told):
            return STRONG
    raise error


async def again(db: Database, job: Callable[[], Any]) -> Any:
    """Run `job` (autocommit: a failure leaves nothing behind), once more whenever the map was old, and while a group that it
    needs fails over."""
    deadline = asyncio.get_running_loop().time() + db.options.failover_wait
    stale = down = 0
    while True:
        epoch = db.map.epoch
        try:
            return await job()
        except PgherdError as error:
            if fails_over(db, error):
                down += 1
                late = asyncio.get_running_loop().time() >= deadline
                if late or (not isinstance(error, GroupDown) and down > ATTEMPTS):
                    raise_for_user(error)
                await asyncio.sleep(min(0.02 * 2**down, 0.25))
                continue
            stale += 1
            if not is_stale(error) or asyncio.get_running_loop().time() >= deadline:
                raise_for_user(error)
            if not await db.maps.check(epoch):
                if not surely_stale(error):
                    raise_for_user(error)
                await asyncio.sleep(_pause_s(stale))


async def rerouted(
    db: Database,
    transaction: Transaction,
    job: Callable[[], Awaitable[tuple[bool, Callable[[], Awaitable[Part]]]]],
) -> Part:
    """Run a statement inside a transaction. One that meets an old map in branches of its own is undone there and sent again to where
    its shard lives now: nobody has seen anything of it. `job` says whether the statement concerns one shard, and how to run it."""
    deadline = asyncio.get_running_loop().time() + db.options.failover_wait
    for attempt in count(1):
        epoch, before = db.map.epoch, frozenset(transaction.branches)
        single, run = await job()
        transaction.guarded = ()
        try:
            return await run()
        except PgherdError as error:
            if (
                not is_stale(error)
                or asyncio.get_running_loop().time() >= deadline
                or not (
                    isinstance(error, StaleMap)
                    or await moved.taken_back(transaction, before, one_shard=single)
                )
            ):
                raise
            if db.map.epoch == epoch and not await db.maps.check(epoch):
                if not surely_stale(error):
                    raise
                await asyncio.sleep(_pause_s(attempt))
    raise AssertionError("unreachable")


def _pause_s(attempt: int) -> float:
    """Before a statement is sent again: a change of the map is on its way to the groups."""
    return min(0.01 * 2**attempt, 0.25)


def fails_over(db: Database, error: PgherdError, *, writing: bool = True) -> bool:
    """Whether nothing was done because a group has, or may have, another primary. `writing`: a write was allowed."""
    if not db.follow.watching or isinstance(error, NoneFree):
        return False
    refused = writing and isinstance(error, ServerError) and error.code == READ_ONLY
    over = refused or isinstance(error, GroupDown | TransactionLost)
    if over:
        db.follow.suspect()
    return over
