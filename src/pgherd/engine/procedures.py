"""What pgherd itself answers: CALL pgherd.x(...), SELECT pgherd.x(...); and definitions (DDL)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from pgherd.catalog import admin, ddl
from pgherd.engine.link import Params, Part
from pgherd.engine.work import Work, answer
from pgherd.errors import GroupsChanged, Refused
from pgherd.plan.plans import Call, Const, Ddl, Param
from pgherd.transaction import recovery

Answer = Callable[[Call, Params, Work], Awaitable[Part]]


async def define(plan: Ddl, work: Work) -> Part:
    """A definition on every group, and the shards' tables after it."""
    try:
        tag = await ddl.apply(work, plan, work.map, work.path)
    except GroupsChanged:  # found out before anything was done
        work = await work.renewed()
        tag = await ddl.apply(work, plan, work.map, work.path)
    return Part(rows=[], tag=tag)


async def call(plan: Call, params: Params, work: Work) -> Part:
    """An admin procedure, or a function that gateway and client answer."""
    own = _ANSWERED.get(plan.name)
    if own is not None:
        return await own(plan, params, work)
    types = admin.argument_types(plan)
    args = [
        await argument_text(source, params, work, kind)
        for source, kind in zip(plan.args, types, strict=False)
    ]
    named = {
        name: await argument_text(source, params, work, admin.type_of(name)) for name, source in plan.named
    }
    try:
        await admin.call(work, plan.name, args, named, work.map, work.path)
    except GroupsChanged:
        work = await work.renewed()
        await admin.call(work, plan.name, args, named, work.map, work.path)
    return Part(rows=[], tag=plan.tag)


async def argument_text(source: Param | Const, params: Params, work: Work, kind: str = "text") -> str | None:
    """An argument in text form; None is NULL. `kind`: the type that a parameter has unless the client says another one."""
    if isinstance(source, Const):
        return source.text
    link = await work.tx.branch(work.somewhere, write=False)
    return (await link.texts(f"SELECT $1::{kind}::text", params.select((source.number,)))).rows[0][0]


async def _transaction_id(plan: Call, params: Params, work: Work) -> Part:
    """SELECT pgherd.transaction_id(): from now on its outcome can be asked for."""
    return await answer(work, [(plan.column, "text")], [(await work.tx.announce(),)], "SELECT 1")


async def _transaction_status(plan: Call, params: Params, work: Work) -> Part:
    """SELECT * FROM pgherd.transaction_status('id')."""
    if len(plan.args) != 1:
        raise Refused("transaction_status takes one argument: a transaction's id")
    text = await argument_text(plan.args[0], params, work)
    status = await recovery.status(work.tx.lender, work.groups, text or "")
    return await answer(work, [(plan.column, "text")], [(status,)], "SELECT 1")


_ANSWERED: Final[dict[str, Answer]] = {
    "transaction_id": _transaction_id,
    "transaction_status": _transaction_status,
}
