"""`pgherd switchover`: make another node the primary of a group, with nobody noticing more than a short wait."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import ConfigOption, JsonOption, StateOption, node_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("switchover")(switchover)


def switchover(
    group: Annotated[int, typer.Argument(metavar="GROUP", help="The group's number.")],
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="The new primary (a standby in step).")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Hand a group over to another primary. New transactions wait meanwhile; open ones are waited for."""
    from pgherd.deploy.switchover import (
        switchover as switch,  # here: the other commands start faster without it
    )

    with steps() as report:
        done = asyncio.run(switch(node_settings(config, state), group, node, report))
    if json:
        print_json(asdict(done))
    else:
        pause = f"{done.pause_ms / 1000:.1f} s without writes"
        output.print(f"group {group}: {done.new} is the primary after {done.old}, {pause}", highlight=False)
