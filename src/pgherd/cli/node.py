"""`pgherd node`: run one node of a cluster on this machine, in the foreground, as a service of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("node")(node)


def node(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The node's settings, TOML or JSON.")],
) -> None:
    """Run a node (PostgreSQL and its Patroni) with the settings of a file until it is told to stop.

    The first node of a group makes its data, the others copy it. The node joins the cluster that etcd knows under its name.
    """
    from pgherd.deploy import (
        binaries,
        node_config,
        patroni,
    )  # here: the other commands start faster without it

    settings = node_config.load(config)
    patroni.check(settings, binaries.find(settings.pg_bin))  # what is wrong is said in the usual way
    os.execv(
        sys.executable,
        [sys.executable, "-m", "pgherd.deploy.supervise", str(config.absolute()), "--announce"],
    )
