"""`pgherd gateway`: run a gateway in the foreground, as a service of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gateway")(gateway)


def gateway(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The gateway's settings, JSON or TOML.")],
) -> None:
    """Run a gateway with the settings of a file until it is told to stop."""
    os.execv(sys.executable, [sys.executable, "-m", "pgherd.gateway", "--config", str(config.absolute())])
