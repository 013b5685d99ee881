"""Writes to reference tables, which must come out the same in every group."""

from __future__ import annotations

import postgast
import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import Table
from pgherd.errors import Refused
from pgherd.plan import physical
from pgherd.plan.context import ZERO, Context
from pgherd.plan.plans import ReferenceWrite
from pgherd.plan.reader import read_tree
from pgherd.plan.scope import Scope
from pgherd.sql import functions
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import quote
from pgherd.sql.tree import Tree, find

_HINT = "Compute the values first and write them as constants or parameters."


def plan_reference(context: Context, tag: str) -> ReferenceWrite:
    """The same text everywhere if every group surely computes the same; else group 0's rows are carried over."""
    table = context.scope.writes[0].table
    assert table is not None
    rows = context.statement.kind == "select_stmt" or context.statement.tree.HasField("returning_clause")
    if _deterministic(context, table):
        return ReferenceWrite(
            why="the same write in every group", write=True, rows=rows, tag=tag, sql=context.text, table=table
        )
    if (
        context.statement.kind not in ("insert_stmt", "update_stmt", "delete_stmt")
        or len(context.scope.writes) > 1
    ):
        raise Refused("this write to a reference table may come out differently in each group", hint=_HINT)
    return _image(context, table, tag)


def _deterministic(context: Context, table: Table) -> bool:
    if any(one.kind not in ("reference", "derived") for one in context.scope.relations):
        return False
    if not context.same_everywhere or _limits(context.statement.tree):
        return False
    return all(_default_is_same(context, name, table) for name in _defaulted(context.statement.tree, table))


def _limits(tree: Tree) -> bool:
    return any(
        select.limit_count.WhichOneof("node") is not None or bool(select.distinct_clause)
        for select in find(tree, "SelectStmt")
    )


def _defaulted(tree: Tree, table: Table) -> list[str]:
    """Columns that may take their default in this statement."""
    inserts = list(find(tree, "InsertStmt"))
    if not inserts and not any(True for _ in find(tree, "SetToDefault")):
        return []
    if any(True for _ in find(tree, "SetToDefault")) or len(inserts) != 1:
        return [column.name for column in table.columns]
    given = {col.res_target.name for col in inserts[0].cols} or {column.name for column in table.columns}
    return [column.name for column in table.columns if column.name not in given]


def _default_is_same(context: Context, name: str, table: Table) -> bool:
    column = table.column(name)
    if column is None or column.generated:
        return True
    if column.cluster_id or column.always:
        return False
    if column.default is None:
        return True
    tree = parse(f"SELECT {column.default}")[0]
    scope = read_tree("select_stmt", tree.tree, context.cluster, context.path)
    return _scope_is_same(scope)


def _scope_is_same(scope: Scope) -> bool:
    return (
        not scope.time
        and not scope.relations
        and all(not schema and name in functions.SAME_EVERYWHERE for schema, name in scope.functions)
    )


# ---- images ----------------------------------------------------------------------------------------------------


def _image(context: Context, table: Table, tag: str) -> ReferenceWrite:
    columns = tuple(column.name for column in table.columns if not column.generated)
    keyed = _applied(context, table, columns)
    whole = any(one.kind == "distributed" for one in context.scope.relations)
    return ReferenceWrite(
        why="group 0 computes the rows, the others take them over", write=True, rows=_returns(context), tag=tag,
        sql=context.text, table=table, mode="image", image_sql=_returning_all(context, columns), image_columns=columns,
        apply_sql=keyed, returning=_returning(context, table, columns), reads=context.read_groups() if whole else (),
        epoch=context.cluster.epoch,
    )  # fmt: skip


def _returns(context: Context) -> bool:
    return context.statement.tree.HasField("returning_clause")


def _written(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{quote(own)} = p.{here}" for own, here in pairs)


def _applied(context: Context, table: Table, columns: tuple[str, ...]) -> str:
    """What the other groups do with group 0's rows, by primary key where rows existed before."""
    name = f"{quote(table.schema)}.{quote(table.name)}"
    numbered = {column: f"c{number}" for number, column in enumerate(columns, 1)}
    kind, tree = context.statement.kind, context.statement.tree
    same = " AND ".join(f"t.{quote(column)} = p.{numbered[column]}" for column in table.primary_key)
    rest = [(column, numbered[column]) for column in columns if column not in table.primary_key]
    if kind == "insert_stmt":
        names = ", ".join(map(quote, columns))
        insert = f"INSERT INTO {name} AS t ({names}) OVERRIDING SYSTEM VALUE SELECT {', '.join(numbered.values())} FROM {{rows}}"
        if tree.on_conflict_clause.action != pb.ONCONFLICT_UPDATE:
            return insert
        _need_key(table)
        assigned = ", ".join(f"{quote(one)} = EXCLUDED.{quote(one)}" for one, _ in rest) or _same_key(table)
        return f"{insert} ON CONFLICT ({', '.join(map(quote, table.primary_key))}) DO UPDATE SET {assigned}"
    _need_key(table)
    if kind == "delete_stmt":
        return f"DELETE FROM {name} AS t USING {{rows}} WHERE {same}"
    if any(node.res_target.name in table.primary_key for node in tree.target_list):
        raise Refused(
            "this change of a reference table's primary key may come out differently in each group",
            hint=_HINT,
        )
    return f"UPDATE {name} AS t SET {_written(rest)} FROM {{rows}} WHERE {same}"


def _same_key(table: Table) -> str:
    return ", ".join(f"{quote(one)} = EXCLUDED.{quote(one)}" for one in table.primary_key)


def _need_key(table: Table) -> None:
    if not table.primary_key:
        raise Refused(
            f"this write to reference table {table.name} may come out differently in each group, and it has no primary key",
            hint=f"Add a primary key to {table.name}, or write constants.",
        )


def _returning_all(context: Context, columns: tuple[str, ...]) -> str:
    """The statement with RETURNING all columns in place of its own RETURNING."""
    tree = context.statement.tree.__class__()
    tree.CopyFrom(context.statement.tree)
    physical.move(tree, context.scope, physical.everywhere(ZERO))
    target = tree.relation.alias.aliasname or tree.relation.relname
    tree.ClearField("returning_clause")
    returning = ", ".join(f"{quote(target)}.{quote(column)}" for column in columns)
    return f"{physical.written(context.statement.kind, tree)} RETURNING {returning}"


def _returning(context: Context, table: Table, columns: tuple[str, ...]) -> str:
    """The user's RETURNING list over `{rows}`, under the name that the statement gives the table."""
    tree = context.statement.tree
    if not tree.HasField("returning_clause"):
        return ""
    clause = tree.returning_clause
    names = {
        name
        for ref in find(clause, "ColumnRef")
        for name in [ref.fields[0].string.sval]
        if len(ref.fields) > 1
    }
    target = tree.relation.alias.aliasname or table.name
    if clause.options or names - {target} or any(True for _ in find(clause, "ParamRef")):
        raise Refused(
            "RETURNING of this write to a reference table is too involved", hint="Return plain columns."
        )
    result = pb.ParseResult()
    result.stmts.add().stmt.select_stmt.target_list.extend(clause.exprs)
    listed = ", ".join(f"p.c{number} AS {quote(column)}" for number, column in enumerate(columns, 1))
    return f"{postgast.deparse(result)} FROM (SELECT {listed} FROM {{rows}}) AS {quote(target)}"
