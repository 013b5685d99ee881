"""The end of a transaction: it is not interrupted, and what it failed with is told in the user's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pgherd.errors import GroupDown, ServerError, WrongState
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


def aborted(transaction_id: str, errors: list[BaseException]) -> BaseException:
    for error in errors:
        if isinstance(error, ServerError) and not is_lost(error) and error.code not in ("23505", "42704"):
            return error
    for error in errors:
        if (
            isinstance(error, ServerError)
            and error.code == "23505"
            and "decisions" not in error.fields.get("t", "")
        ):
            return error
    if any(isinstance(error, ServerError) and error.code == "23505" for error in errors):
        return WrongState(
            f"transaction {transaction_id} took too long to commit and was rolled back by recovery"
        )
    return errors[0] if errors else GroupDown(f"transaction {transaction_id} was rolled back")
