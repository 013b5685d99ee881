"""The end of a transaction: it is not interrupted, and what it failed with is told in the user's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pgherd.errors import GroupDown, ServerError, ShardMoved, TransactionLost
from pgherd.transaction.perform import is_lost

T = TypeVar("T")


async def ended(task: asyncio.Future[None]) -> None:
    await task


async def unhindered(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work` even if the caller is cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:
            break
    if cancelled is not None:
        task.exception()  # seen; the cancellation outweighs it
        raise cancelled
    return task.result()


def aborted(transaction_id: str, reasons: list[BaseException], *, explicit: bool) -> BaseException:
    """Why a transaction was not committed, of which that is certain. `reasons`: what PREPARE and the decision failed with.

    What rolling it back met is not told: it does not change the outcome. A transaction block whose connection was lost may be run again;
    the transaction of a single statement keeps the loss, since whoever sent the statement repeats it by itself.
    """
    refused = [error for error in reasons if isinstance(error, ServerError) and not is_lost(error)]
    for error in refused:
        overtaken = error.code == "23505" and "decisions" in error.fields.get("t", "")
        if (
            error.code == "0A000" and "postgres_fdw" in error.message
        ):  # a branch that is meant to use it is home, and not prepared
            return ShardMoved(
                "could not serialize access: a shard that the transaction has read moved before",
                hint="Run the transaction again.",
            )
        if not overtaken:
            return error
    if refused:
        return TransactionLost(
            f"transaction {transaction_id} took too long to commit and was rolled back by recovery"
        )
    lost = reasons[0] if reasons else GroupDown(f"transaction {transaction_id} was rolled back")
    if not explicit and isinstance(lost, GroupDown):
        return lost
    found = TransactionLost(f"a connection was lost before transaction {transaction_id} was decided: {lost}")
    found.__cause__ = lost
    return found
