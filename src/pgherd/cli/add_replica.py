"""`pgherd add-replica`: another standby for a group of a local cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("add-replica")(add_replica)


def add_replica(
    group: Annotated[int, typer.Argument(min=0, metavar="GROUP", help="The group's number.")],
    region: Annotated[str, typer.Option(help="Where it is, for choosing the nearest node.")] = "",
    zone: Annotated[str, typer.Option(help="Where in the region it is.")] = "",
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Start another node in a group, and wait until it holds everything and follows the primary.

    On several machines there is nothing to add: start `pgherd node` with the group's number on the new one, and it joins.
    """
    from pgherd.deploy import growth  # here: the other commands start faster without it

    with steps() as report:
        node = growth.add_replica(cluster(state, report), group, region=region, zone=zone, report=report)
    if json:
        print_json(asdict(node))
        return
    output.print(f"{node.name} follows the primary of group {group} (port {node.port})", highlight=False)
