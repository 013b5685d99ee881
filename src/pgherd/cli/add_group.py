"""`pgherd add-group`: bring an empty group into a running cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("add-group")(add_group)


def add_group(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="On several machines: the settings of any node. Takes in the groups whose nodes run and that the cluster does not know yet.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="With --config: how long to wait for their primaries.")
    ] = 60.0,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Bring an empty group into a running cluster: definitions, reference tables and all. Statements go on meanwhile.

    A local cluster starts the new group's servers itself. New keyspaces use the group; pgherd move brings shards to it.
    """
    from pgherd.deploy import groups, growth, node_config  # here: the other commands start faster without it

    with steps() as report:
        if config is not None:
            settings = node_config.load(config)
            added = [
                int(group) for group in asyncio.run(groups.adopt(settings, within_s=wait, report=report))
            ]
        else:
            added = [growth.add_group(cluster(state, report), report=report)]
    if json:
        print_json({"added": added})
        return
    for group in added:
        output.print(f"group {group} belongs to the cluster", highlight=False)
