"""`pgherd init`: make the catalog of a cluster over several machines, once its nodes run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.console import output, print_json, steps
from pgherd.cli.place import JsonOption

if TYPE_CHECKING:
    from pgherd.catalog.model import ClusterMap

ConfigOption = Annotated[
    Path,
    typer.Option("--config", metavar="FILE", help="The settings of one of the cluster's nodes, any of them."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    config: ConfigOption,
    groups: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Wait until N groups have a primary (default: those that run now)."
        ),
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for them.")] = 60.0,
    json: JsonOption = False,
) -> None:
    """Make one database of the groups that run: schema pgherd in all of them, and who is where.

    Run it once, from any machine that reaches the nodes and etcd. Again is fine, and after an upgrade of pgherd brings the functions up to date.
    """
    from pgherd.deploy import members, node_config  # here: the other commands start faster without it

    settings = node_config.load(config)
    with steps() as report:
        made = asyncio.run(members.init(settings, groups=groups, within_s=wait, report=report))
    if json:
        print_json(described(made))
        return
    nodes = sum(len(group.nodes) for group in made.groups.values())
    output.print(f"cluster {settings.cluster}: {len(made.groups)} groups, {nodes} nodes", highlight=False)


def described(cluster: ClusterMap) -> dict[str, Any]:
    """Groups and nodes of a cluster, for programs."""
    return {
        "epoch": cluster.epoch,
        "groups": [
            {
                "id": int(group.id),
                "managed": group.managed,
                "nodes": [
                    {"name": n.name, "host": n.host, "port": n.port, "region": n.region, "zone": n.zone}
                    for n in group.nodes
                ],
            }
            for group in cluster.groups.values()
        ],
    }
