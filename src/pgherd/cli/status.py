"""`pgherd status`: what runs, where, and how the nodes of each group stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pgherd.balance.sentence import size
from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster
from pgherd.deploy.local import LocalCluster, PartStatus
from pgherd.deploy.state import State
from pgherd.deploy.view import GroupView, look

NOT_RUNNING = 3  # the exit code that init scripts use for it


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    state: StateOption = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A node's settings: show the cluster that its etcd knows."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the cluster's processes and nodes. Exit code 0: all run and every group has a primary, 3: not all do."""
    if config is not None:
        _status_of_members(config, json)
        return
    local = cluster(state)
    current = local.existing()
    parts = local.parts(current)
    groups = look([node.config for node in local.replicated(current).nodes()]) if current.managed else []
    word = _word(parts, groups)
    if json:
        print_json(_document(local, current, parts, groups, word))
    else:
        output.print(f"{word}: {local.dsn(current)}   (state in {local.directory})", highlight=False)
        if current.managed:
            _show_nodes(groups, _pids(local, current))
            others = [part for part in parts if part.name in ("etcd", "gateway")]
            for part in others:
                running = f"pid {part.pid}" if part.pid else "[red]down[/]"
                output.print(f"{part.name} on port {part.port}: {running}", highlight=False)
        else:
            _show_servers(current, parts)
    if word != "running":
        raise typer.Exit(NOT_RUNNING)


def _word(parts: Sequence[PartStatus], groups: Sequence[GroupView]) -> str:
    down = sum(part.pid is None for part in parts)
    if parts and down == len(parts):
        return "not running"
    return "partly running" if down or any(group.primary is None for group in groups) else "running"


def _pids(local: LocalCluster, current: State) -> dict[str, dict[str, int | None]]:
    return {node.config.name: node.pids() for node in local.replicated(current).nodes()}


def _document(
    local: LocalCluster,
    current: State,
    parts: Sequence[PartStatus],
    groups: Sequence[GroupView],
    word: str,
) -> dict[str, Any]:
    answer: dict[str, Any] = {"status": word, "running": word == "running", "dsn": local.dsn(current)}
    answer |= {"state": str(local.directory), "version": current.version, "embedded": current.embedded}
    answer["groups"] = [asdict(group) for group in current.groups]
    answer["parts"] = [asdict(part) for part in parts]
    if not current.managed:
        return answer
    views = {group.id: group for group in groups}
    for group in answer["groups"]:
        group |= _group_document(views[group["id"]])
    return answer | {"profile": current.profile, "nodes": _node_documents(groups, _pids(local, current))}


def _group_document(group: GroupView) -> dict[str, Any]:
    return {"primary": group.primary, "when_alone": group.when_alone, "failsafe": group.failsafe}


def _node_documents(
    groups: Sequence[GroupView], pids: dict[str, dict[str, int | None]]
) -> list[dict[str, Any]]:
    nodes = [asdict(node) for group in groups for node in group.nodes]
    return [node | ({"pids": pids[node["name"]]} if node["name"] in pids else {}) for node in nodes]


def _show_servers(current: State, parts: Sequence[PartStatus]) -> None:
    shown = table("part", "groups", "port", "pid", right=("port", "pid"))
    for position, part in enumerate(parts):
        held = [
            str(group.id) for group in current.groups if part.name != "gateway" and group.server == position
        ]
        shown.add_row(part.name, ", ".join(held), str(part.port), str(part.pid or "[red]down[/]"))
    output.print(shown)


def _show_nodes(groups: Sequence[GroupView], pids: dict[str, dict[str, int | None]]) -> None:
    right = ("lag", "timeline", "pid")
    shown = table(
        "group", "node", "role", "state", "sync", "lag", "timeline", "place", "address", "pid", right=right
    )
    for group in groups:
        for node in group.nodes:
            down = node.state == "down"
            lag = "" if node.lag_bytes is None else size(node.lag_bytes)
            place = "/".join(part for part in (node.region, node.zone) if part)
            pid = pids.get(node.name, {}).get("postgres")
            shown.add_row(
                str(group.id),
                node.name,
                f"[bold]{node.role}[/]" if node.role == "primary" else node.role,
                "[red]down[/]" if down else node.state,
                node.sync,
                lag,
                str(node.timeline or ""),
                place,
                f"{node.host}:{node.port}",
                str(pid or ""),
            )
    output.print(shown)
    for group in groups:
        _show_group(group)


def _show_group(group: GroupView) -> None:
    if group.primary is None:
        output.print(f"[red]group {group.id} has no primary[/]", highlight=False)
    if group.failsafe:
        output.print(f"group {group.id} goes on without etcd: all its nodes agree", highlight=False)
    standbys = [node for node in group.nodes if node.name != group.primary]
    alone = not any(node.sync in ("sync", "quorum") for node in standbys)
    now = " [yellow]It is alone now.[/]" if alone and standbys and group.primary else ""
    if group.when_alone:
        words = "goes on with writes" if group.when_alone == "goes on" else "stops taking writes"
        output.print(f"group {group.id}: a primary without a standby in step {words}.{now}", highlight=False)


def _status_of_members(config: Path, json: bool) -> None:
    """The same for a cluster over several machines: what etcd and the nodes' own Patronis say."""
    from pgherd.deploy import members, node_config  # here: local clusters do without

    settings = node_config.load(config)
    announced = members.Primaries(settings).announced()
    places = [
        replace(members.at(settings, each), port=each.port, region=each.region, zone=each.zone)
        for each in announced
    ]
    groups = look(places)
    word = "running" if groups and all(group.primary for group in groups) else "partly running"
    if json:
        documents = [{"id": group.id, **_group_document(group)} for group in groups]
        print_json({"status": word, "groups": documents, "nodes": _node_documents(groups, {})})
    else:
        output.print(f"{word}: cluster {settings.cluster}", highlight=False)
        _show_nodes(groups, {})
    if word != "running":
        raise typer.Exit(NOT_RUNNING)
