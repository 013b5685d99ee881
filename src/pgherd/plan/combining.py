"""Parts shared by the two ways to combine arms' rows: references to arm columns, parameters, writing out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.plan import physical
from pgherd.sql.parse import parse
from pgherd.sql.tree import Tree, find, strings

_ROWS = "pgherd__rows"
_TYPE = re.compile(r"pgherd__t(\d+)")


Check = Callable[[Any], None]


class NotGathered(Exception):
    """This statement is not surely right when gathered."""


def expression(sql: str) -> Any:
    """A parsed expression, as a fresh Node."""
    node = pb.Node()
    node.CopyFrom(parse(f"SELECT {sql}")[0].tree.target_list[0].res_target.val)
    return node


def arm_column(number: int) -> Any:
    """`p.c<number>`"""
    return expression(f"p.c{number}")


def key_of(node: Tree) -> bytes:
    """Equal for equal expressions."""
    from pgherd.sql.tree import without_places

    return without_places(node).SerializeToString(deterministic=True)


def numbers_in(tree: Tree) -> tuple[int, ...]:
    """The parameters that a tree uses, ascending."""
    return tuple(sorted({ref.number for ref in find(tree, "ParamRef")}))


def renumbered(tree: Tree, numbers: tuple[int, ...]) -> None:
    """Parameters `numbers` become $1, $2 ..."""
    for ref in find(tree, "ParamRef"):
        ref.number = numbers.index(ref.number) + 1


def over_rows(tree: Any) -> None:
    """Let a SelectStmt read the arms' rows."""
    source = tree.from_clause.add().range_var
    source.relname, source.inh, source.relpersistence = _ROWS, True, "p"


def written(tree: Any) -> str:
    """The combining statement, with `{rows}` and `{t<n>}`."""
    text = physical.written("select_stmt", tree)
    if "{" in text:
        raise NotGathered
    return _TYPE.sub(r"{t\1}", text.replace(_ROWS, "{rows}"))


def add_limits(source: Tree, into: Any) -> None:
    """LIMIT and OFFSET as the user wrote them."""
    for name in ("limit_count", "limit_offset"):
        if getattr(source, name).WhichOneof("node"):
            getattr(into, name).CopyFrom(getattr(source, name))
    into.limit_option = source.limit_option


def checked_at_once(arm: Any, epoch: int) -> None:
    """Let an arm fail when it meets another epoch, in a LIMIT that is none: it is computed once for the whole arm, while in
    WHERE it would be one more step for every row of every shard."""
    if arm.limit_option == pb.LIMIT_OPTION_WITH_TIES:
        checked_by_row(arm, epoch)
        return
    limit = expression(f"CASE WHEN pgherd.at_epoch({epoch}) THEN CAST(NULL AS bigint) END")
    if arm.limit_count.WhichOneof("node"):
        limit.case_expr.args[0].case_when.result.type_cast.arg.CopyFrom(arm.limit_count)
    arm.limit_count.CopyFrom(limit)
    arm.limit_option = pb.LIMIT_OPTION_COUNT


def checked_by_row(arm: Any, epoch: int) -> None:
    """Let an arm fail when it meets another epoch, in its WHERE: so it may be a part of a UNION ALL that the planner flattens."""
    check = expression(f"pgherd.at_epoch({epoch})")
    if not arm.where_clause.WhichOneof("node"):
        arm.where_clause.CopyFrom(check)
        return
    both = pb.Node()
    both.bool_expr.boolop = pb.AND_EXPR
    both.bool_expr.args.append(check)
    where = arm.where_clause
    if where.HasField("bool_expr") and where.bool_expr.boolop == pb.AND_EXPR:
        both.bool_expr.args.extend(where.bool_expr.args)
    else:
        both.bool_expr.args.append(where)
    arm.where_clause.CopyFrom(both)


def no_subqueries(*nodes: Tree) -> None:
    """Raises NotGathered if there is a subquery in any of them."""
    if any(True for node in nodes for _ in find(node, "SubLink")):
        raise NotGathered


_NAMED = {
    "coalesce_expr": "coalesce",
    "a_array_expr": "array",
    "row_expr": "row",
    "grouping_func": "grouping",
}


def column_name(node: Tree) -> str:
    """The name that PostgreSQL gives an output column without AS (FigureColname in parse_target.c)."""
    kind = node.WhichOneof("node")
    if kind == "column_ref":
        return strings(node.column_ref.fields)[-1]
    if kind == "func_call":
        return strings(node.func_call.funcname)[-1]
    if kind == "type_cast":
        inner = column_name(node.type_cast.arg)
        return inner if inner != "?column?" else strings(node.type_cast.type_name.names)[-1]
    if kind == "case_expr":
        inner = column_name(node.case_expr.defresult) if node.case_expr.HasField("defresult") else "?column?"
        return inner if inner != "?column?" else "case"
    if kind == "collate_clause":
        return column_name(node.collate_clause.arg)
    if kind == "a_expr":
        return "nullif" if node.a_expr.kind == pb.AEXPR_NULLIF else "?column?"
    if kind == "min_max_expr":
        return "greatest" if node.min_max_expr.op == pb.IS_GREATEST else "least"
    if kind in ("a_const", "param_ref", "bool_expr", "null_test", "boolean_test"):
        return "?column?"
    if kind in _NAMED:
        return _NAMED[kind]
    raise NotGathered
