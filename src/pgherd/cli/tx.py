"""`pgherd tx`: what became of a transaction, and which are in doubt."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tx")(tx)


def tx(
    which: Annotated[
        str, typer.Argument(metavar="list|ID", help="A transaction's id; or: list those in doubt.")
    ] = "list",
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Say what became of a transaction, or list the ones that are in doubt: since when, and where."""
    from pgherd.cli.direct import Direct  # here: the other commands start faster without it
    from pgherd.transaction import recovery

    local = cluster(state)
    lender = Direct(local.nodes(local.existing()), local.password())
    if which != "list":
        status = asyncio.run(recovery.status(lender, lender.groups, which))
        if json:
            print_json({"id": which, "status": status})
        else:
            output.print(status or "unknown: too old, its decision has been cleaned up", highlight=False)
        return
    found = asyncio.run(recovery.in_doubt(lender, lender.groups))
    if json:
        print_json(
            [
                {"id": i.id, "group": i.group, "prepared": i.prepared_s, "age_s": i.age_s, "owner": i.owner}
                for i in found
            ]
        )
        return
    if not found:
        output.print("No transaction is in doubt.", highlight=False)
        return
    shown = table("transaction", "prepared in group", "for", "owner", right=("prepared in group", "for"))
    for item in found:
        shown.add_row(item.id, str(item.group), f"{item.age_s:.1f} s", item.owner)
    output.print(shown)
