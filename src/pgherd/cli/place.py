"""Which cluster a command means: the option --state, else PGHERD_STATE, else the default directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pgherd.deploy import state
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import DeployError

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="The cluster's state directory (default: $PGHERD_STATE, else a directory of this user's).",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The settings of a node, any, of a cluster over several machines (instead of --state).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with JSON, for programs.")]


def cluster(directory: Path | None, report: Callable[[str], None] = lambda _: None) -> LocalCluster:
    """The cluster in `directory`, or in the default one. It need not exist."""
    return LocalCluster((directory or state.default_directory()).expanduser().absolute(), report=report)


def node_settings(config: Path | None, directory: Path | None) -> NodeConfig:
    """Settings of one node of the cluster meant: those in `config`, else of the local cluster's first node. Raises DeployError."""
    if config is not None:
        from pgherd.deploy import node_config

        return node_config.load(config)
    local = cluster(directory)
    current = local.existing()
    if not current.managed:
        raise DeployError(
            "the groups of this cluster have no replicas",
            hint="Start one whose groups have: pgherd up, without --embedded, in another --state directory.",
        )
    return local.replicated(current).config(current.nodes[0])
