"""Which definition is carried out how: one table of statement kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import postgast

from pgherd.catalog.ddl import alter, drops, objects, roles, tables, views
from pgherd.catalog.ddl.change import HOME, Change, begin, check_schema_name, name_of
from pgherd.catalog.ddl.tags import tag_of
from pgherd.catalog.model import ClusterMap
from pgherd.catalog.text import call, literal
from pgherd.engine.link import Workspace
from pgherd.errors import Refused
from pgherd.plan.plans import Ddl

Step = Callable[[Change], Awaitable[str | None]]
_objects = postgast.pg_query_pb2.ObjectType


def _object(tree_field: int) -> str:
    return _objects.Name(tree_field).removeprefix("OBJECT_")


async def apply(work: Workspace, plan: Ddl, cluster: ClusterMap, path: tuple[str, ...]) -> str:
    """Carry out a definition in the caller's distributed transaction; answers its command tag.

    `path`: the schemas that unqualified names are looked up in. Afterwards the caller's map may be stale: compare
    epochs (or load again) before planning the next statement, also inside the same transaction.
    Raises errors.Refused, errors.ReservedName, or whatever a server says; the transaction is then to be rolled back.
    """
    statement = plan.statement
    reason = _REFUSED.get(statement.kind)
    if reason is not None:
        raise Refused(reason[0], hint=reason[1])
    change = await begin(work, statement, cluster, path)
    step = _STEPS.get(statement.kind, objects.in_every_group)
    return await step(change) or tag_of(statement)


async def _alter_table(change: Change) -> None:
    match _object(change.tree.objtype):
        case "INDEX":
            await alter.alter_index(change)
        case "SEQUENCE":
            await objects.where_it_can_live(change)
        case "TYPE":
            await objects.in_every_group(change)
        case _:
            await alter.alter_table(change)


async def _rename(change: Change) -> None:
    tree = change.tree
    kind = _object(tree.rename_type)
    if kind in (
        "TABLE",
        "VIEW",
        "MATVIEW",
        "COLUMN",
        "TABCONSTRAINT",
        "TRIGGER",
        "POLICY",
        "INDEX",
    ) and tree.HasField("relation"):
        await _rename_of_relation(change, kind)
    elif kind == "SCHEMA":
        check_schema_name(tree.newname)
        if any(table.schema == tree.subname for table in change.cluster.tables.values()):
            raise Refused(
                "a schema that holds tables cannot be renamed",
                hint="Create the new schema and its tables, then copy the rows.",
            )
        await objects.in_every_group(change)
    elif kind == "ROLE":
        await roles.once_per_server(change)
    else:
        await objects.where_it_can_live(change)


async def _rename_of_relation(change: Change, kind: str) -> None:
    table = change.find(change.tree.relation)
    if kind == "INDEX" or (table is None and kind == "TABLE"):
        await alter.alter_index(change)
    elif table is None:
        await change.run_home(change.text)
    elif kind in ("TABLE", "VIEW", "MATVIEW"):
        await alter.rename_table(change, table)
    elif kind == "COLUMN":
        await alter.rename_column(change, table)
    elif table.kind == "distributed":
        await change.everywhere(change.text, *alter.sync_texts(table))
    else:
        await alter.on_table(change, table)


async def _set_schema(change: Change) -> None:
    tree = change.tree
    check_schema_name(tree.newschema)
    if tree.HasField("relation") and change.find(tree.relation) is not None:
        raise Refused(
            "SET SCHEMA is not supported for tables and views",
            hint="Create it in the other schema and copy the rows.",
        )
    await objects.where_it_can_live(change)


async def _sequence(change: Change) -> None:
    """A sequence counts on group 0. The other groups have one that is exhausted: defaults may name it, but it gives no second series."""
    tree = change.tree
    options = {node.def_elem.defname for node in tree.options}
    if tree.DESCRIPTOR.name == "AlterSeqStmt" and options != {"owned_by"}:
        await objects.on_home(change)
        return
    await objects.where_it_can_live(change)
    await change.elsewhere(call("exhaust", literal(name_of(tree.sequence))))


async def _refresh(change: Change) -> None:
    await change.run_home(change.text)


async def _rule(change: Change) -> None:
    table = change.find(change.tree.relation)
    if table is not None and table.kind in ("distributed", "reference"):
        raise Refused(
            f"a {table.kind} table cannot have rules",
            hint="Use a row trigger, or change the statement itself.",
        )
    await change.run_home(change.text)


async def _statistics(change: Change) -> None:
    found = [t for node in change.tree.relations if (t := change.find(node.range_var)) is not None]
    await alter.on_table(change, found[0] if found else None)


async def _default_privileges(change: Change) -> None:
    await objects.in_every_group(change)


async def _grant_role(change: Change) -> None:
    await roles.once_per_server(change)


async def _comment(change: Change) -> None:
    await change.run((HOME,), change.text)


_STEPS: Final[dict[str, Step]] = {
    "create_stmt": tables.create_table,
    "create_table_as_stmt": views.create_table_as,
    "alter_table_stmt": _alter_table,
    "rename_stmt": _rename,
    "drop_stmt": drops.drop,
    "index_stmt": alter.create_index,
    "reindex_stmt": alter.reindex,
    "view_stmt": views.create_view,
    "refresh_mat_view_stmt": _refresh,
    "create_trig_stmt": alter.create_trigger,
    "create_policy_stmt": alter.create_policy,
    "alter_policy_stmt": alter.create_policy,
    "rule_stmt": _rule,
    "create_stats_stmt": _statistics,
    "comment_stmt": _comment,
    "grant_stmt": objects.grant,
    "grant_role_stmt": _grant_role,
    "alter_default_privileges_stmt": _default_privileges,
    "create_seq_stmt": _sequence,
    "alter_seq_stmt": _sequence,
    "create_schema_stmt": objects.create_schema,
    "create_function_stmt": objects.create_function,
    "alter_function_stmt": objects.where_it_can_live,
    "create_cast_stmt": objects.where_it_can_live,
    "define_stmt": objects.where_it_can_live,
    "create_extension_stmt": objects.create_extension,
    "alter_extension_stmt": objects.create_extension,
    "create_role_stmt": roles.create_role,
    "alter_role_stmt": roles.alter_role,
    "alter_role_set_stmt": roles.alter_role_set,
    "drop_role_stmt": roles.drop_role,
    "alter_owner_stmt": objects.where_it_can_live,
    "alter_object_schema_stmt": _set_schema,
    "alter_object_depends_stmt": objects.where_it_can_live,
    "do_stmt": objects.do_block,
    "sec_label_stmt": _comment,
}

_ONE_DATABASE = (
    "pgherd is one database; each group's own is named by pgherd. Use schemas, or a cluster of its own."
)
_OUTSIDE = "Set it for all servers from outside: pgherd keeps them alike."
_REFUSED: Final = {
    "createdb_stmt": ("CREATE DATABASE is not supported", _ONE_DATABASE),
    "dropdb_stmt": ("DROP DATABASE is not supported", _ONE_DATABASE),
    "alter_database_stmt": ("ALTER DATABASE is not supported", _ONE_DATABASE),
    "alter_database_set_stmt": ("ALTER DATABASE is not supported", "Use ALTER ROLE ... SET, or SET in the session."),
    "alter_database_refresh_coll_stmt": ("ALTER DATABASE is not supported", _ONE_DATABASE),
    "alter_system_stmt": ("ALTER SYSTEM is not supported", _OUTSIDE),
    "create_table_space_stmt": ("tablespaces are not supported", _OUTSIDE),
    "drop_table_space_stmt": ("tablespaces are not supported", _OUTSIDE),
    "alter_table_space_options_stmt": ("tablespaces are not supported", _OUTSIDE),
    "alter_table_move_all_stmt": ("tablespaces are not supported", _OUTSIDE),
    "create_fdw_stmt": ("foreign data wrappers are not supported", "pgherd's own foreign servers join the groups."),
    "alter_fdw_stmt": ("foreign data wrappers are not supported", "pgherd's own foreign servers join the groups."),
    "create_foreign_server_stmt": ("foreign servers are not supported", "pgherd's own foreign servers join the groups."),
    "alter_foreign_server_stmt": ("foreign servers are not supported", "pgherd's own foreign servers join the groups."),
    "create_user_mapping_stmt": ("user mappings are not supported", "pgherd makes them for every role that may log in."),
    "alter_user_mapping_stmt": ("user mappings are not supported", "pgherd makes them for every role that may log in."),
    "drop_user_mapping_stmt": ("user mappings are not supported", "pgherd makes them for every role that may log in."),
    "create_foreign_table_stmt": ("foreign tables are not supported", "Copy the rows in: COPY, or INSERT."),
    "import_foreign_schema_stmt": ("foreign tables are not supported", "Copy the rows in: COPY, or INSERT."),
    "create_publication_stmt": ("publications are not supported", "Replicate from the groups' servers themselves."),
    "alter_publication_stmt": ("publications are not supported", "Replicate from the groups' servers themselves."),
    "create_subscription_stmt": ("subscriptions are not supported", "Load the rows with COPY."),
    "alter_subscription_stmt": ("subscriptions are not supported", "Load the rows with COPY."),
    "drop_subscription_stmt": ("subscriptions are not supported", "Load the rows with COPY."),
    "create_event_trig_stmt": ("event triggers are not supported", "pgherd's own definitions would set them off in every group."),
    "alter_event_trig_stmt": ("event triggers are not supported", "pgherd's own definitions would set them off in every group."),
    "drop_owned_stmt": ("DROP OWNED is not supported", "Drop the objects by name."),
    "reassign_owned_stmt": ("REASSIGN OWNED is not supported", "Use ALTER ... OWNER TO for each object."),
}  # fmt: skip
