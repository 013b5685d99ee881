"""What a lost connection means for the statement that ran on it: never sent, surely not done, or unknown. Pure."""

from __future__ import annotations

import asyncpg

from pgherd.catalog.model import GroupId
from pgherd.errors import GroupDown, OutcomeUnknown, PgherdError, ServerError, SnapshotBusy, StaleMap

UNSENT = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)  # on a lost connection: raised before anything is sent
ENDED = (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError)
LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)
_UNDONE = frozenset({"57P01", "57P03"})


def undone(error: BaseException) -> bool:
    """Whether a statement of the extended protocol, outside a transaction block, surely did nothing.

    PostgreSQL answers a shutdown in order with an ErrorResponse only where the transaction aborts. asyncpg hands it on as the
    cause of its own error. Not so for the simple protocol: there the commit lies before the end of the statement.
    """
    seen: BaseException | None = error
    for _ in range(4):
        if seen is None:
            return False
        if isinstance(seen, UNSENT) or getattr(seen, "sqlstate", None) in _UNDONE:
            return True
        seen = seen.__cause__
    return False


def unknown(group: GroupId) -> OutcomeUnknown:
    """The error for a write whose connection was lost."""
    return OutcomeUnknown(
        f"the connection to group {group} was lost during a statement that writes",
        hint="It may or may not have been done: look before you repeat it.",
    )


def doubtful(group: GroupId) -> OutcomeUnknown:
    """The error for a commit that did not wait for its standby."""
    return OutcomeUnknown(
        f"group {group} committed, but the wait for its standby was cancelled: a failover may still undo it",
        hint="Look again later before you rely on it or repeat it.",
    )


def overtaken(error: BaseException) -> Exception:
    """What an open transaction gets when its group has another primary: asyncpg's own class for "run it again"."""
    fields = {
        "S": "ERROR",
        "V": "ERROR",
        "C": "40001",
        "M": f"could not finish the transaction: {error}",
        "H": "Nothing of it was committed: run the transaction again.",
    }
    return asyncpg.PostgresError.new(fields)


def elsewhere(error: PgherdError) -> bool:
    """Whether the primary may do better: all but errors in the data and the user's own bounds."""
    if isinstance(error, ServerError):
        return error.code[:2] not in ("22", "23") and error.code != "57014"
    return isinstance(error, GroupDown | StaleMap | SnapshotBusy)
