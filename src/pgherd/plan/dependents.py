"""GROUP BY a primary key lets PostgreSQL return the table's other columns; over `here.*` and `global.*`, where there is no
primary key, those columns must be grouped by as well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.plan import physical
from pgherd.plan.context import Context
from pgherd.plan.naming import resolve
from pgherd.plan.reader import read, read_tree
from pgherd.plan.scope import Level, Relation, Vertex
from pgherd.sql.parse import parse
from pgherd.sql.tree import find


def with_dependents(context: Context) -> Context:
    """The statement with such columns added to its GROUP BYs; the same context if there are none."""
    if context.statement.kind != "select_stmt":
        return context
    levels = {id(one.level): one.level for one in context.scope.distributed}.values()
    if not any(_missing(level) for level in levels):
        return context
    tree = pb.SelectStmt()
    tree.CopyFrom(context.statement.tree)
    scope = read_tree("select_stmt", tree, context.cluster, context.path)
    for level in {id(one.level): one.level for one in scope.distributed}.values():
        for relation, column in _missing(level):
            level.tree.group_clause.append(_column(relation, column))
    try:
        statement = parse(physical.written("select_stmt", tree))[0]
    except physical.Unfaithful:
        return context
    return replace(context, statement=statement, scope=read(statement, context.cluster, context.path))


def _missing(level: Level) -> list[tuple[Relation, str]]:
    """Columns that the level uses and that depend on the primary keys it groups by."""
    tree = level.tree
    if tree is None or not hasattr(tree, "group_clause") or not tree.group_clause:
        return []
    grouped = {
        resolve(node.column_ref, level) for node in tree.group_clause if node.HasField("column_ref")
    } | {_by_position(node, level) for node in tree.group_clause if node.HasField("a_const")}
    found: dict[tuple[int, str], tuple[Relation, str]] = {}
    for relation in level.relations:
        table = relation.table
        if table is None or relation.kind != "distributed" or not table.primary_key:
            continue
        if not all(Vertex(relation.number, name) in grouped for name in table.primary_key):
            continue
        for vertex in _used(level, relation):
            if vertex.relation == relation.number and vertex not in grouped:
                found[relation.number, vertex.column] = (relation, vertex.column)
    return list(found.values())


def _by_position(node: Any, level: Level) -> Vertex | None:
    at = node.a_const.ival.ival
    targets = level.tree.target_list
    if not node.a_const.HasField("ival") or not 1 <= at <= len(targets):
        return None
    value = targets[at - 1].res_target.val
    return resolve(value.column_ref, level) if value.HasField("column_ref") else None


def _used(level: Level, relation: Relation) -> list[Vertex]:
    tree = level.tree
    found: list[Vertex] = []
    for node in (*tree.target_list, tree.having_clause, *tree.sort_clause):
        for ref in find(node, "ColumnRef"):
            if ref.fields[-1].HasField("a_star"):
                names = [one.string.sval for one in ref.fields[:-1]]
                if not names or names[-1] == relation.name:
                    table = relation.table
                    found += [Vertex(relation.number, one.name) for one in (table.columns if table else ())]
            elif (vertex := resolve(ref, level)) is not None:
                found.append(vertex)
    return found


def _column(relation: Relation, column: str) -> Any:
    visible = column
    if relation.renamed is not None:
        visible = next((shown for shown, own in relation.renamed.items() if own == column), column)
    node = pb.Node()
    for name in (relation.name, visible):
        node.column_ref.fields.add().string.sval = name
    return node
