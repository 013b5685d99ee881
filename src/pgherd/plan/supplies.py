"""Writes in several groups that read other tables on the way: what they read is fetched first and put in as rows.

A branch that read other groups through postgres_fdw could not be prepared. So every subquery that stands on its own is planned
as a query of its own, and `pgherd.source(n)` takes its place in the statement; a table that a correlated subquery, FROM or
USING names is fetched too, with the columns that the statement names. The executor puts the rows where the
sources stand, so NULLs, empty and too long answers mean what they mean in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import Table
from pgherd.plan import physical
from pgherd.plan.combining import numbers_in, renumbered
from pgherd.plan.context import Context
from pgherd.plan.expressions import SYSTEM_COLUMNS
from pgherd.plan.naming import find_relation, resolve
from pgherd.plan.plans import AnyPlan, Source, Supplied
from pgherd.plan.reader import Reader, read
from pgherd.plan.scope import Level, Relation
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import quote
from pgherd.sql.tree import Tree, children, find, is_a, strings

PlanRead = Callable[[Context], AnyPlan]
PlanWrite = Callable[[Context], AnyPlan]


def plan_supplied(
    context: Context, local: set[int], plan_read: PlanRead, plan_write: PlanWrite
) -> Supplied | None:
    """The statement with everything that is not `local` (numbers of relations) fetched first; None if nothing is foreign."""
    foreign = {one.at: one for one in context.scope.relations if one.at >= 0 and _is_foreign(one, local)}
    if not foreign:
        return None
    copy = context.statement.tree.__class__()
    copy.CopyFrom(context.statement.tree)
    supplies = _Supplies(context, foreign, copy, plan_read)
    supplies.all()
    numbers = numbers_in(copy)
    renumbered(copy, numbers)
    text = physical.written(context.statement.kind, copy)
    statement = parse(text)[0]
    scope = read(statement, context.cluster, context.path)
    types = _types(context, numbers)
    inner = plan_write(Context(statement, context.cluster, context.path, types, scope))
    sources = tuple(supplies.sources)
    if isinstance(inner, Supplied):  # what was colocated through a table that is a source now
        sources += tuple(
            Source(number=one.number, plan=one.plan, params=_mapped(one.params, numbers))
            for one in inner.sources
        )
        numbers, inner = _mapped(inner.numbers, numbers), inner.inner
    return Supplied(
        why="what it reads in other groups is fetched first", write=True, rows=inner.rows, tag=inner.tag,
        sources=sources, inner=inner, numbers=numbers,
    )  # fmt: skip


def _mapped(inner: tuple[int, ...], outer: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(outer[number - 1] for number in inner)


def _is_foreign(relation: Relation, local: set[int]) -> bool:
    table = relation.table
    if relation.target or relation.number in local:
        return False
    if table is None:
        return relation.kind == "unknown"  # temporary, perhaps: on group 0 if anywhere
    return (
        table.kind in ("distributed", "single")
        or table.distributed_view
        or (table.kind == "view" and not table.on_all)
    )


def _types(context: Context, numbers: tuple[int, ...]) -> tuple[int, ...]:
    known = context.param_types
    return tuple(known[number - 1] if number <= len(known) else 0 for number in numbers)


class _Supplies:
    """One statement's tree, in which sources take the place of what is foreign."""

    def __init__(
        self, context: Context, foreign: dict[int, Relation], tree: Tree, plan_read: PlanRead
    ) -> None:
        self._context = context
        self._foreign = foreign
        self._tree = tree
        self._plan_read = plan_read
        self._before = max((_number(call) for call in _sources_in(tree)), default=0)
        self._with = None
        if tree.HasField("with_clause"):
            self._with = pb.WithClause()
            self._with.CopyFrom(tree.with_clause)
        self._columns = _Named(tree)
        self._assigned = pb.Node()
        self.sources: list[Source] = []

    def all(self) -> None:
        """Replace every foreign query and table."""
        if self._with is not None:
            for at, node in enumerate(self._tree.with_clause.ctes):
                self._cte(node.common_table_expr, at)
        for child in children(self._tree):
            if not is_a(child, "WithClause"):
                self._walk(child)
        self._unqualify()

    def _cte(self, cte: Tree, at: int) -> None:
        if cte.ctequery.WhichOneof("node") != "select_stmt" or not self._has_foreign(cte.ctequery):
            return
        query = _fresh(f"SELECT * FROM {quote(cte.ctename)}")
        self._prefix(query, at + 1)
        cte.ctequery.CopyFrom(self._source(query))

    def _walk(self, node: Tree) -> None:
        if is_a(node, "SubLink") and self._replaced(node.subselect):
            self._walk(node.testexpr)
            return
        if is_a(node, "MultiAssignRef") and node.colno > 1:
            node.source.CopyFrom(self._assigned)  # (a, b) = (SELECT ...) is one query
            return
        if is_a(node, "MultiAssignRef"):
            self._walk(node.source)
            self._assigned.CopyFrom(node.source)
            return
        if is_a(node, "RangeSubselect") and self._replaced(node.subquery):
            return
        if is_a(node, "Node") and node.HasField("range_var") and node.range_var.location in self._foreign:
            self._table(node)
            return
        for child in list(children(node)):
            self._walk(child)

    def _replaced(self, node: Tree) -> bool:
        """Whether the query in `node` was foreign and stood on its own."""
        if not self._has_foreign(node):
            return False
        query = pb.SelectStmt()
        query.CopyFrom(node.select_stmt)
        if self._with is not None and self._names_cte(query):
            if query.HasField("with_clause"):
                return False
            self._prefix(query, len(self._with.ctes))
        if not stands_alone(query, self._context):
            return False
        node.CopyFrom(self._source(query))
        return True

    def _has_foreign(self, node: Tree) -> bool:
        return any(var.location in self._foreign for var in find(node, "RangeVar"))

    def _names_cte(self, query: Tree) -> bool:
        assert self._with is not None
        names = {node.common_table_expr.ctename for node in self._with.ctes}
        return any(var.relname in names and not var.schemaname for var in find(query, "RangeVar"))

    def _prefix(self, query: Tree, count: int) -> None:
        assert self._with is not None
        query.with_clause.recursive = self._with.recursive
        query.with_clause.ctes.extend(self._with.ctes[:count])

    def _table(self, node: Tree) -> None:
        var = node.range_var
        relation = self._foreign[var.location]
        table = relation.table
        if table is None:
            columns, name = [], quote(var.relname)
            name = f"{quote(var.schemaname)}.{name}" if var.schemaname else name
        else:
            columns = self._columns.of(relation, table)
            name = f"{quote(table.schema)}.{quote(table.name)}"
        query = _fresh(f"SELECT {', '.join(map(quote, columns)) or '*'} FROM {name}")
        item = _fresh("SELECT * FROM (SELECT 1) AS x").from_clause[0]
        item.range_subselect.subquery.CopyFrom(self._source(query))
        item.range_subselect.alias.aliasname = var.alias.aliasname or var.relname
        item.range_subselect.alias.colnames.extend(var.alias.colnames)
        node.CopyFrom(item)

    def _source(self, query: Tree) -> Any:
        """Plan the query, and answer the node that stands for its rows."""
        numbers = numbers_in(query)
        renumbered(query, numbers)
        statement = parse(physical.written("select_stmt", query))[0]
        context = self._context
        scope = read(statement, context.cluster, context.path)
        found = Context(statement, context.cluster, context.path, _types(context, numbers), scope)
        number = self._before + len(self.sources) + 1
        self.sources.append(Source(number=number, plan=self._plan_read(found), params=numbers))
        node = pb.Node()
        node.select_stmt.CopyFrom(parse(f"SELECT * FROM pgherd.source({number})")[0].tree)
        return node

    def _unqualify(self) -> None:
        """schema.table.column cannot be said of a subquery."""
        places = {
            ref.location: relation
            for ref, relation in self._context.scope.qualified
            if relation.at in self._foreign
        }
        for ref in find(self._tree, "ColumnRef"):
            if len(ref.fields) >= 3 and ref.location in places:
                del ref.fields[: len(ref.fields) - 2]


