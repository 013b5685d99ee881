"""Carries out every plan that is more than bytes to pass on, inside a transaction that the caller ends.

One function for each kind of plan, in the sibling modules; this page only says which. What a session answers itself (BEGIN,
SET, PREPARE, cursors ...) never comes here, and COPY streams have functions of their own in `copying`.
"""

from __future__ import annotations

from pgherd.engine import abroad
from pgherd.engine.explain import explain
from pgherd.engine.gather import federated, gather
from pgherd.engine.inserts import insert_rows, insert_select
from pgherd.engine.link import Params, Part
from pgherd.engine.procedures import call, define
from pgherd.engine.references import reference_write
from pgherd.engine.route import locate_slowly
from pgherd.engine.scatter import move_rows, on_all, scatter
from pgherd.engine.supplies import supply
from pgherd.engine.work import Work
from pgherd.errors import Refused
from pgherd.plan.plans import (
    AnyPlan,
    Call,
    Ddl,
    Empty,
    Explain,
    Federated,
    Gather,
    InsertRows,
    InsertSelect,
    MoveRows,
    OnAll,
    OneGroup,
    ReferenceWrite,
    Scatter,
    SetVariable,
    Show,
    Single,
    Supplied,
)
from pgherd.transaction import moved


async def execute(plan: AnyPlan, params: Params, work: Work) -> Part:
    """Carry out `plan`. Raises StaleMap or a ServerError for which `stale.is_stale` holds if the map is old."""
    match plan:
        case Single():
            return await single(plan, params, work)
        case OneGroup():
            return await one_group(plan, params, work)
        case Gather():
            return await gather(plan, params, work)
        case Federated():
            return await federated(plan, params, work)
        case Scatter():
            return await scatter(plan, params, work)
        case InsertRows():
            return await insert_rows(plan, params, work)
        case InsertSelect():
            return await insert_select(plan, params, work)
        case MoveRows():
            return await move_rows(plan, params, work)
        case ReferenceWrite():
            return await reference_write(plan, params, work)
        case OnAll():
            return await on_all(plan, params, work)
        case _:
            return await _seldom(plan, params, work)


async def _seldom(plan: AnyPlan, params: Params, work: Work) -> Part:
    match plan:
        case Supplied():
            return await execute(await supply(plan, params, work), params.select(plan.numbers), work)
        case Explain():
            return await explain(plan, params, work)
        case Ddl():
            return await define(plan, work)
        case Call():
            return await call(plan, params, work)
        case Show():
            link = await work.tx.branch(work.somewhere, write=False)
            return await link.part(plan.sql, params)
        case SetVariable(local=True):
            return await set_local(plan, params, work)
        case Empty():
            return Part(rows=[], tag="")
        case _:
            raise Refused(f"{type(plan).__name__.upper()} is answered by a session, not by the executor")


async def single(plan: Single, params: Params, work: Work) -> Part:
    """One shard."""
    keyspace, meter = work.map.keyspaces[plan.keyspace], work.meter
    shard = await locate_slowly(plan, params, keyspace, work)
    await moved.hold(work.tx, shard.group, shard.id)
    link = await work.tx.branch(shard.group, write=plan.write)
    due = meter.due(plan, params, keyspace) if meter is not None else None
    sample = meter.begin(*due) if meter is not None and due is not None else None
    part = await link.part(plan.text.for_shard(shard.id), params)
    if meter is not None and sample is not None:
        meter.end(sample)
    return part


async def one_group(plan: OneGroup, params: Params, work: Work) -> Part:
    """One group."""
    group = work.somewhere if plan.group is None else plan.group
    link = (await abroad.branches(work, (group,), plan.reads, epoch=plan.epoch, write=plan.write))[group]
    return await link.part(plan.sql, params)


async def set_local(plan: SetVariable, params: Params, work: Work) -> Part:
    """SET LOCAL, in every group: the transaction may touch any of them later."""
    part = Part(rows=[], tag="SET")
    for group in work.groups:
        part = await (await work.tx.branch(group, write=False)).part(plan.sql, params)
    return part
