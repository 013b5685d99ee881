"""Taking a node out of a cluster: out of the catalog, out of its group's synchronous standbys, its replication slot dropped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.catalog.text import literal
from pgherd.deploy import members, patroni, patroni_api
from pgherd.deploy.members import Primaries, Report
from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import DeployError
from pgherd.transaction import recovery

SLOT_S = 20.0
POLL_S = 0.3


async def remove(
    config: NodeConfig, name: str, *, report: Report, stop: Callable[[], None] | None = None
) -> Node:
    """Take the node `name` out of the cluster; answers what it was. May be repeated after any failure.

    `config`: another node's settings. `stop`: stops the node, where that is in our power; else it must have been stopped.
    Raises DeployError if it is unknown, its group's only node, or still runs.
    """
    lender = Primaries(config)
    cluster = await members.catalog_map(config)
    node = find(cluster, name) if cluster is not None else None
    if cluster is None or node is None:
        raise DeployError(
            f"there is no node {name!r}", hint=f"Nodes of this cluster: {', '.join(names(cluster))}."
        )
    if stop is None:
        report(f"making sure that {name} does not run")
        await _require_stopped(config, lender, name)
    report(f"taking {name} out of the catalog")
    await catalog_nodes.remove(lender, name)
    if stop is not None:
        report(f"stopping {name}")
        await asyncio.to_thread(stop)
    await forget(config, name, node.group, len(cluster.groups[node.group].nodes) - 1, report=report)
    return node


async def forget(config: NodeConfig, name: str, group: GroupId, left: int, *, report: Report) -> None:
    """Let Patroni forget a stopped node of a group that has `left` nodes without it: nobody waits for it, its slot goes."""
    report("letting its group forget it")
    await asyncio.to_thread(members.settle_synchronous, config, group, left)
    await _drop_slot(config, name, group, left)


def find(cluster: ClusterMap, name: str) -> Node | None:
    """The node of this name."""
    return next(
        (node for group in cluster.groups.values() for node in group.nodes if node.name == name), None
    )


def names(cluster: ClusterMap | None) -> list[str]:
    """The names of all nodes."""
    groups = cluster.groups.values() if cluster is not None else ()
    return [node.name for group in groups for node in group.nodes]


async def _require_stopped(config: NodeConfig, lender: Primaries, name: str) -> None:
    """Wait until etcd has forgotten the node, if it does not answer any more; else say that it runs."""
    deadline = time.monotonic() + patroni.dynamic(config)["ttl"] * 2
    while True:
        there = [member for member in await asyncio.to_thread(lender.announced) if member.name == name]
        if not there:
            return
        answers = await asyncio.to_thread(patroni_api.dynamic, members.at(config, there[0])) is not None
        if answers or time.monotonic() > deadline:
            raise DeployError(
                f"{name} still runs, on {there[0].host}",
                hint="Stop it there first (systemctl disable --now pgherd-node@…): running, it would register itself again.",
            )
        await asyncio.sleep(POLL_S)


async def _drop_slot(config: NodeConfig, name: str, group: GroupId, left: int) -> None:
    """Drop the node's replication slot on its group's nodes, unless another member is away whose slot must stay.

    Patroni keeps slots of absent members for `member_slots_ttl`, half an hour; a moment's smaller value makes it forget
    this one. Members that are there are remembered anew at each of its rounds.
    """
    lender = Primaries(config)
    announced = [m for m in await asyncio.to_thread(lender.announced) if m.group == group]
    leader = next((member for member in announced if member.leader), None)
    if leader is None or len(announced) < left:
        return
    there, slot = members.at(config, leader), name.replace("-", "_")
    before = (await asyncio.to_thread(patroni_api.dynamic, there) or {}).get("member_slots_ttl")
    deadline = time.monotonic() + SLOT_S
    await asyncio.to_thread(patroni_api.reconfigure, there, {"member_slots_ttl": 1})
    try:
        sql = f"SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = {literal(slot)}"
        while await recovery.ask(lender, group, sql) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
    finally:
        await asyncio.to_thread(patroni_api.reconfigure, there, {"member_slots_ttl": before})