def _fresh(sql: str) -> Any:
    """A query's tree that may be changed: parsed statements are shared."""
    tree = pb.SelectStmt()
    tree.CopyFrom(parse(sql)[0].tree)
    return tree


def _sources_in(tree: Tree) -> Iterator[Tree]:
    return (call for call in find(tree, "FuncCall") if strings(call.funcname) == ("pgherd", "source"))


def _number(call: Tree) -> int:
    return call.args[0].a_const.ival.ival


class _Named:
    """The names that the statement uses, to fetch no other columns."""

    def __init__(self, tree: Tree) -> None:
        refs = list(find(tree, "ColumnRef"))
        self._all = any(ref.fields[-1].WhichOneof("node") == "a_star" for ref in refs)
        self._names = {strings(ref.fields)[-1] for ref in refs if strings(ref.fields)}
        joins = list(find(tree, "JoinExpr"))
        self._all |= any(join.is_natural for join in joins)
        for join in joins:
            self._names.update(strings(join.using_clause))

    def of(self, relation: Relation, table: Table) -> list[str]:
        """Columns of the table in order; none: fetch all."""
        names = [column.name for column in table.columns]
        if self._all or relation.renamed is not None or relation.name in self._names:
            return []
        return [name for name in names if name in self._names] or names[:1]


