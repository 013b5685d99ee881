"""The planner: a statement and the cluster map in, one plan out. Pure and deterministic.

Each kind of statement has its own module; this one only says which.
"""

from __future__ import annotations

from pgherd.catalog.model import ClusterMap
from pgherd.errors import Refused
from pgherd.plan import copies, keyspace_settings, maintenance, physical, reads, session, writes
from pgherd.plan.context import ZERO, Context
from pgherd.plan.plans import AnyPlan, Ddl, OneGroup
from pgherd.plan.reader import read
from pgherd.sql.statement import Statement

_DATA = frozenset({"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})
_ALONE = {
    "transaction_stmt": session.transaction,
    "variable_set_stmt": session.set_variable,
    "variable_show_stmt": session.show,
    "discard_stmt": session.discard,
    "prepare_stmt": session.prepare,
    "execute_stmt": session.execute,
    "deallocate_stmt": session.deallocate,
    "fetch_stmt": session.fetch,
    "close_portal_stmt": session.close,
    "call_stmt": session.call,
}
_WITH_MAP = {
    "truncate_stmt": maintenance.truncate,
    "vacuum_stmt": maintenance.vacuum,
    "lock_stmt": maintenance.lock,
    "check_point_stmt": maintenance.everywhere,
    "constraints_set_stmt": maintenance.everywhere,
    "create_table_as_stmt": maintenance.create_table_as,
    "refresh_mat_view_stmt": maintenance.refresh,
    "listen_stmt": maintenance.listen,
    "unlisten_stmt": maintenance.listen,
    "notify_stmt": maintenance.listen,
    "do_stmt": maintenance.do_block,
}
_ELSEWHERE = {
    "createdb_stmt": "CREATE DATABASE",
    "dropdb_stmt": "DROP DATABASE",
    "alter_system_stmt": "ALTER SYSTEM",
    "create_table_space_stmt": "CREATE TABLESPACE",
    "drop_table_space_stmt": "DROP TABLESPACE",
    "load_stmt": "LOAD",
    "create_subscription_stmt": "CREATE SUBSCRIPTION",
    "alter_subscription_stmt": "ALTER SUBSCRIPTION",
    "drop_subscription_stmt": "DROP SUBSCRIPTION",
}


def plan(
    statement: Statement,
    cluster: ClusterMap,
    path: tuple[str, ...] = ("public",),
    param_types: tuple[int, ...] = (),
) -> AnyPlan:
    """How `statement` is carried out at the map's epoch.

    `path` is the search path without pg_catalog; `param_types` the parameters' type OIDs as far as the client gave them (0: not
    said). Raises errors.Refused, with a hint, for what pgherd does not do, and errors.NullKey, NoShard or BadKey for
    constants that no shard takes.
    """
    kind = statement.kind
    if kind in _DATA:
        return _plan_data(statement, cluster, path, param_types)
    alone = _ALONE.get(kind)
    if alone is not None:
        return alone(statement)
    with_map = _WITH_MAP.get(kind)
    if with_map is not None:
        return with_map(statement, cluster, path)

    def inner(found: Statement) -> AnyPlan:
        return plan(found, cluster, path, param_types)

    match kind:
        case "explain_stmt":
            return session.explain(statement, inner)
        case "declare_cursor_stmt":
            return session.declare(statement, inner)
        case "copy_stmt":
            return copies.plan_copy(statement, cluster, path, inner)
        case _:
            return _definition(statement)


def _plan_data(
    statement: Statement, cluster: ClusterMap, path: tuple[str, ...], param_types: tuple[int, ...]
) -> AnyPlan:
    if statement.kind == "select_stmt":
        special = session.special_select(statement)
        if special is not None:
            return special
    scope = read(statement, cluster, path)
    context = Context(statement, cluster, path, param_types, scope)
    if scope.into:
        return maintenance.create_table_as(statement, cluster, path)
    if scope.writes:
        try:
            return writes.plan_write(context)
        except physical.Unfaithful as error:
            raise Refused(
                "this write over several groups is too involved", hint="Write it in plainer SQL."
            ) from error
    return reads.plan_select(context)


def _definition(statement: Statement) -> AnyPlan:
    keyspace_settings.check(statement)
    if statement.kind == "alter_table_stmt":
        changes = keyspace_settings.changes(statement)
        if changes is not None:
            return changes
    if statement.kind in _ELSEWHERE:
        raise Refused(
            f"{_ELSEWHERE[statement.kind]} is not available through pgherd",
            hint="It concerns one server: connect to that server itself.",
        )
    if statement.kind in ("create_stmt", "view_stmt", "create_seq_stmt"):
        relation = (
            statement.tree.view
            if statement.kind == "view_stmt"
            else (statement.tree.relation if statement.kind == "create_stmt" else statement.tree.sequence)
        )
        if relation.relpersistence == "t" or relation.schemaname == "pg_temp":
            return OneGroup(
                why="temporary: on the session's own connection to group 0", write=True, pin=True, rows=False,
                tag="CREATE", sql=statement.text, group=ZERO,
            )  # fmt: skip
    return Ddl(
        why="a definition: carried out in every group", write=True, rows=False, tag="", statement=statement
    )
