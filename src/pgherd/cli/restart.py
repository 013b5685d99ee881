"""`pgherd restart`: restart a node's PostgreSQL; a primary hands over before."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import ConfigOption, JsonOption, StateOption, node_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restart")(restart)


def restart(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's name (see pgherd status).")],
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Restart PostgreSQL on a node, for settings that need it. If it is a primary with a standby in step, that one takes over first."""
    from pgherd.deploy.restart import restart as again  # here: the other commands start faster without it

    with steps() as report:
        done = asyncio.run(again(node_settings(config, state), node, report))
    if json:
        print_json(asdict(done))
        return
    if done.switched:
        output.print(
            f"{done.switched.new} is the primary of group {done.switched.group} now", highlight=False
        )
    if done.interrupted:
        output.print("it has no standby in step: its group could not write meanwhile", highlight=False)
    output.print(f"{node} has restarted", highlight=False)
