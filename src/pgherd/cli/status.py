"""`pgherd status`: what runs, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer

from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster
from pgherd.deploy.local import LocalCluster, PartStatus
from pgherd.deploy.state import State

NOT_RUNNING = 3  # the exit code that init scripts use for it


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(state: StateOption = None, json: JsonOption = False) -> None:
    """Show the cluster's processes. Exit code 0: all run, 3: not all do."""
    local = cluster(state)
    current = local.existing()
    parts = local.parts(current)
    word = _word(parts)
    if json:
        answer = {"status": word, "running": word == "running", "dsn": local.dsn(current)}
        answer |= {"state": str(local.directory), "version": current.version, "embedded": current.embedded}
        groups = [asdict(group) for group in current.groups]
        print_json({**answer, "groups": groups, "parts": [asdict(part) for part in parts]})
    else:
        _show(local, current, parts, word)
    if word != "running":
        raise typer.Exit(NOT_RUNNING)


def _word(parts: Sequence[PartStatus]) -> str:
    down = sum(part.pid is None for part in parts)
    return "running" if not down else "not running" if down == len(parts) else "partly running"


def _show(local: LocalCluster, current: State, parts: Sequence[PartStatus], word: str) -> None:
    output.print(f"{word}: {local.dsn(current)}   (state in {local.directory})", highlight=False)
    shown = table("part", "groups", "port", "pid", right=("port", "pid"))
    for position, part in enumerate(parts):
        held = [
            str(group.id) for group in current.groups if part.name != "gateway" and group.server == position
        ]
        shown.add_row(part.name, ", ".join(held), str(part.port), str(part.pid or "[red]down[/]"))
    output.print(shown)
