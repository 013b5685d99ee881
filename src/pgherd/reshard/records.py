"""Reading and writing pgherd.workflows, on group 0."""

from __future__ import annotations

import json
from typing import Any

from pgherd.catalog.text import literal
from pgherd.engine.link import Link
from pgherd.errors import PgherdError, ServerError
from pgherd.reshard.model import UNFINISHED, Limits, Piece, Workflow, WorkflowId

_ROW = "to_jsonb(w) || jsonb_build_object('kept_at', extract(epoch FROM kept_until))"


def read(text: str) -> Workflow:
    """A workflow from its row as json."""
    row = json.loads(text)
    return Workflow(
        id=WorkflowId(row["id"]),
        kind=row["kind"],
        keyspace=row["keyspace"],
        old=tuple(map(Piece.read, row["old"])),
        new=tuple(map(Piece.read, row["new"])),
        limits=Limits.read(row["settings"]),
        state=row["state"],
        going=row["going"],
        wanted=row["wanted"],
        step=row["step"],
        phase=row["phase"],
        memory=row["memory"],
        kept_until=row["kept_at"],
    )


async def unfinished(link: Link) -> list[Workflow]:
    """All that are not at their end, oldest first."""
    states = ", ".join(map(literal, UNFINISHED))
    rows = await link.run(f"SELECT {_ROW} FROM pgherd.workflows w WHERE state IN ({states}) ORDER BY id")
    return [read(row[0] or "{}") for row in rows]


async def load(link: Link, number: int) -> Workflow:
    """One workflow. It waits while a cutover that is under way decides about the row. Raises IndexError."""
    rows = await link.run(f"SELECT {_ROW} FROM pgherd.workflows w WHERE id = {number} FOR SHARE")
    return read(rows[0][0] or "{}")


async def note(link: Link, number: int, **values: Any) -> None:
    """Set columns of a workflow: text, numbers, json as dicts, None."""
    await link.run(update(number, **values))


def update(number: int, **values: Any) -> str:
    """The statement that sets columns of a workflow."""
    sets = [f"{name} = {_value(value)}" for name, value in values.items()]
    return f"UPDATE pgherd.workflows SET {', '.join([*sets, 'updated_at = clock_timestamp()'])} WHERE id = {number}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return literal(json.dumps(value)) + "::jsonb"
    if isinstance(value, float):
        return repr(value)
    return literal(value)


def told(error: BaseException) -> dict[str, Any]:
    """The columns that say what went wrong."""
    if isinstance(error, ServerError):
        return {"error": f"{error.message} (SQLSTATE {error.code})", "hint": error.hint or error.detail}
    if isinstance(error, PgherdError):
        return {"error": error.message, "hint": error.hint}
    return {"error": f"{type(error).__name__}: {error}", "hint": None}
