"""`pgherd stop-node` and `start-node`: stop one node of a local cluster, to try a failover, and start it again."""

from __future__ import annotations

from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import JsonOption, StateOption, cluster

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's name (see pgherd status).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("stop-node")(stop_node)
    app.command("start-node")(start_node)


def stop_node(
    node: NodeArgument,
    kill: Annotated[
        bool, typer.Option("--kill", help="As if its machine burnt: SIGKILL for all its processes at once.")
    ] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Stop a node of a local cluster; if it is a primary, a standby takes over. It stays stopped until start-node."""
    with steps() as report:
        stopped = cluster(state, report).stop_node(node, kill=kill)
    if json:
        print_json({"node": node, "stopped": stopped})
    else:
        output.print(f"{node} has stopped" if stopped else f"{node} did not run", highlight=False)


def start_node(node: NodeArgument, state: StateOption = None, json: JsonOption = False) -> None:
    """Start a node that stop-node has stopped, and wait until it is in step again."""
    with steps() as report:
        started = cluster(state, report).start_node(node)
    if json:
        print_json({"node": node, "started": started})
    else:
        output.print(f"{node} runs" if started else f"{node} ran already", highlight=False)
