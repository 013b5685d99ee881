"""Writes to reference tables: group 0 first, whose row locks put all writers in one queue, then the other groups."""

from __future__ import annotations

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Params, Part
from pgherd.engine.work import Work, side_by_side
from pgherd.plan.plans import ReferenceWrite


async def reference_write(plan: ReferenceWrite, params: Params, work: Work) -> Part:
    """The same text in every group; the answer is group 0's."""
    first, *others = work.groups
    link = await work.tx.branch(first)
    answer = await link.part(plan.sql, params)

    async def in_group(group: GroupId) -> None:
        await (await work.tx.branch(group)).part(plan.sql, params)

    if others:
        await side_by_side(others, in_group, limit=work.bounds.parallel)
    return answer
