"""Which nodes there are: every change of them is one distributed transaction over all groups, and raises the epoch.

A node that is managed by Patroni is known by its name, another one by its group, which has no other. Node ids stay with their
nodes and are never used again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from pgherd.catalog.ddl.change import HOME, Change, begin
from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.catalog.text import literal
from pgherd.engine.link import Link
from pgherd.errors import DeployError, GroupDown
from pgherd.transaction import recovery
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.perform import Lender, OnStep, nothing
from pgherd.transaction.snapshot import Gates

LOCK_S: Final = 30.0  # how long a change of the nodes waits for another change of the cluster map
_NO_MAP: Final = ClusterMap(epoch=-1, groups={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """All nodes of a cluster, by id; the groups that Patroni manages; the next new node's id."""

    nodes: tuple[Node, ...]
    managed: frozenset[GroupId]
    next_node: int


class Held:
    """A `transaction.perform.Lender` of one given connection to each group. It makes no new ones."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._free = {link.group: link for link in links}

    async def lend(self, group: GroupId) -> Link:
        """The group's connection, if nobody has it. Raises GroupDown."""
        link = self._free.pop(group, None)
        if link is None or link.broken:
            raise GroupDown(f"there is no connection to group {group}")
        return link

    def give_back(self, link: Link, *, reusable: bool) -> None:
        """Take it back."""
        if reusable:
            self._free[link.group] = link


# ---- pure -------------------------------------------------------------------------------------------


def arrange(now: Arrangement, wished: Sequence[Node], managed: Collection[GroupId]) -> Arrangement:
    """The arrangement in which exactly `wished` are the nodes: known ones keep their ids, whatever id they come with.

    Raises DeployError if two nodes cannot be told apart.
    """
    ids = {_identity(node): node.id for node in now.nodes}
    next_node, found = now.next_node, dict[tuple[str, int], Node]()
    for node in wished:
        identity = _identity(node)
        if identity in found:
            raise DeployError(
                f"group {node.group} has two nodes named {node.name!r}"
                if node.name
                else f"group {node.group} has two nodes without a name",
                hint="Give each node of a group with several nodes a name of its own.",
            )
        if identity in ids:
            found[identity] = replace(node, id=ids[identity])
        else:
            found[identity] = replace(node, id=next_node)
            next_node += 1
    nodes = tuple(sorted(found.values(), key=lambda node: node.id))
    return Arrangement(nodes=nodes, managed=frozenset(managed), next_node=next_node)


def _identity(node: Node) -> tuple[str, int]:
    return (node.name, -1) if node.name else ("", node.group)


def texts(target: Arrangement) -> str:
    """What makes a group's metadata say `target`, and its foreign servers follow."""
    groups = sorted({node.group for node in target.nodes})
    rows = ", ".join(
        f"({node.id}, {node.group}, {literal(node.host)}, {node.port}, {literal(node.database)},"
        f" {literal(node.region)}, {literal(node.zone)}, {literal(node.name)})"
        for node in target.nodes
    )
    listed = ", ".join(f"({group}, {literal(group in target.managed)})" for group in groups)
    return (
        f"INSERT INTO pgherd.groups (id, managed) VALUES {listed} ON CONFLICT (id) DO UPDATE SET managed = excluded.managed;\n"
        "DELETE FROM pgherd.nodes;\n"
        f"INSERT INTO pgherd.nodes (id, group_id, host, port, database, region, zone, name) VALUES {rows};\n"
        f"UPDATE pgherd.cluster SET next_node = {target.next_node};\n"
        "SELECT pgherd.sync_servers()"
    )


# ---- changes ----------------------------------------------------------------------------------------


async def register(
    lender: Lender,
    wished: Sequence[Node],
    *,
    managed: Collection[GroupId] = (),
    lock_s: float = LOCK_S,
    on_step: OnStep = nothing,
) -> bool:
    """Let `wished` be the nodes of the cluster, all of them; answers whether anything changed.

    Ids that come with the nodes mean nothing. Raises DeployError for a group without a node, GroupDown and the like.
    """
    groups = tuple(sorted({node.group for node in wished}))
    async with changing(lender, groups, lock_s=lock_s, on_step=on_step) as change:
        missing = set(change.cluster.groups) - set(groups)
        if missing:
            raise DeployError(
                f"no node is named for group {min(missing)}", hint="Name the nodes of all groups."
            )
        return await _apply(change, lambda now: arrange(now, wished, managed))


async def add(lender: Lender, node: Node, *, lock_s: float = LOCK_S) -> Node:
    """Add a node to a managed group that exists, or change the node of that name; answers it with its id."""
    if not node.name:
        raise DeployError("a node of a managed group needs a name")
    async with changing(lender, lock_s=lock_s) as change:
        group = change.cluster.groups.get(node.group)
        if group is None:
            raise DeployError(f"there is no group {node.group}", hint="pgherd add-group makes a new one.")
        if not group.managed:
            raise DeployError(f"group {node.group} is not managed by Patroni and has one node only")

        def with_node(now: Arrangement) -> Arrangement:
            others = [known for known in now.nodes if known.name != node.name]
            return arrange(now, [*others, node], now.managed)

        await _apply(change, with_node)
    return await find(lender, node.name)


