"""`pgherd workflows`, and what can be said to one: pause, resume, cancel, undo, confirm."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.admin import carry_out
from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink

NumberArgument = Annotated[int, typer.Argument(metavar="WORKFLOW", help="Its number (see pgherd workflows).")]
_HELP = {
    "pause": "Let a workflow rest; what it has made stays.",
    "resume": "Let a paused workflow go on.",
    "cancel": "End a workflow before its cutover, and take away what it has made.",
    "undo": "Take a workflow back after its cutover, while the old copy is kept in step.",
    "confirm": "End the time in which a workflow can be undone.",
}
_QUERY = "SELECT jsonb_agg(to_jsonb(w) - 'memory' ORDER BY w.id DESC) FROM (SELECT * FROM pgherd.workflows ORDER BY id DESC LIMIT {limit}) w"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("workflows")(workflows)
    for name, text in _HELP.items():
        app.command(name, help=text)(_command(name))


def _command(name: str) -> Callable[[int, StateOption], None]:
    def command(workflow: NumberArgument, state: StateOption = None) -> None:
        carry_out([f"CALL pgherd.{name}({workflow})"], state)

    return command


def workflows(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show splits, moves and merges: how far they are, how long writers paused, what went wrong."""
    from pgherd.cli.asking import at_group_0  # here: the other commands start faster without it

    async def ask(link: ServerLink) -> list[dict[str, Any]]:
        rows = await link.run(_QUERY.format(limit=limit))
        return json_module.loads(rows[0][0] or "[]")

    found = at_group_0(cluster(state), ask)
    if json:
        print_json(found)
        return
    if not found:
        output.print("There were no workflows yet.", highlight=False)
        return
    shown = table("id", "kind", "shards", "state", "doing", "pause", "error", right=("id", "pause"))
    for row in found:
        pause = "" if row["pause_ms"] is None else f"{row['pause_ms']:.0f} ms"
        shown.add_row(
            str(row["id"]), row["kind"], _shards(row), row["state"], row["phase"], pause, row["error"] or ""
        )
    output.print(shown)


def _shards(row: dict[str, Any]) -> str:
    old, new = (
        ", ".join(f"{piece['id']} in {piece['group_id']}" for piece in row[name]) for name in ("old", "new")
    )
    return f"{old} → {new}"
