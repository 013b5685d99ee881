"""Transactions beside shards that move: statements that can be taken back, and shards that must stay where they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pgherd.catalog.model import GroupId
from pgherd.errors import ShardMoved, StaleMap

if TYPE_CHECKING:
    from pgherd.transaction.coordinator import Transaction

GUARD = "pgherd_guard"  # the savepoint in front of a statement that may have to be sent elsewhere


async def hold(transaction: Transaction, group: GroupId, shard: int) -> None:
    """Before a shard is touched by a transaction that reads an older snapshot: see that it has not moved since, and keep it there.

    READ COMMITTED needs none of this. Raises ShardMoved, or StaleMap when it is the caller's map that is old.
    """
    if transaction.isolation == "read committed" or shard in transaction.held:
        return
    link = await transaction.branch(group, write=False)
    found = (await link.run(f"SELECT pgherd.hold_shard({shard})"))[0][0]
    if found is None:
        raise StaleMap(f"shard {shard} is not in group {group}")
    if found not in ("t", "true", "True"):
        raise ShardMoved(
            f"could not serialize access: shard {shard} has moved since the transaction began",
            hint="Run the transaction again.",
        )
    transaction.held.add(shard)


async def guard(transaction: Transaction, groups: Iterable[GroupId]) -> None:
    """A savepoint in branches that are open, to which `unguard` can take one statement back."""
    transaction.guarded = tuple(group for group in groups if group in transaction.branches)
    for group in transaction.guarded:
        await transaction.branches[group].link.run(f"SAVEPOINT {GUARD}")


async def unguard(transaction: Transaction) -> bool:
    """Back to the savepoints of `guard`; answers whether there were any. They serve once."""
    guarded, transaction.guarded = transaction.guarded, ()
    for group in guarded:
        link = transaction.branches[group].link
        await link.run(f"ROLLBACK TO SAVEPOINT {GUARD}; RELEASE SAVEPOINT {GUARD}")
    return bool(guarded)


async def taken_back(transaction: Transaction, before: frozenset[GroupId], *, one_shard: bool) -> bool:
    """Undo what a statement with an old map did, if that was all in branches of its own or behind `guard`; answers whether it was.

    Then it can be sent again, elsewhere: nobody has seen anything of it. `before`: the branches that were open before it.
    """
    if transaction.isolation != "read committed" or transaction.failed:
        return False
    if await unguard(transaction):
        return True
    new = frozenset(transaction.branches) - before
    alone = one_shard and len(new) == 1
    return not (before and not alone) and await transaction.forget(new)
