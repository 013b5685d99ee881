"""`pgherd down`: stop a local cluster; nothing is lost."""

from __future__ import annotations

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("down")(down)


def down(state: StateOption = None, json: JsonOption = False) -> None:
    """Stop the gateway and the servers. The data stays; `pgherd up` continues with it."""
    with steps() as report:
        local = cluster(state, report)
        stopped = local.down()
    if json:
        print_json({"stopped": stopped, "state": str(local.directory)})
    elif stopped:
        output.print(f"stopped; the data stays in {local.directory}", highlight=False)
    else:
        output.print("nothing was running", highlight=False)
