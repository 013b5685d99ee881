"""Bring an empty group into a running cluster."""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog import store
from pgherd.catalog.ddl.change import HOME, Change
from pgherd.catalog.growth.filling import Dump, Filling, Report, silent
from pgherd.catalog.model import GroupId, Node
from pgherd.engine.link import Link
from pgherd.errors import DeployError
from pgherd.transaction import recovery
from pgherd.transaction.perform import Lender, OnStep, nothing


async def next_group(lender: Lender) -> GroupId:
    """The number that the next new group has. Numbers of removed groups are not given again."""
    return GroupId(
        int((await recovery.ask(lender, HOME, "SELECT max(id) + 1 FROM pgherd.groups"))[0][0] or 0)
    )


async def is_leftover(link: Link, cluster_id: str) -> bool:
    """Whether an interrupted attempt to make a group of this cluster left the database behind `link`.

    True says nothing about whether the cluster knows the group: ask that first.
    """
    if await store.installed_layout(link) is None:
        return False
    rows = await link.run("SELECT id FROM pgherd.cluster")
    return bool(rows) and rows[0][0] == cluster_id


async def add_group(
    lender: Lender,
    nodes: Sequence[Node],
    *,
    dump: Dump,
    managed: bool = False,
    report: Report = silent,
    lock_s: float = catalog_nodes.LOCK_S,
    on_step: OnStep = nothing,
) -> bool:
    """Let the empty database of `nodes` be a new group; False if the cluster has it already.

    All of `nodes` name the same group, the one that `next_group` answers, and `lender` lends a superuser's connections to its primary as
    to all others. Definitions wait meanwhile; writes to reference tables wait while their rows are copied. Raises
    DeployError if the database is not empty, or a transaction holds a reference table for longer than `lock_s`.
    """
    (number,) = {node.group for node in nodes}
    rows = await recovery.ask(lender, HOME, f"SELECT 1 FROM pgherd.nodes WHERE group_id = {number}")
    if rows:
        return False
    async with catalog_nodes.changing(lender, lock_s=lock_s, on_step=on_step) as change:
        await _check_number(change, number)
        for group in change.others:
            await change.branch(group)
        new = await lender.lend(number)
        try:
            await Filling(change, new, list(nodes), dump, managed, report).run(lock_s)
        except BaseException:
            lender.give_back(new, reusable=False)
            raise
        lender.give_back(new, reusable=True)
    report(f"group {number} belongs to the cluster")
    return True


async def _check_number(change: Change, number: GroupId) -> None:
    rows = await change.run_home("SELECT max(id) + 1 FROM pgherd.groups")
    expected = int(rows[0][0] or 0)
    if number != expected:
        raise DeployError(
            f"the next group's number is {expected}, not {number}",
            hint="Was another group added just now? Try again.",
        )
    if number > 511:
        raise DeployError("a cluster has at most 512 groups")
