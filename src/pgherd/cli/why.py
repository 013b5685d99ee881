"""`pgherd why`: what was decided about a shard, and why, or why not."""

from __future__ import annotations

import json as json_text
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.console import output, print_json
from pgherd.cli.place import JsonOption, StateOption, cluster

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink

WORD = {"split": "split", "move": "moved", "merge": "merged", "nothing": "left as it is"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("why")(why)


def why(
    shard: Annotated[
        int | None, typer.Argument(metavar="[SHARD]", help="The shard's number; none: the whole log.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many decisions, the latest first.")] = 20,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show the decisions about a shard with their reasons, the latest first: what was done, and why nothing was."""
    from pgherd.cli.asking import at_group_0  # here: the other commands start faster without it

    async def job(link: ServerLink) -> list[dict[str, Any]]:
        return [json_text.loads(row[0] or "{}") for row in await link.run(query(shard, last))]

    found = at_group_0(cluster(state), job)
    if json:
        print_json(found)
        return
    for line in lines(shard, found):
        output.print(line, highlight=False, markup=False)


def query(shard: int | None, last: int) -> str:
    """The text that reads the log: a shard's own rows, and those of the shards that it came from."""
    where = ""
    if shard is not None:
        where = f"WHERE l.shard = {shard} OR (l.figures->>'right') = '{shard}'"
    return (
        "SELECT to_jsonb(l) || jsonb_build_object('at', to_char(l.at, 'YYYY-MM-DD HH24:MI:SS'))"
        f" FROM pgherd.decisions_log l {where} ORDER BY l.id DESC LIMIT {last}"
    )


def lines(shard: int | None, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The log's rows as sentences."""
    if not rows:
        about = (
            "Nothing has been decided yet"
            if shard is None
            else f"Nothing has been decided about shard {shard} yet"
        )
        return [f"{about}: within its limits, and its group has no more than its part."]
    found: list[str] = []
    for row in rows:
        subject = f"shard {row['shard']}" if row["shard"] is not None else f"group {row['from_group']}"
        if row["shard"] is None and row["from_group"] is None:
            subject = f"keyspace {row['keyspace']}" if row["keyspace"] else "cluster"
        workflow = f", workflow {row['workflow']}" if row["workflow"] is not None else ""
        found += [
            f"{row['at']}  {subject} {WORD[row['kind']]} ({row['code']}{workflow})",
            f"    {row['reason']}",
        ]
    return found
