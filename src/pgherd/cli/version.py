"""`pgherd version`: pgherd's, Python's and PostgreSQL's versions."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

import typer

from pgherd.cli.console import output, print_json
from pgherd.cli.place import JsonOption
from pgherd.deploy import binaries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("version")(version)


def version(json: JsonOption = False) -> None:
    """Show the versions of what runs here."""
    found = binaries.find()
    versions = {
        "pgherd": installed("pgherd"),
        "python": platform.python_version(),
        "postgresql": ".".join(map(str, found.version)),
        "postgresql_directory": str(found.directory),
    }
    if json:
        print_json(versions)
    else:
        output.print(
            f"pgherd {versions['pgherd']}, PostgreSQL {versions['postgresql']}, Python {versions['python']}",
            highlight=False,
        )
