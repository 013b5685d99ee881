"""UPDATE that may change the shard key: the row is taken out of its shard and put into the one that its new key names."""

from __future__ import annotations

from typing import Any

import postgast
import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import Column, Table
from pgherd.errors import Refused
from pgherd.plan import physical
from pgherd.plan.context import Context
from pgherd.plan.plans import MoveRows, Text
from pgherd.plan.prune import bound_to, wanted
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import HOLE, quote
from pgherd.sql.tree import Tree, find

_HINT = "Delete the rows and insert them with their new key, in one transaction."


def plan_move(context: Context) -> MoveRows:
    """The UPDATE as DELETE ... RETURNING the new rows, and an INSERT to put VALUES behind."""
    target = context.scope.writes[0]
    table = target.table
    assert table is not None
    tree = context.statement.tree
    if context.statement.kind != "update_stmt" or context.needs_zero or context.touches_zero:
        raise Refused("this statement cannot change the shard key", hint=_HINT)
    if table.referenced:
        raise Refused(
            f"the shard key of {table.name} cannot be changed: foreign keys refer to the table",
            hint="Insert the row with its new key, point the referring rows at it, then delete the old row.",
        )
    columns = [column for column in table.columns if not column.generated]
    alias = tree.relation.alias.aliasname
    shown = f" AS {quote(alias)}" if alias else ""
    schema = physical.quoted_schema(HOLE, table.schema)
    put = f"INSERT INTO {schema}.{quote(table.name)}{shown} ({', '.join(quote(one.name) for one in columns)})"
    return MoveRows(
        why="the shard key changes: rows move to the shards that their new keys name", write=True,
        rows=tree.HasField("returning_clause"), tag="UPDATE", take=_take(context, table, columns),
        put=Text(pieces=tuple(put.split(HOLE))), columns=tuple(one.name for one in columns), table=table,
        shards=tuple(shard.id for shard in wanted(context.scope, target, context.cluster)),
        returning=_returning(tree, alias or table.name),
    )  # fmt: skip


def _take(context: Context, table: Table, columns: list[Column]) -> Text:
    source = context.statement.tree
    copy = source.__class__()
    copy.CopyFrom(source)
    target = context.scope.writes[0]
    colocated = {one.number for one in context.scope.distributed if bound_to(context.scope, one, target)}
    if any(one.kind == "distributed" and one.number not in colocated for one in context.scope.relations):
        raise Refused("an UPDATE that changes the shard key can join on the shard key only", hint=_HINT)
    physical.move(copy, context.scope, physical.in_shard)
    delete = pb.DeleteStmt()
    delete.relation.CopyFrom(copy.relation)
    delete.using_clause.extend(copy.from_clause)
    if copy.HasField("where_clause"):
        delete.where_clause.CopyFrom(copy.where_clause)
    if copy.HasField("with_clause"):
        delete.with_clause.CopyFrom(copy.with_clause)
    given = {node.res_target.name: node.res_target.val for node in copy.target_list}
    name = copy.relation.alias.aliasname or table.name
    for column in columns:
        delete.returning_clause.exprs.append(_new_value(column, given.get(column.name), name))
    return Text(pieces=tuple(physical.written("delete_stmt", delete).split(HOLE)))


def _new_value(column: Column, value: Tree | None, target: str) -> Any:
    if value is not None and value.HasField("multi_assign_ref"):
        raise Refused("SET (a, b) = ... cannot change the shard key", hint="Assign each column by itself.")
    if value is not None and value.HasField("set_to_default"):
        value = parse(f"SELECT {column.default or 'NULL'}")[0].tree.target_list[0].res_target.val
    if value is not None and column.always:
        raise Refused(
            f'column "{column.name}" can only be updated to DEFAULT', hint="It is GENERATED ALWAYS."
        )
    shape = f"SELECT CAST({quote(target)}.{quote(column.name)} AS {column.type}) AS {quote(column.name)}"
    node = pb.Node()
    node.CopyFrom(parse(shape)[0].tree.target_list[0])
    if value is not None:
        node.res_target.val.type_cast.arg.CopyFrom(value)
    else:
        plain = pb.Node()
        plain.CopyFrom(node.res_target.val.type_cast.arg)
        node.res_target.val.CopyFrom(plain)
    return node


def _returning(tree: Tree, target: str) -> str:
    if not tree.HasField("returning_clause"):
        return ""
    clause = tree.returning_clause
    names = {ref.fields[-2].string.sval for ref in find(clause, "ColumnRef") if len(ref.fields) > 1}
    if clause.options or names - {target} or any(True for _ in find(clause, "ParamRef")):
        raise Refused(
            "RETURNING of an UPDATE that changes the shard key is too involved", hint="Return plain columns."
        )
    result = pb.ParseResult()
    result.stmts.add().stmt.select_stmt.target_list.extend(clause.exprs)
    return "RETURNING " + postgast.deparse(result).removeprefix("SELECT ")
