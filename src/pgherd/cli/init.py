"""`pgherd init`: make the catalog of a cluster over several machines, once its nodes run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.console import errors, output, print_json, steps
from pgherd.cli.place import JsonOption

if TYPE_CHECKING:
    from pgherd.catalog.model import ClusterMap

PASSES_LOGINS_ON = 18  # the first major version with postgres_fdw's use_scram_passthrough

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
    from pgherd.deploy import (  # here: the other commands start faster without it
        binaries,
        members,
        node_config,
    )

    settings = node_config.load(config)
    with steps() as report:
        made = asyncio.run(members.init(settings, groups=groups, within_s=wait, report=report))
    if settings.auth == "scram" and (version := binaries.find(settings.pg_bin).version)[0] < PASSES_LOGINS_ON:
        errors.print(
            f"[bold]note:[/] PostgreSQL {version[0]} cannot pass logins by password on between groups: statements that read "
            f"several groups at once in one of them need {PASSES_LOGINS_ON}.",
            soft_wrap=True,
            highlight=False,
        )
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
