"""Which cluster a command means: the option --state, else PGHERD_STATE, else the default directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pgherd.deploy import state
from pgherd.deploy.local import LocalCluster

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="The cluster's state directory (default: $PGHERD_STATE, else a directory of this user's).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with JSON, for programs.")]


def cluster(directory: Path | None, report: Callable[[str], None] = lambda _: None) -> LocalCluster:
    """The cluster in `directory`, or in the default one. It need not exist."""
    return LocalCluster((directory or state.default_directory()).expanduser().absolute(), report=report)
