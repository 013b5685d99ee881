"""A local cluster grows and shrinks while it runs: another replica, a node less, another group."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog.model import GroupId
from pgherd.deploy import members, patroni_api, ports, removal, state, wish
from pgherd.deploy.local import LocalCluster, Report
from pgherd.deploy.members import Primaries
from pgherd.deploy.replicated import Replicated
from pgherd.deploy.state import NodeState, State
from pgherd.errors import DeployError

READY_S = 180.0
POLL_S = 0.1


def add_replica(
    local: LocalCluster, group: int, *, region: str = "", zone: str = "", report: Report
) -> NodeState:
    """Start another node in a group and wait until it streams. Raises DeployError."""
    with state.locked(local.directory):
        current = _managed(local)
        current.group_nodes(group)
        made = wish.with_node(current, group, free_ports(local, current, 2), region=region, zone=zone)
        node = made.nodes[-1]
        state.save(
            local.directory, made
        )  # before it exists: what a killed command leaves is known, `up` goes on with it
        replicated = local.replicated(made)
        report(f"starting {node.name}: it copies group {group}")
        process = replicated.node(node).launch()
        _until(lambda: _streams(replicated, node), replicated, node, process)
        report(f"registering {node.name}")
        wished = next(each for each in replicated.map_nodes() if each.name == node.name)
        config = replicated.config(node)
        asyncio.run(catalog_nodes.add(Primaries(config), wished))
        members.settle_synchronous(config, GroupId(group), len(made.group_nodes(group)))
    return node


def remove_node(local: LocalCluster, name: str, *, report: Report) -> NodeState:
    """Take a node out of its group and delete its files. A primary hands over first. Raises DeployError."""
    with state.locked(local.directory):
        current = _managed(local)
        node = current.node(name)
        others = [each for each in current.group_nodes(node.group) if each.name != name]
        if not others:
            raise DeployError(
                f"{name} is the only node of group {node.group}", hint="A group keeps at least one node."
            )
        replicated = local.replicated(current)
        _hand_over(replicated, node, others, report)
        process, config = replicated.node(node), replicated.config(others[0])
        cluster = asyncio.run(members.catalog_map(config))
        if cluster is not None and removal.find(cluster, name) is not None:
            asyncio.run(removal.remove(config, name, report=report, stop=process.stop))
        else:  # an earlier attempt came as far as that
            process.stop()
            asyncio.run(removal.forget(config, name, GroupId(node.group), len(others), report=report))
        kept = tuple(each for each in current.nodes if each.name != name)
        state.save(local.directory, replace(current, nodes=kept, gone=(*current.gone, name)))
        process.remove()
    return node


def _hand_over(replicated: Replicated, node: NodeState, others: list[NodeState], report: Report) -> None:
    """Make another node primary, if `node` is it."""
    primary = replicated.primary(node.group)
    if primary is None:
        raise DeployError(
            f"group {node.group} has no primary now",
            hint="Wait until it has one (see pgherd status), then try again.",
        )
    if primary.name != node.name:
        return
    report(f"handing over from {node.name}")
    patroni_api.switchover(replicated.config(node), node.name, None)
    deadline = time.monotonic() + READY_S
    while not any(patroni_api.is_primary(replicated.config(other)) for other in others):
        if time.monotonic() > deadline:
            raise DeployError(
                f"no other node of group {node.group} became primary", hint="See pgherd status."
            )
        time.sleep(POLL_S)


def _managed(local: LocalCluster) -> State:
    current = local.existing()
    if not current.managed:
        raise DeployError(
            "this cluster's groups have one server each, without replicas",
            hint="Make one with replicas: pgherd up --replicas 1 --state DIR.",
        )
    if not current.installed or not local.running(current):
        raise DeployError("not all of the cluster runs", hint="Start it first: pgherd up --detach.")
    return current


def free_ports(local: LocalCluster, current: State, count: int) -> list[int]:
    """Ports that are free now and that no stopped part of the cluster will want back."""
    taken = {part.port for part in (*current.servers, *current.nodes)} | {current.gateway.port}
    taken |= {node.rest_port for node in current.nodes}
    if current.etcd is not None:
        taken |= {current.etcd.port, current.etcd.peer_port}
    candidates = wish.server_ports(local.directory, current.gateway.port)
    return ports.first_free([port for port in candidates if port not in taken], count)


def _streams(replicated: Replicated, node: NodeState) -> bool:
    """Does the group's primary say that `node` streams from it?"""
    others = [each for each in replicated.current.group_nodes(node.group) if each.name != node.name]
    found = replicated.statuses(others).values()
    return any(status is not None and status.leads and node.name in status.standbys for status in found)


def _until(
    done: Callable[[], bool],
    replicated: Replicated,
    node: NodeState,
    process: subprocess.Popen[bytes] | None,
) -> None:
    deadline = time.monotonic() + READY_S
    while not done():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            words = replicated.node(node).last_words().removeprefix("pgherd: ")
            raise DeployError(
                f"node {node.name} {'ended' if ended else 'does not stream'}: {words}",
                hint=f"Read its node.log. pgherd up tries again, pgherd remove {node.name} gives it up.",
            )
        time.sleep(POLL_S)
    if process is not None:
        process.returncode = 0  # it lives on; Popen shall not warn about it
