"""`pgherd doctor`: is anything left behind, or out of place? And: put it right."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be put right.")] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Look on all servers for what moves, splits and merges may have left behind, and for shards out of place."""
    from pgherd.cli.direct import Direct  # here: the other commands start faster without it
    from pgherd.reshard import doctor as reshard

    local = cluster(state)
    current = local.existing()
    lender = Direct(local.nodes(current), local.password(), local.all_nodes(current))
    found = asyncio.run(reshard.examine(lender, lender.groups, every=lender))
    left = asyncio.run(reshard.repair(lender, found, every=lender)) if repair else found
    if json:
        print_json([asdict(finding) for finding in found])
    elif not found:
        output.print("Nothing is left behind, everything is in its place.", highlight=False)
    else:
        shown = table("group", "what", "name", "node", "repair", right=("group",))
        for finding in found:
            can = "by hand" if finding.repair is None else "done" if repair else "pgherd doctor --repair"
            node = "" if finding.node is None else f"{finding.node.host}:{finding.node.port}"
            shown.add_row(str(finding.group), finding.kind, finding.what, node, can)
        output.print(shown)
    if left:
        raise typer.Exit(1)