# ---- queries that stand alone --------------------------------------------------------------------------------


def stands_alone(query: Tree, context: Context) -> bool:
    """Whether a subquery means the same outside of its statement: every column is one of its own tables'."""
    reader = _AloneReader(context)
    copy = pb.SelectStmt()
    copy.CopyFrom(query)
    reader.query("select_stmt", copy, None, {})
    return not reader.free


class _AloneReader(Reader):
    """Reads a query and notes whether any column could not be found in it."""

    def __init__(self, context: Context) -> None:
        super().__init__(context.cluster, context.path)
        self.free = False

    def _column(self, ref: Tree, level: Level) -> None:
        super()._column(ref, level)
        if not self._is_own(ref, level):
            self.free = True

    def _is_own(self, ref: Tree, level: Level) -> bool:
        if resolve(ref, level) is not None:
            return True
        names = strings(ref.fields)
        if len(ref.fields) > 1:
            table = names[len(ref.fields) - 2]
            found = find_relation(table, level, names[0] if len(ref.fields) > 2 else None)
            return found is not None and (
                found.opaque or ref.fields[-1].WhichOneof("node") == "a_star" or names[-1] in SYSTEM_COLUMNS
            )
        if not names or names[0] in SYSTEM_COLUMNS:
            return True
        if find_relation(names[0], level, None) is not None:
            return True
        return names[0] in _levels_merged(level) or ref.location in _by_output(level)


def _levels_merged(level: Level | None) -> Iterable[str]:
    while level is not None:
        yield from level.merged
        level = level.outer


def _by_output(level: Level) -> set[int]:
    """Places in ORDER BY and GROUP BY that name an output column."""
    tree = level.tree
    if tree is None or not is_a(tree, "SelectStmt"):
        return set()
    names = {target.res_target.name for target in tree.target_list}
    nodes = [node.sort_by.node for node in tree.sort_clause] + list(tree.group_clause)
    refs = [node.column_ref for node in nodes if node.HasField("column_ref")]
    sets = tree.op != pb.SETOP_NONE
    return {
        ref.location for ref in refs if len(ref.fields) == 1 and (sets or strings(ref.fields)[0] in names)
    }
