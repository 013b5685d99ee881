"""ORDER BY, LIMIT and DISTINCT over several groups: each arm does its part, PostgreSQL merges the arms' rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.plan import combining, physical
from pgherd.plan.combining import Check, NotGathered
from pgherd.plan.context import Context
from pgherd.plan.naming import resolve
from pgherd.plan.plans import Gather
from pgherd.plan.scope import Level
from pgherd.sql.tree import Tree, find, strings


def needed(tree: Tree) -> bool:
    """Whether the arms' rows, one after another, are not yet the answer."""
    return bool(
        tree.sort_clause
        or tree.distinct_clause
        or tree.limit_count.WhichOneof("node")
        or tree.limit_offset.WhichOneof("node")
    )


def output_names(level: Level) -> list[str] | None:
    """The output columns' names in order, or None if they are not all known."""
    names: list[str] = []
    for node in level.tree.target_list:
        target = node.res_target
        if target.val.HasField("column_ref") and target.val.column_ref.fields[-1].HasField("a_star"):
            found = _star(strings(target.val.column_ref.fields), level)
            if found is None:
                return None
            names += found
        else:
            names.append(target.name or combining.column_name(target.val))
    return names


def _star(qualifier: tuple[str, ...], level: Level) -> list[str] | None:
    if not qualifier and level.merged:
        return None
    relations = [one for one in level.relations if not qualifier or one.name == qualifier[-1]]
    columns = [one.visible() for one in relations]
    if not columns or any(one is None for one in columns):
        return None
    return [name for one in columns if one is not None for name in one]


def plan_ordered(context: Context, level: Level, arm: Any, base: Gather, check: Check) -> Gather:
    """Arms sorted and cut as far as they can be; then sorted and cut again together."""
    source = context.statement.tree
    names = output_names(level)
    if names is None or any(True for node in source.target_list for _ in find(node, "RowExpr")):
        raise NotGathered
    if any(_whole_row(node.res_target.val, level) for node in (*source.target_list, *_sorts(source))):
        raise NotGathered
    combine = pb.SelectStmt(limit_option=source.limit_option, op=pb.SETOP_NONE)
    for number, name in enumerate(names, 1):
        target = combine.target_list.add().res_target
        target.name = name
        target.val.CopyFrom(combining.arm_column(number))
    combining.over_rows(combine)
    combine.distinct_clause.extend(source.distinct_clause)
    _sort(source, arm, combine, names)
    _limit(source, arm)
    check(arm)
    combining.add_limits(source, combine)
    combining.no_subqueries(combine.limit_count, combine.limit_offset)
    numbers = combining.numbers_in(combine)
    combining.renumbered(combine, numbers)
    return replace(
        base,
        why="each group answers for its own shards; their rows are merged",
        arm=physical.written("select_stmt", arm),
        combine=combining.written(combine),
        combine_params=numbers,
    )


def _sorts(source: Tree) -> list[Any]:
    return [pb.Node(res_target=pb.ResTarget(val=node.sort_by.node)) for node in source.sort_clause]


def _whole_row(node: Tree, level: Level) -> bool:
    """A reference that is no column for certain: perhaps a table's whole row, which arrays cannot carry."""
    if not node.HasField("column_ref") or node.column_ref.fields[-1].HasField("a_star"):
        return False
    names = {target.res_target.name for target in level.tree.target_list}
    fields = strings(node.column_ref.fields)
    return resolve(node.column_ref, level) is None and not (len(fields) == 1 and fields[0] in names)


def _sort(source: Tree, arm: Any, combine: Any, names: list[str]) -> None:
    starred = len(names) != len(source.target_list)
    width_ = len(names)
    for node in source.sort_clause:
        by = node.sort_by
        if by.sortby_dir == pb.SORTBY_USING:
            raise NotGathered
        number = _output(by.node, source, names, starred)
        if number is None:
            if source.distinct_clause:
                raise NotGathered
            width_ += 1
            number = width_
            hidden = arm.target_list.add().res_target
            hidden.val.CopyFrom(_arm_sort(arm, source, by.node))
        sort = combine.sort_clause.add().sort_by
        sort.CopyFrom(by)
        sort.node.CopyFrom(_collated(by.node, combining.arm_column(number)))


def _arm_sort(arm: Any, source: Tree, node: Tree) -> Tree:
    """The sort expression as it stands in the arm (where tables have moved)."""
    at = [one.sort_by.node for one in source.sort_clause].index(node)
    return arm.sort_clause[at].sort_by.node


def _output(node: Tree, source: Tree, names: list[str], starred: bool) -> int | None:
    """The output column that a sort expression means, from 1, or None if it is none of them."""
    if node.HasField("a_const"):
        if not node.a_const.HasField("ival"):
            raise NotGathered
        return node.a_const.ival.ival if 1 <= node.a_const.ival.ival <= len(names) else _refuse()
    if node.HasField("column_ref") and len(node.column_ref.fields) == 1:
        name = node.column_ref.fields[0].string.sval
        if name in names:
            return names.index(name) + 1 if names.count(name) == 1 else _refuse()
    if not starred:
        key = combining.key_of(node)
        for number, target in enumerate(source.target_list, 1):
            if combining.key_of(target.res_target.val) == key:
                return number
    return None


def _refuse() -> int:
    raise NotGathered


def _collated(node: Tree, column: Any) -> Any:
    """Columns of arms have lost their collation: put back the one that the sort names."""
    if node.HasField("collate_clause"):
        collated = pb.Node()
        collated.collate_clause.CopyFrom(node.collate_clause)
        collated.collate_clause.arg.CopyFrom(column)
        return collated
    if any(True for _ in find(node, "CollateClause")):
        raise NotGathered
    return column


def _limit(source: Tree, arm: Any) -> None:
    """An arm needs no more than LIMIT + OFFSET rows, and no order without a limit."""
    count, offset = source.limit_count, source.limit_offset
    combining.no_subqueries(count, offset)
    arm.ClearField("limit_offset")
    if not count.WhichOneof("node"):
        arm.ClearField("limit_count")
        arm.ClearField("sort_clause")
        arm.limit_option = pb.LIMIT_OPTION_DEFAULT
        return
    if offset.WhichOneof("node") and not _is_null(count):
        both = combining.expression("CAST(1 AS bigint) + CAST(1 AS bigint)")
        both.a_expr.lexpr.type_cast.arg.CopyFrom(count)
        both.a_expr.rexpr.type_cast.arg.CopyFrom(offset)
        arm.limit_count.CopyFrom(both)


def _is_null(node: Tree) -> bool:
    return node.HasField("a_const") and node.a_const.isnull
