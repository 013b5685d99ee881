"""Take a group that holds no shard out of a running cluster."""

from __future__ import annotations

from dataclasses import replace

from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog.ddl.change import HOME, Change
from pgherd.catalog.growth.filling import Report, silent
from pgherd.catalog.growth.locks import lock_reference_tables
from pgherd.catalog.model import GroupId
from pgherd.catalog.text import call
from pgherd.errors import DeployError
from pgherd.transaction.perform import Lender, OnStep, nothing


async def remove_group(
    lender: Lender,
    number: GroupId,
    *,
    report: Report = silent,
    lock_s: float = catalog_nodes.LOCK_S,
    on_step: OnStep = nothing,
) -> bool:
    """Forget a group that holds no shard; False if the cluster does not have it.

    Gateways and clients stop using it within a second or so; stop its servers after that. Its number is not given
    again. Raises DeployError if it holds shards.
    """
    if number == HOME:
        raise DeployError("group 0 cannot be removed: single tables and the map's origin live in it")
    async with catalog_nodes.changing(lender, lock_s=lock_s, on_step=on_step) as change:
        if number not in change.cluster.groups:
            return False
        _require_no_shards(change, number)
        await lock_reference_tables(change, lock_s)
        now = await catalog_nodes.arrangement(change)
        nodes = tuple(node for node in now.nodes if node.group != number)
        target = replace(now, nodes=nodes, managed=now.managed - {number})
        await change.everywhere(
            catalog_nodes.texts(target), call("forget_group", str(number)), change.new_epoch()
        )
    report(f"group {number} does not belong to the cluster any more")
    return True


def _require_no_shards(change: Change, number: GroupId) -> None:
    held = [
        f"{shard.id} of {keyspace.name}"
        for keyspace in change.cluster.keyspaces.values()
        for shard in keyspace.shards
        if shard.group == number
    ]
    if held:
        raise DeployError(
            f"group {number} holds {len(held)} shards: {', '.join(held[:5])}{', ...' if len(held) > 5 else ''}",
            hint=f"Move them first: CALL pgherd.move(shard, group), or CALL pgherd.drain({number}).",
        )
