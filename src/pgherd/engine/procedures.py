"""What pgherd itself answers: CALL pgherd.x(...), SELECT pgherd.x(...); and definitions (DDL)."""

from __future__ import annotations

from pgherd.engine.link import Params, Part
from pgherd.engine.work import Work
from pgherd.errors import Refused
from pgherd.plan.plans import Call, Ddl


async def define(plan: Ddl, work: Work) -> Part:
    """A definition on every group, and the shards' tables after it."""
    raise Refused("DDL is not there yet")


async def call(plan: Call, params: Params, work: Work) -> Part:
    """An admin procedure or function."""
    raise Refused("procedures are not there yet")
