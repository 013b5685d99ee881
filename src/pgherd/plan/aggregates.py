"""Partial aggregates: each arm aggregates its own rows, PostgreSQL aggregates the arms' results.

Only aggregates whose parts combine to exactly what PostgreSQL would print are split: count, sum, avg, min, max, boolean
and bit aggregates. `sum` of floating-point numbers depends on the order of rows, here as in PostgreSQL.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.plan import combining, physical
from pgherd.plan.combining import Check, NotGathered, arm_column, expression, key_of
from pgherd.plan.context import Context
from pgherd.plan.naming import resolve
from pgherd.plan.plans import Gather
from pgherd.plan.scope import Level, Scope, Vertex
from pgherd.sql import functions
from pgherd.sql.tree import Tree, children, find, strings

_SAME = frozenset({"min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "any_value"})
_EXACT = frozenset({"smallint", "integer", "bigint", "numeric", "double precision", "interval"})
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})


def plan_partial(context: Context, level: Level, arm: Any, base: Gather, check: Check) -> Gather:
    """The Gather for an aggregating SELECT; `check` completes its arm. Raises NotGathered."""
    source = context.statement.tree
    combining.no_subqueries(*source.target_list, source.having_clause, *source.sort_clause)
    partial = _Partial(context.scope, level, source, arm)
    combine = partial.combine()
    partial.finish_arm()
    if not arm.target_list:
        raise NotGathered
    check(arm)
    combine_params = combining.numbers_in(combine)
    combining.renumbered(combine, combine_params)
    arm_params = combining.numbers_in(arm)
    uses_all = arm_params == tuple(sorted(context.scope.parameters))
    if not uses_all:
        combining.renumbered(arm, arm_params)
    return replace(
        base,
        why="each group aggregates its own shards; their results are aggregated again",
        arm=physical.written("select_stmt", arm),
        combine=combining.written(combine),
        combine_params=combine_params,
        arm_params=None if uses_all else arm_params,
    )


class _Partial:
    """An aggregating SELECT being taken apart: `_columns` are the arm's, found again by what they compute."""

    def __init__(self, scope: Scope, level: Level, source: Tree, arm: Any) -> None:
        self._scope = scope
        self._level = level
        self._source = source
        self._arm = arm
        self._columns: dict[bytes, int] = {}
        self._nodes: list[Any] = []
        self._groups: list[tuple[Any, bytes, Vertex | None, int]] = []
        for node in arm.group_clause:
            whole = self._group_expression(node)
            number = self._column(whole)
            self._groups.append((whole, key_of(whole), self._vertex(whole), number))

    def combine(self) -> Any:
        """The combining SelectStmt."""
        source, arm = self._source, self._arm
        combine = pb.SelectStmt(op=pb.SETOP_NONE, limit_option=source.limit_option)
        for node in arm.target_list:
            target = combine.target_list.add().res_target
            target.name = node.res_target.name or combining.column_name(node.res_target.val)
            target.val.CopyFrom(self._rewritten(node.res_target.val))
        combining.over_rows(combine)
        for *_, number in self._groups:
            combine.group_clause.append(arm_column(number))
        if arm.having_clause.WhichOneof("node"):
            combine.having_clause.CopyFrom(self._rewritten(arm.having_clause))
        combine.distinct_clause.extend(source.distinct_clause)
        names = {one.res_target.name for one in combine.target_list}
        for node in arm.sort_clause:
            combine.sort_clause.append(self._sort(node, names))
        combining.add_limits(source, combine)
        return combine

    def finish_arm(self) -> None:
        """Let the arm compute the columns that the combining step needs, and nothing else."""
        arm = self._arm
        for field in (
            "target_list",
            "having_clause",
            "sort_clause",
            "limit_count",
            "limit_offset",
            "distinct_clause",
        ):
            arm.ClearField(field)
        arm.limit_option = pb.LIMIT_OPTION_DEFAULT
        for node in self._nodes:
            arm.target_list.add().res_target.val.CopyFrom(node)
        arm.ClearField("group_clause")
        arm.group_clause.extend(whole for whole, *_ in self._groups)

    def _column(self, node: Any) -> int:
        key = key_of(node)
        if key not in self._columns:
            copy = pb.Node()
            copy.CopyFrom(node)
            self._nodes.append(copy)
            self._columns[key] = len(self._nodes)
        return self._columns[key]

    def _vertex(self, node: Tree) -> Vertex | None:
        if not node.HasField("column_ref"):
            return None
        return resolve(node.column_ref, self._level)

    def _group_expression(self, node: Tree) -> Any:
        """GROUP BY 1 and GROUP BY alias mean an output column; a name that is an input column means that."""
        found = node
        if node.HasField("a_const"):
            at = node.a_const.ival.ival
            if not node.a_const.HasField("ival") or not 1 <= at <= len(self._arm.target_list):
                raise NotGathered
            found = self._arm.target_list[at - 1].res_target.val
        elif node.HasField("column_ref") and len(node.column_ref.fields) == 1 and self._vertex(node) is None:
            name = node.column_ref.fields[0].string.sval
            named = [one.res_target.val for one in self._arm.target_list if one.res_target.name == name]
            if len(named) != 1 or any(relation.opaque for relation in self._level.relations):
                raise NotGathered
            found = named[0]
        copy = pb.Node()
        copy.CopyFrom(found)
        if (copy.HasField("column_ref") and self._vertex(copy) is None) or copy.HasField("a_const"):
            raise NotGathered
        return copy

    def _sort(self, node: Tree, names: set[str]) -> Any:
        sort = pb.Node()
        sort.CopyFrom(node)
        by = node.sort_by.node
        if node.sort_by.sortby_dir == pb.SORTBY_USING:
            raise NotGathered
        bare = by.HasField("column_ref") and len(by.column_ref.fields) == 1
        if by.HasField("a_const") or (bare and by.column_ref.fields[0].string.sval in names):
            return sort
        sort.sort_by.node.CopyFrom(self._rewritten(by))
        return sort

    # ---- expressions over groups and aggregates ----

    def _rewritten(self, node: Tree) -> Any:
        """The expression over the arms' columns."""
        number = self._group_number(node)
        if number is not None:
            return arm_column(number)
        kind = node.WhichOneof("node")
        if kind in ("column_ref", "sub_link", "grouping_func", "a_indirection"):
            raise NotGathered
        if kind == "func_call" and self._is_aggregate(node.func_call):
            return self._combined(node.func_call)
        copy = pb.Node()
        copy.CopyFrom(node)
        if kind is not None:
            self._rewrite_inside(getattr(copy, kind))
        return copy

    def _rewrite_inside(self, message: Any) -> None:
        for child in children(message):
            if child.DESCRIPTOR.name == "Node":
                child.CopyFrom(self._rewritten(child))
            elif child.DESCRIPTOR.name != "TypeName":
                self._rewrite_inside(child)

    def _group_number(self, node: Tree) -> int | None:
        if not self._groups:
            return None
        vertex = self._vertex(node)
        key = key_of(node)
        for _, group_key, group_vertex, number in self._groups:
            if key == group_key or (vertex is not None and vertex == group_vertex):
                return number
        return None

    def _is_aggregate(self, call: Tree) -> bool:
        return strings(call.funcname)[-1] in functions.AGGREGATES or call.agg_within_group

    def _combined(self, call: Tree) -> Any:
        name = strings(call.funcname)[-1]
        if call.agg_within_group or call.agg_order or call.func_variadic:
            raise NotGathered
        if name in _SAME:
            return expression(f"{name}(p.c{self._column(_as_node(call))})")
        if call.agg_distinct:
            raise NotGathered
        if name == "count":
            return expression(f"CAST(COALESCE(sum(p.c{self._column(_as_node(call))}), 0) AS bigint)")
        if name == "sum":
            number = self._column(_as_node(call))
            return expression(f"CAST(sum(p.c{number}) AS pgherd__t{number})")
        if name == "avg" and all(self._exact(one) for one in call.args):
            return self._average(call)
        raise NotGathered

    def _average(self, call: Tree) -> Any:
        numbers: list[int] = []
        for name in ("sum", "count"):
            part = _as_node(call)
            part.func_call.ClearField("funcname")
            part.func_call.funcname.add().string.sval = name
            numbers.append(self._column(part))
        total, count = numbers
        return expression(f"sum(p.c{total}) / NULLIF(sum(p.c{count}), 0)")

    def _exact(self, node: Tree) -> bool:
        """Whether avg over the expression is its sum divided by its count (not so for real, which avg adds up as double)."""
        for one in find(node, "FuncCall"):
            if strings(one.funcname)[-1] not in ("abs", "coalesce", "length", "round"):
                return False
        for ref in find(node, "ColumnRef"):
            vertex = resolve(ref, self._level)
            table = self._scope.relations[vertex.relation].table if vertex is not None else None
            column = table.column(vertex.column) if table is not None and vertex is not None else None
            if column is None or column.type not in _EXACT | {"text", "boolean", "character varying"}:
                return False
        if any(
            strings(cast.type_name.names)[-1] in ("float4", "real", "money")
            for cast in find(node, "TypeCast")
        ):
            return False
        return all(
            strings(expr.name)[-1] in _ARITHMETIC | {"=", "<>", "<", ">", "<=", ">="}
            for expr in find(node, "A_Expr")
        )


def _as_node(call: Tree) -> Any:
    node = pb.Node()
    node.func_call.CopyFrom(call)
    return node
