"""What became of a statement whose answer failed or did not come: whether it may run again, or what the client is told."""

from __future__ import annotations

from pgherd.engine.stale import stale_code
from pgherd.errors import ConnectionLost, OutcomeUnknown, PgherdError, TransactionLost


def transaction_lost(lost: PgherdError) -> PgherdError:
    """What to say when a transaction's connection to the primary of a managed group was lost before its COMMIT."""
    if not isinstance(lost, ConnectionLost) or not lost.watched:
        return lost
    return TransactionLost(f"{lost.message}: the transaction cannot go on")


def unknown_outcome(lost: PgherdError) -> OutcomeUnknown:
    """What to say of a write whose server went away before it answered."""
    return OutcomeUnknown(
        f"{lost.message} while it carried out the statement, which may or may not have been done",
        hint="Look before you repeat it.",
    )


def hold_stale(fields: dict[str, str]) -> bool:
    return stale_code(fields.get("C", ""), fields.get("M", ""), fields.get("s", ""))


def hold_failed(fields: dict[str, str]) -> bool:
    """Errors of a replica: a conflict with its recovery, a table that it does not know yet ... the primary shall say. But for a
    statement that was cancelled."""
    return fields.get("C") != "57014"
