"""Which errors of a server mean: your cluster map is old. One pure function, used by gateway and client alike.

Each of them says that nothing was written by the statement that met it (docs/design/001-first-shape.md, "Names on the
servers"). Whether it may be sent again is the caller's to decide: in autocommit, or as the first
statement of a transaction, it may.
"""

from __future__ import annotations

import re

from pgherd.errors import ServerError, StaleMap

_SHARD_NAME = re.compile(r"\bshard_\d+(_\w+)?\b")
_MISSING = frozenset({"42P01", "3F000", "42704"})  # undefined table, schema, object


def is_stale(error: BaseException) -> bool:
    """Whether `error` is, or may be, caused by an old cluster map."""
    if isinstance(error, StaleMap):
        return True
    if not isinstance(error, ServerError):
        return False
    return stale_code(error.code, error.message, error.fields.get("s", ""))


def surely_stale(error: BaseException) -> bool:
    """Whether nothing but an old map can be the cause. Otherwise compare epochs: if equal, the error is the user's own."""
    if isinstance(error, StaleMap):
        return True
    return (
        isinstance(error, ServerError) and is_stale(error) and error.code not in ("23514", "42P10", "42809")
    )


def stale_code(code: str, message: str, schema: str = "") -> bool:
    """The same for an error's SQLSTATE, message and schema name (protocol field `s`)."""
    if code == "PH001":
        return True
    if code == "55000":
        return "foreign table" in message and "does not allow" in message
    if code == "23514":
        return "violates partition constraint" in message and (
            not schema or _SHARD_NAME.match(schema) is not None
        )
    if code == "42809":  # COPY ... TO, and the single table has become a template
        return message.startswith("cannot copy from partitioned table")
    if code == "42P10":  # ON CONFLICT, and the shard's table is a foreign one now: those have no unique index
        return "no unique or exclusion constraint" in message
    if code in _MISSING:
        return _SHARD_NAME.search(message) is not None
    return False
