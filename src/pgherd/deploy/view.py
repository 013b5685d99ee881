"""What the nodes of managed groups are doing now, for `pgherd status`: asked from each node's Patroni, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pgherd.deploy import patroni_api
from pgherd.deploy.node_config import NodeConfig
from pgherd.deploy.patroni_api import NodeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node. `role`: primary or standby; `state`: Patroni's word, or down. `sync`: how its primary waits for it (sync,
    quorum, potential, async), empty if it does not stream. `lag_bytes`: WAL that it has not replayed yet."""

    name: str
    group: int
    role: str
    state: str
    sync: str
    lag_bytes: int | None
    timeline: int | None
    host: str
    port: int
    rest_port: int
    region: str
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A group. `primary`: its name, if there is one. `when_alone`: what a primary without standbys does with writes, as
    set in etcd: "goes on" or "stops", empty if nobody can say. `failsafe`: it goes on without etcd at this moment."""

    id: int
    primary: str | None
    when_alone: str
    failsafe: bool
    nodes: tuple[NodeView, ...]


def look(nodes: Sequence[NodeConfig]) -> list[GroupView]:
    """The groups that `nodes` (the settings to ask each one with) belong to, ascending."""
    with ThreadPoolExecutor(max(1, min(32, len(nodes)))) as pool:
        statuses = dict(zip((node.name for node in nodes), pool.map(patroni_api.status, nodes), strict=True))
    groups = sorted({node.group for node in nodes})
    return [_group(group, [node for node in nodes if node.group == group], statuses) for group in groups]


def _group(number: int, nodes: Sequence[NodeConfig], statuses: Mapping[str, NodeStatus | None]) -> GroupView:
    leader = next((node for node in nodes if (status := statuses[node.name]) and status.leads), None)
    first = statuses[leader.name] if leader else None
    return GroupView(
        id=number,
        primary=leader.name if leader else None,
        when_alone=_when_alone(nodes, statuses),
        failsafe=bool(first and first.alone),
        nodes=tuple(_node(node, statuses[node.name], first, node is leader) for node in nodes),
    )


def _when_alone(nodes: Sequence[NodeConfig], statuses: Mapping[str, NodeStatus | None]) -> str:
    for node in nodes:
        if statuses[node.name] is not None and (shared := patroni_api.dynamic(node)) is not None:
            return "stops" if shared.get("synchronous_mode_strict") else "goes on"
    return ""


def _node(node: NodeConfig, status: NodeStatus | None, primary: NodeStatus | None, leads: bool) -> NodeView:
    lag = None
    if status and primary and not leads and None not in (status.position, primary.position):
        lag = max(0, (primary.position or 0) - (status.position or 0))
    role = (
        "primary" if leads else "standby" if status and status.role == "replica" else status and status.role
    )
    return NodeView(
        name=node.name,
        group=node.group,
        role=role or "",
        state=status.state if status else "down",
        sync=primary.standbys.get(node.name, "") if primary and not leads else "",
        lag_bytes=lag,
        timeline=status.timeline if status else None,
        host=node.host,
        port=node.port,
        rest_port=node.rest_port,
        region=node.region,
        zone=node.zone,
    )