async def move(lender: Lender, name: str, *, host: str, port: int, lock_s: float = LOCK_S) -> bool:
    """Say where the node `name` answers now; answers whether that is news. Raises DeployError if there is no such node."""
    async with changing(lender, lock_s=lock_s) as change:
        _require(change.cluster, name)

        def moved(now: Arrangement) -> Arrangement:
            nodes = [replace(n, host=host, port=port) if n.name == name else n for n in now.nodes]
            return replace(now, nodes=tuple(nodes))

        return await _apply(change, moved)


async def remove(lender: Lender, name: str, *, lock_s: float = LOCK_S) -> None:
    """Forget the node `name`. Raises DeployError if there is none, or if it is its group's last."""
    async with changing(lender, lock_s=lock_s) as change:
        node = _require(change.cluster, name)
        if len(change.cluster.groups[node.group].nodes) == 1:
            raise DeployError(
                f"{name} is the only node of group {node.group}",
                hint="Remove the whole group instead, once it holds nothing.",
            )

        def without(now: Arrangement) -> Arrangement:
            return replace(now, nodes=tuple(n for n in now.nodes if n.name != name))

        await _apply(change, without)


async def find(lender: Lender, name: str) -> Node:
    """The node of this name, from group 0. Raises DeployError."""
    rows = await recovery.ask(
        lender,
        HOME,
        f"SELECT id, group_id, host, port, database, region, zone, name FROM pgherd.nodes WHERE name = {literal(name)}",
    )
    if not rows:
        raise DeployError(f"there is no node {name!r}", hint="SELECT name FROM pgherd.nodes lists them.")
    return node_of(rows[0])


def node_of(row: Sequence[str | None]) -> Node:
    """A row of pgherd.nodes: id, group_id, host, port, database, region, zone, name."""
    number, group, host, port, database, region, zone, name = (str(value) for value in row)
    return Node(
        id=int(number), group=GroupId(int(group)), host=host, port=int(port),
        database=database, region=region, zone=zone, name=name,
    )  # fmt: skip


def _require(cluster: ClusterMap, name: str) -> Node:
    for group in cluster.groups.values():
        for node in group.nodes:
            if node.name == name and name:
                return node
    raise DeployError(f"there is no node {name!r}", hint="SELECT name FROM pgherd.nodes lists them.")


async def _apply(change: Change, step: Callable[[Arrangement], Arrangement]) -> bool:
    """Carry out a step from the arrangement that is; unchanged nodes leave the epoch as it is."""
    now = await arrangement(change)
    target = step(now)
    if target == now:
        await change.everywhere("SELECT pgherd.sync_servers()")
        return False
    await change.everywhere(texts(target), change.new_epoch())
    return True


async def arrangement(change: Change) -> Arrangement:
    """The arrangement that is."""
    rows = await change.run_home("SELECT next_node FROM pgherd.cluster")
    groups = change.cluster.groups
    nodes = sorted((node for group in groups.values() for node in group.nodes), key=lambda node: node.id)
    return Arrangement(
        nodes=tuple(nodes),
        managed=frozenset(group.id for group in groups.values() if group.managed),
        next_node=int(rows[0][0] or 0),
    )


async def set_server_options(lender: Lender, options: dict[str, str], *, lock_s: float = LOCK_S) -> None:
    """What the groups' connections to each other are told beside where to go (sslmode, sslrootcert, ...), in all groups."""
    rows = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in sorted(options.items()))
    steps = ["DELETE FROM pgherd.server_options", "SELECT pgherd.sync_servers()"]
    if rows:
        steps.insert(1, f"INSERT INTO pgherd.server_options (name, value) VALUES {rows}")
    async with changing(lender, lock_s=lock_s) as change:
        await change.everywhere(*steps)


@asynccontextmanager
async def changing(
    lender: Lender,
    groups: tuple[GroupId, ...] | None = None,
    *,
    lock_s: float = LOCK_S,
    on_step: OnStep = nothing,
) -> AsyncGenerator[Change]:
    """A change of the cluster map over all groups: committed in all of them at the block's end, or in none.

    Who is killed in the middle leaves what recovery settles: the next change does, if no controller has. `groups`: all
    groups, where the metadata does not know them yet. Raises ServerError 55P03 if another change takes longer than `lock_s`.
    """
    known = await _known_groups(lender) if groups is None else groups
    await recovery.recover(lender, known)
    tx = Transaction(lender, known, gates=Gates(lender), on_step=on_step)
    try:
        for group in known:
            await (await tx.branch(group)).run(
                f"SET LOCAL lock_timeout = {int(lock_s * 1000)}; SET LOCAL client_min_messages = warning"
            )
        yield await begin(tx, None, _NO_MAP, (), all_groups=groups is None)
        await tx.commit()
    except BaseException:
        await tx.rollback()
        raise
    finally:
        await tx.gates.close()


async def _known_groups(lender: Lender) -> tuple[GroupId, ...]:
    rows = await recovery.ask(lender, HOME, "SELECT DISTINCT group_id FROM pgherd.nodes ORDER BY 1")
    return tuple(GroupId(int(row[0] or 0)) for row in rows)
