"""Outside a transaction: what a client refuses, and what it sends straight to one group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.catalog.text import identifier
from pgherd.client.held import Held
from pgherd.client.link import PythonParams, server_error
from pgherd.client.losses import ENDED, LOST, UNSENT, doubtful, undone, unknown
from pgherd.client.options import quiet
from pgherd.client.queries import Want
from pgherd.engine.link import Part
from pgherd.engine.metering import Due
from pgherd.engine.plans_cache import PlanCache, Planned
from pgherd.engine.route import locate
from pgherd.errors import GroupDown, Refused
from pgherd.plan import planner
from pgherd.plan.plans import (
    AnyPlan,
    Call,
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
    if isinstance(plan, SetVariable) and plan.name.startswith("pgherd."):
        raise Refused(
            f"{plan.name} is a setting of gateways' sessions: a client would not follow it",
            hint="Give what this process wants to pgherd.connect (read=, region=, zone=), or read= to a call.",
        )
    if isinstance(plan, SetVariable) and plan.name == "client_min_messages" and quiet(plan.value):
        raise Refused("warnings say whether a commit is safe", hint="Set it to warning at most.")
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
    found = place(db, plan, query, args)
    if found is None:
        return None
    due = None
    if isinstance(plan, Single):
        due = db.meter.due(plan, PythonParams(args), db.map.keyspaces[plan.keyspace])
    return await on_group(db, found[0], found[1], args, want, write=plan.write, due=due)


def place(
    db: Database, plan: Single | OneGroup, query: str, args: Sequence[Any]
) -> tuple[GroupId, str] | None:
    """The group and the text of a statement of one group. None: its key must be asked of a server first."""
    if isinstance(plan, OneGroup):
        return db.anywhere() if plan.group is None else plan.group, plan.sql
    try:
        shard = locate(plan, PythonParams(args), db.map.keyspaces[plan.keyspace])
    except keys.Undecodable:
        return None
    db.remember(query, plan)
    return shard.group, plan.text.for_shard(shard.id)


async def on_group(
    db: Database,
    group: GroupId,
    text: str,
    args: Sequence[Any],
    want: Want,
    *,
    write: bool,
    due: Due | None = None,
) -> Part:
    """One statement on one of a group's connections. A lost connection is replaced if nothing can be done twice. `due`: it is timed.

    Raises GroupDown if it was surely not done, OutcomeUnknown if a write may have been.
    """
    pool = db.pools[group]
    for last in (False, False, True):
        held = await pool.wait()
        try:
            sample = db.meter.begin(*due) if due is not None else None
            part = await on_held(held, text, args, want)
            if sample is not None:
                db.meter.end(sample)
            if held.doubted:
                raise doubtful(group)
            if write or held.sure or await pool.stands(held):
                return part
        except (*ENDED, *LOST) as error:
            if not (held.lost or isinstance(error, (*ENDED, asyncpg.PostgresConnectionError))):
                raise
            held.dirty = True
            db.follow.suspect(group)
            simple = want == "tag" and not args
            if write and not isinstance(error, UNSENT) and (simple or not undone(error)):
                raise unknown(group) from error
            if last:
                raise GroupDown(f"the connection to group {group} was lost: {error}") from error
        except asyncpg.PostgresError as error:
            raise server_error(error) from error
        finally:
            pool.give(held)
    raise GroupDown(f"group {group} changed its primary again and again")


async def answer(db: Database, plan: Call, text: str, want: Want) -> Part:
    """What this process answers itself, as a server's row."""
    sql = f"SELECT $1::text AS {identifier(plan.column)}"
    return await on_group(db, db.anywhere(), sql, (text,), want, write=False)


async def on_held(held: Held, text: str, args: Sequence[Any], want: Want) -> Part:
    """One statement on one connection. Raises asyncpg's errors."""
    if want == "tag" and not args:
        return Part(rows=[], tag=await held.connection.execute(text))
    for last in (False, True):
        try:
            statement = await held.prepared(text)
        except LOST as error:
            if not held.lost:
                raise
            raise asyncpg.InterfaceError("the connection was lost before the statement was sent") from error
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
