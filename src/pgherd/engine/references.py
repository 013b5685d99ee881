"""Writes to reference tables: group 0 first, whose row locks put all writers in one queue, then the other groups.

A group that joins or leaves locks all reference tables on group 0 meanwhile. So whoever enters there first knows that the groups stay
as they are until the transaction ends, and asks whether its map knows all of them.
"""

from __future__ import annotations

from pgherd.catalog.model import GroupId, Table
from pgherd.catalog.text import array, call, literal
from pgherd.engine import abroad
from pgherd.engine.gather import with_rows
from pgherd.engine.link import Link, Params, Part
from pgherd.engine.work import Work, side_by_side
from pgherd.errors import SnapshotBusy
from pgherd.plan.plans import ReferenceWrite

TRIES = 3


async def reference_write(plan: ReferenceWrite, params: Params, work: Work) -> Part:
    """The same change in every group: the same text, or group 0's rows carried over. The answer is group 0's."""
    first = work.groups[0]
    link = (await abroad.branches(work, (first,), plan.reads, epoch=plan.epoch, write=True))[first]
    work = await entered(plan.table, work)
    if plan.mode == "image":
        return await _image(plan, params, work, link)
    answer = await link.part(plan.sql, params)
    await _in_others(plan.sql, params, work)
    return answer


async def entered(table: Table, work: Work) -> Work:
    """`work` with a map that knows all groups; none comes or goes until the transaction ends. Nothing was written yet.

    Raises SnapshotBusy if a REPEATABLE READ transaction is older than a group: what it writes there could come out differently.
    """
    for _ in range(TRIES):
        known = array((int(group) for group in work.groups), "integer")
        asked = call(
            "enter_reference", literal(table.schema), literal(table.name), known, str(work.map.coming_group)
        )
        rows = await (await work.tx.branch(work.groups[0])).run(f"{asked}::text")
        if rows[0][0] == "true":
            return work
        if work.tx.isolation != "read committed":
            break
        work = await work.renewed()
    raise SnapshotBusy("groups were added or removed meanwhile", hint="Run the transaction again.")


async def _in_others(sql: str, params: Params, work: Work) -> None:
    async def in_group(group: GroupId) -> None:
        await (await work.tx.branch(group)).part(sql, params)

    if len(work.groups) > 1:
        await side_by_side(work.groups[1:], in_group, limit=work.bounds.parallel)


async def _image(plan: ReferenceWrite, params: Params, work: Work, link: Link) -> Part:
    """Group 0 computes the rows once; the others take them as they are."""
    image = await link.texts(plan.image_sql, params)
    if image.rows:
        await _in_others(with_rows(plan.apply_sql, [image]), work.nothing, work)
    if not plan.returning:
        return Part(rows=[], tag=image.tag)
    answer = await link.part(with_rows(plan.returning, [image]), work.nothing)
    return Part(rows=answer.rows, tag=image.tag, columns=answer.columns)
