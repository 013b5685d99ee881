"""Outside a transaction: what a client refuses, and what it sends straight to one group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.client.held import Held
from pgherd.client.link import ENDED, LOST, UNSENT, PythonParams, server_error
from pgherd.client.queries import Want
from pgherd.engine.link import Part
from pgherd.engine.plans_cache import PlanCache, Planned
from pgherd.engine.route import locate
from pgherd.errors import GroupDown, OutcomeUnknown, Refused
from pgherd.plan import planner
from pgherd.plan.plans import (
    AnyPlan,
    Control,
    Deallocate,
    Declare,
    Discard,
    Execute,
    Fetch,
    OnAll,
    OneGroup,
    Prepare,
    SetVariable,
    Single,
)
from pgherd.sql import parse

if TYPE_CHECKING:
    from pgherd.client.database import Database

as_server_error = server_error


def planned(sql: str, path: tuple[str, ...], map_: ClusterMap) -> tuple[Planned, ...]:
    """Every statement of a text with its plan."""
    return tuple((statement, planner.plan(statement, map_, path)) for statement in parse.parse(sql))


def one(plans: PlanCache, query: str, path: tuple[str, ...]) -> AnyPlan:
    """The plan of a text's only statement."""
    try:
        return plans.get(query, path)[1]
    except ValueError as error:
        raise asyncpg.PostgresSyntaxError(str(error)) from error


def check(plan: AnyPlan, *, in_transaction: bool) -> None:
    """Refuse what would leave a state behind on one of many connections. Raises Refused."""
    if isinstance(plan, Control):
        raise Refused(
            f"{plan.action.upper()} as a statement is refused", hint="Use `async with db.transaction():`."
        )
    if isinstance(plan, SetVariable) and not (plan.local and in_transaction):
        raise Refused(
            f"SET {plan.name} would change one of many shared connections",
            hint="Give server_settings to pgherd.connect, or use SET LOCAL inside a transaction.",
        )
    if isinstance(plan, Prepare | Execute | Deallocate):
        raise Refused(
            "prepared statements by SQL are refused",
            hint="Just call fetch: every statement is prepared and kept.",
        )
    if isinstance(plan, Declare | Fetch):
        raise Refused(
            "cursors by SQL are refused", hint="Use `async for row in db.cursor(...)` inside a transaction."
        )
    if isinstance(plan, Discard) or (plan.pin and not in_transaction):
        raise Refused(
            "this statement leaves state on its connection, and connections are shared",
            hint="Use a connection of your own: asyncpg.connect to the gateway.",
        )


async def straight(
    db: Database, plan: Single | OneGroup, query: str, args: Sequence[Any], want: Want
) -> Part | None:
    """Run a statement of one group outside any transaction. None: its key must be asked of a server first."""
    if isinstance(plan, Single):
        try:
            keyspace = db.map.keyspaces[plan.keyspace]
            shard = locate(plan, PythonParams(args), keyspace)
        except keys.Undecodable:
            return None
        group, text = shard.group, plan.text.for_shard(shard.id)
        db.remember(query, plan)
    else:
        group, text = plan.group, plan.sql
        if group is None:
            group = db.anywhere()
    return await on_group(db, group, text, args, want, write=plan.write)


async def on_group(
    db: Database, group: GroupId, text: str, args: Sequence[Any], want: Want, *, write: bool
) -> Part:
    """One statement on one of a group's connections. A lost connection is replaced if nothing can be done twice."""
    pool = db.pools[group]
    for last in (False, False, True):
        held = await pool.wait()
        try:
            return await _on_held(held, text, args, want)
        except (*ENDED, *LOST) as error:
            if not (held.lost or isinstance(error, (*ENDED, asyncpg.PostgresConnectionError))):
                raise
            held.dirty = True
            if write and not isinstance(error, UNSENT):
                raise _unknown(group) from error
            if last:
                raise GroupDown(f"the connection to group {group} was lost: {error}") from error
        except asyncpg.PostgresError as error:
            raise server_error(error) from error
        finally:
            pool.give(held)
    raise AssertionError("unreachable")


def _unknown(group: GroupId) -> OutcomeUnknown:
    return OutcomeUnknown(f"the connection to group {group} was lost during a statement that writes")


async def _on_held(held: Held, text: str, args: Sequence[Any], want: Want) -> Part:
    if want == "tag" and not args:
        return Part(rows=[], tag=await held.connection.execute(text))
    for last in (False, True):
        statement = await held.prepared(text)
        try:
            if want == "row":
                row = await statement.fetchrow(*args)
                return Part(rows=[] if row is None else [row], tag="")
            rows = await statement.fetch(*args)
            return Part(rows=rows, tag=statement.get_statusmsg())
        except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
            held.statements.clear()
            if last:
                raise
    raise AssertionError("unreachable")


async def everywhere(db: Database, plan: AnyPlan) -> Part:
    """A statement that PostgreSQL forbids inside a transaction (VACUUM ...), group after group."""
    if not isinstance(plan, OnAll | OneGroup):
        raise Refused("this statement cannot run outside a transaction", hint="Run it on each node.")
    texts = plan.sql if isinstance(plan, OnAll) else ((plan.group or GroupId(0), plan.sql),)
    part = Part(rows=[], tag="")
    for group, text in texts:
        part = await on_group(db, group, text, (), "tag", write=False)
    return part
