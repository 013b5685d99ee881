"""`pgherd explain`: how a statement is routed, what is sent where, and why. Nothing is executed."""

from __future__ import annotations

import json as json_text
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.console import output, print_json
from pgherd.cli.place import JsonOption, StateOption, cluster

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement.")],
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show the route of a statement: its kind, the groups and shards, the text that each gets, and why."""
    from pgherd.cli.asking import at_gateway  # here: the other commands start faster without it

    async def job(link: ServerLink) -> list[dict[str, Any]]:
        rows = await link.run(f"EXPLAIN (FORMAT JSON) {sql}")
        return json_text.loads("\n".join(row[0] or "" for row in rows))

    answer = summary(at_gateway(cluster(state), job))
    if json:
        print_json(answer)
        return
    show(answer)


def summary(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The route, the reason, the notes and the parts out of the documents that EXPLAIN gives, one for each part."""
    kind, _, why = str(documents[0].get("Route", "")).partition(": ")
    notes = [note for document in documents for note in document.get("Notes", [])]
    parts = [
        {
            "group": document["Group"],
            "shard": document.get("Shard"),
            "node": document.get("Node"),
            "sql": document["SQL"],
        }
        for document in documents
        if "SQL" in document
    ]
    return {"route": kind, "why": why, "notes": notes, "parts": parts}


def show(answer: dict[str, Any]) -> None:
    """Print a summary for people."""
    output.print(f"route  {answer['route']}", highlight=False, markup=False)
    for label, lines in (("why", [answer["why"]]), ("note", answer["notes"])):
        for line in lines:
            if line:
                output.print(f"{label:6} {line}", highlight=False, markup=False)
    for part in answer["parts"]:
        shard = "" if part["shard"] is None else f", shard {part['shard']}"
        output.print(f"\n[bold]group {part['group']}{shard}[/]", highlight=False)
        if part["node"] is not None:
            output.print(f"  at {part['node']}", highlight=False, markup=False)
        output.print(f"  {part['sql']}", highlight=False, markup=False)
