"""A local cluster grows and shrinks while it runs: another replica, a node less, another group."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import groups, members, ports, removal, state, switchover, wish
from pgherd.deploy.catalog import Programs
from pgherd.deploy.local import LocalCluster, Report
from pgherd.deploy.members import Primaries
from pgherd.deploy.replicated import Replicated
from pgherd.deploy.state import NodeState, ServerState, State
from pgherd.engine.link import Link
from pgherd.errors import DeployError

READY_S = 180.0
CONNECT_S = 10.0
POLL_S = 0.1


def add_replica(
    local: LocalCluster, group: int, *, region: str = "", zone: str = "", report: Report
) -> NodeState:
    """Start another node in a group and wait until it streams. Raises DeployError."""
    with state.locked(local.directory):
        current = _managed(local)
        current.group_nodes(group)  # an error if there is none
        if local.replicated(current).primary(group) is None:
            raise _no_primary(group)
        made, node = current, _unfinished(local, current, group)
        if node is None:
            found = free_ports(local, current, 2)
            made = wish.with_node(current, group, found, region=region, zone=zone)
            node = made.nodes[-1]
            state.save(
                local.directory, made
            )  # before it exists: a command that is killed leaves nothing unknown
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


def _unfinished(local: LocalCluster, current: State, group: int) -> NodeState | None:
    """A node of the group that an interrupted command recorded and did not register, if there is one."""
    nodes = current.group_nodes(group)
    known = removal.names(asyncio.run(members.catalog_map(local.replicated(current).config(nodes[0]))))
    return next((node for node in nodes if node.name not in known), None)


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
        raise _no_primary(node.group)
    if primary.name != node.name:
        return
    config = replicated.config(others[0])
    asyncio.run(switchover.switchover(config, node.group, None, report))


def _no_primary(group: int) -> DeployError:
    return DeployError(
        f"group {group} has no primary now", hint="Wait until it has one (see pgherd status), then try again."
    )


def add_group(local: LocalCluster, *, report: Report) -> int:
    """Start the servers of another group and bring it into the cluster; answers its number. Raises DeployError.

    As the cluster is: nodes with as many replicas, a server, or with `embedded` one more database.
    """
    with state.locked(local.directory):
        current = _running(local)
        number = max(group.id for group in current.groups) + 1
        if number >= wish.GROUPS_MAX:
            raise DeployError(f"a local cluster has at most {wish.GROUPS_MAX} groups")
        if current.managed:
            grown = _with_nodes(local, current, number, report)
        elif current.embedded:
            grown = replace(current, groups=(*current.groups, wish.group_state(number, embedded=True)))
        else:
            grown = _with_server(local, current, number, report)
        nodes = [node for node in local.all_nodes(grown) if node.group == number]
        asyncio.run(_join(local, grown, nodes, report))
        state.save(local.directory, grown)
        if current.managed:
            config = local.replicated(grown).config(grown.group_nodes(number)[0])
            members.settle_synchronous(config, GroupId(number), len(nodes))
    return number


def _with_nodes(local: LocalCluster, current: State, number: int, report: Report) -> State:
    """The cluster with a managed group more, whose nodes run. They are recorded before they exist."""
    made = current
    for _ in range(len([node for node in current.nodes if node.group == number]), current.replicas + 1):
        made = wish.with_node(made, number, free_ports(local, made, 2))
    state.save(local.directory, made)
    report(f"starting group {number}")
    local.replicated(made).start()
    group = wish.group_state(number, embedded=False)
    return replace(made, groups=(*made.groups, group))


def _with_server(local: LocalCluster, current: State, number: int, report: Report) -> State:
    """The cluster with a plain server more, which runs: the one that an interrupted attempt recorded, else a new one."""
    used = {group.server for group in current.groups}
    spare = [position for position in range(len(current.servers)) if position not in used]
    made, position = current, spare[0] if spare else len(current.servers)
    if not spare:
        report(f"preparing the server of group {number}")
        stored = ServerState(directory=f"server_{position}", port=free_ports(local, current, 1)[0])
        made = replace(current, servers=(*current.servers, stored))
        server = local.servers(made)[position]
        server.stop(immediate=True)  # what an attempt left that did not come as far as this:
        server.create(password=local.password())
        state.save(local.directory, made)  # before the catalog can know it
    local.servers(made)[position].start()
    group = replace(wish.group_state(number, embedded=False), server=position)
    return replace(made, groups=(*made.groups, group))


async def _join(local: LocalCluster, grown: State, nodes: list[Node], report: Report) -> None:
    async def where(group: GroupId) -> Node:
        return next(node for node in local.nodes(grown) if node.group == group)

    servers = Locals(local.nodes(grown), local.password())
    dump = Programs(where, password=local.password())
    await groups.join(servers, nodes, dump, managed=grown.managed, report=report)


class Locals:
    """A `groups.Servers` of new connections to the groups' primaries, as they were when it was made."""

    def __init__(self, primaries: list[Node], password: str | None) -> None:
        self._primaries = {node.group: node for node in primaries}
        self._credentials = Credentials(user="postgres", password=password)

    async def lend(self, group: GroupId) -> ServerLink:
        """A new connection. Raises GroupDown."""
        return await connect(self._primaries[group], self._credentials, timeout=CONNECT_S)

    async def lend_in(self, group: GroupId, database: str) -> ServerLink:
        """The same, in another database of its server."""
        node = replace(self._primaries[group], database=database)
        return await connect(node, self._credentials, timeout=CONNECT_S)

    def give_back(self, link: Link, *, reusable: bool) -> None:
        """Close it."""
        assert isinstance(link, ServerLink)
        link.close()


def _managed(local: LocalCluster) -> State:
    current = _running(local)
    if not current.managed:
        raise DeployError(
            "this cluster's groups have one server each, without replicas",
            hint="Make one with replicas: pgherd up --replicas 1 --state DIR.",
        )
    return current


def _running(local: LocalCluster) -> State:
    current = local.existing()
    if not current.installed or all(part.pid is None for part in local.parts(current)):
        raise DeployError("the cluster does not run", hint="Start it first: pgherd up --detach.")
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
