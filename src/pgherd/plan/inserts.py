"""INSERT into a distributed table: rows divided by key, a query run shard by shard, or its rows divided."""

from __future__ import annotations

import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import Table
from pgherd.errors import GeneratedAlways, Refused
from pgherd.plan.context import Context
from pgherd.plan.insert_queries import plan_insert_select
from pgherd.plan.plans import (
    AnyPlan,
)
from pgherd.plan.rows import Division, TooManyValues, columns_of, target_of
from pgherd.plan.scope import Relation, Vertex
from pgherd.sql.tree import Tree

_HINT = "Write it as several statements in one transaction."


def must_divide(context: Context) -> bool:
    """Whether a row's key, or another value in it, must be found before the row can be sent anywhere."""
    tree = context.statement.tree
    table = target_of(context)
    _check_generated(tree, table)
    if not tree.HasField("select_stmt"):
        return True
    select = tree.select_stmt.select_stmt
    if not select.values_lists:
        return False
    if context.needs_zero or tree.override == pb.OVERRIDING_USER_VALUE:
        return True
    count = len(select.values_lists[0].list.items)
    if any(len(row.list.items) != count for row in select.values_lists):
        raise TooManyValues("VALUES lists must all be the same length")
    columns = columns_of(tree, table, count)
    at = [columns.index(name) if name in columns else -1 for name in table.key]
    if -1 in at:
        return True
    return any(
        row.list.items[index].WhichOneof("node") in ("set_to_default", "func_call", "sqlvalue_function")
        for row in select.values_lists
        for index in at
    )


def plan_insert(context: Context) -> AnyPlan:
    """An INSERT that is not bound to one shard as it stands."""
    tree = context.statement.tree
    _check_conflict(context)
    if not tree.HasField("select_stmt") or tree.select_stmt.select_stmt.values_lists:
        if tree.HasField("with_clause") or tree.select_stmt.select_stmt.HasField("with_clause"):
            raise Refused("INSERT ... VALUES with a WITH clause must stay within one shard", hint=_HINT)
        return Division(context).plan()
    return plan_insert_select(context)


def _check_generated(tree: Tree, table: Table) -> None:
    """The shards' columns are plain: that a GENERATED ALWAYS column takes no value is checked here."""
    if tree.override != pb.OVERRIDING_NOT_SET:
        return
    always = {column.name for column in table.columns if column.always}
    if not always or not tree.HasField("select_stmt"):
        return
    rows = tree.select_stmt.select_stmt.values_lists
    named = [col.res_target.name for col in tree.cols] or [column.name for column in table.columns]
    for at, name in enumerate(named):
        if name not in always:
            continue
        given = any(
            at < len(row.list.items) and row.list.items[at].WhichOneof("node") != "set_to_default"
            for row in rows
        )
        if given or (not rows and bool(tree.cols)):
            raise GeneratedAlways(
                f'cannot insert a non-DEFAULT value into column "{name}"',
                detail=f'Column "{name}" is an identity column defined as GENERATED ALWAYS.',
                hint="Use OVERRIDING SYSTEM VALUE to override.",
            )


def _check_conflict(context: Context) -> None:
    for target, column, edges in context.scope.key_updates:
        own = Vertex(target.number, column)
        if not any(
            end == own
            for edge in edges
            if isinstance(edge, Vertex)
            for end in context.scope.reach(edge, _type(target, column))
        ):
            raise Refused(
                "ON CONFLICT DO UPDATE cannot change the shard key",
                hint="Delete the row and insert it with its new key.",
            )


def _type(target: Relation, column: str) -> str:
    found = target.table.column(column) if target.table is not None else None
    return found.type if found is not None else ""
