"""`pgherd status`: what runs, and where."""

from __future__ import annotations

from dataclasses import asdict

import typer

from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster

NOT_RUNNING = 3  # the exit code that init scripts use for it


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(state: StateOption = None, json: JsonOption = False) -> None:
    """Show the cluster's processes. Exit code 0: all run, 3: not all do."""
    local = cluster(state)
    current = local.existing()
    parts = local.parts(current)
    running = all(part.pid is not None for part in parts)
    if json:
        answer = {
            "running": running,
            "dsn": local.dsn(current),
            "state": str(local.directory),
            "version": current.version,
        }
        print_json(
            {
                **answer,
                "groups": [asdict(group) for group in current.groups],
                "parts": [asdict(part) for part in parts],
            }
        )
    else:
        word = (
            "running"
            if running
            else "not running"
            if all(part.pid is None for part in parts)
            else "partly running"
        )
        output.print(f"{word}: {local.dsn(current)}   (state in {local.directory})", highlight=False)
        shown = table("part", "groups", "port", "pid", "log", right=("port", "pid"))
        for position, part in enumerate(parts):
            held = [
                str(group.id)
                for group in current.groups
                if group.server == position and part.name != "gateway"
            ]
            log = local.gateway.log if part.name == "gateway" else f"{part.directory}/data/log"
            shown.add_row(
                part.name, ", ".join(held), str(part.port), str(part.pid or "[red]down[/]"), str(log)
            )
        output.print(shown)
    if not running:
        raise typer.Exit(NOT_RUNNING)
