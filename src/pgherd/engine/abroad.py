"""Writes that read other groups' rows on the way, over `global.*` on their own branch.

postgres_fdw opens its transactions in the other groups when it first needs them, and keeps their snapshots until the branch
ends. They are opened here, through one window, just before the statement, and the map is kept as it is until the transaction
ends, so that no shard lies elsewhere when the statement runs. What the transaction itself wrote in those groups could not be seen
from here: that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.engine.work import Work, side_by_side
from pgherd.errors import Refused, StaleMap
from pgherd.transaction.reads import probes


async def branches(
    work: Work, groups: Sequence[GroupId], reads: Sequence[GroupId], *, epoch: int, write: bool
) -> dict[GroupId, Link]:
    """The branches in `groups`, each with snapshots of all `reads`, as at `epoch`, if there are any. Raises StaleMap."""
    abroad = any(read != group for group in groups for read in reads)
    if abroad:
        _check(work, groups, reads)
    links = {group: await work.tx.branch(group, write=write) for group in groups}
    if reads:
        await _keep_map(links, epoch)
    if not abroad:
        return links
    for group in groups:
        work.tx.branches[group].pinned = True  # what used postgres_fdw cannot be prepared: it must be home
    if work.tx.isolation != "read committed":
        return links

    async def look(group: GroupId) -> None:
        await links[group].run(probes([read for read in reads if read != group]))

    if not work.tx.snapshot:
        return links
    async with work.tx.gates.window(tuple(dict.fromkeys((*groups, *reads)))):
        await side_by_side(groups, look, limit=work.bounds.parallel)
    work.tx.federated_from.update(groups)
    return links


async def _keep_map(links: dict[GroupId, Link], epoch: int) -> None:
    for group, link in links.items():
        found = int((await link.run("SELECT pgherd.hold_epoch()"))[0][0] or 0)
        if found != epoch:
            raise StaleMap(f"the cluster map has changed: group {group} is at epoch {found}, not {epoch}")


def _check(work: Work, groups: Sequence[GroupId], reads: Sequence[GroupId]) -> None:
    tx = work.tx
    pinned = {group for group, branch in tx.branches.items() if branch.pinned}
    if len(pinned.union(groups)) > 1:
        raise Refused(
            "a write in several groups cannot read whole tables of other groups on the way",
            hint="Read first and write what was read; or let the tables share a keyspace, and join them on their shard keys.",
        )
    for group in groups:
        others = [read for read in reads if read != group]
        wrote = [read for read in others if read in tx.branches and tx.branches[read].wrote]
        if wrote:
            raise Refused(
                f"this statement would not see what its own transaction wrote in group {wrote[0]}",
                hint="Run it before writing, or after COMMIT; or give it the shard keys.",
            )
        if tx.isolation == "serializable":
            raise Refused(
                "a SERIALIZABLE transaction may touch one group only",
                hint="Use REPEATABLE READ, which is snapshot isolation over all groups.",
            )
        if tx.isolation == "repeatable read" and tx.snapshot and group != work.groups[0]:
            raise Refused(
                f"a REPEATABLE READ transaction cannot read whole tables while it writes in group {group}",
                hint="Read first, then write what was read; or use READ COMMITTED.",
            )
        if tx.isolation == "read committed" and group in tx.federated_from:
            raise Refused(
                "a second write that reads whole tables in one READ COMMITTED transaction",
                hint="Commit between them.",
            )
