"""`pgherd remove`: take a node out of its cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("remove")(remove)


def remove(
    name: Annotated[str, typer.Argument(metavar="NODE", help="The node's name (see pgherd status).")],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="On several machines: the settings of another node of the cluster. The one to remove must have been stopped.",
        ),
    ] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Take a node out of its group for good. A local one is stopped, after handing over, and its files are deleted."""
    from pgherd.deploy import growth, node_config, removal  # here: the other commands start faster without it

    with steps() as report:
        if config is not None:
            settings = node_config.load(config)
            group = int(asyncio.run(removal.remove(settings, name, report=report)).group)
        else:
            group = growth.remove_node(cluster(state, report), name, report=report).group
    if json:
        print_json({"removed": name, "group": group})
        return
    output.print(f"{name} is no longer part of group {group}", highlight=False)
