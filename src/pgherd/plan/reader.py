"""Walks a statement's tree once and fills a `Scope`: relations, conditions as edges, functions, parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import ClusterMap
from pgherd.errors import Refused
from pgherd.plan.expressions import Ctes, ExpressionReader
from pgherd.plan.naming import (
    add_output,
    column_in,
    common_columns,
    foreign_kind,
    is_plain,
    is_star,
    numbers,
    plain_name,
    renamed,
    resolve,
)
from pgherd.plan.plans import Param
from pgherd.plan.scope import Derived, Edge, Level, Relation, RelationKind, Scope, Vertex
from pgherd.plan.values import Value, Within, read_value
from pgherd.sql.statement import Statement
from pgherd.sql.tree import Tree, strings

_COMPARED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}  # operator -> with sides exchanged


def read(statement: Statement, cluster: ClusterMap, path: tuple[str, ...], *, columns: bool = False) -> Scope:
    """The scope of a SELECT, INSERT, UPDATE, DELETE or MERGE; with its output `columns` if they are asked for."""
    return read_tree(statement.kind, statement.tree, cluster, path, columns=columns)


def read_tree(
    kind: str, tree: Tree, cluster: ClusterMap, path: tuple[str, ...], *, columns: bool = False
) -> Scope:
    """As `read`, for a tree without text."""
    reader = Reader(cluster, path, top=None if columns else tree)
    derived = reader.query(kind, tree, None, {})
    reader.finish()
    reader.scope.top = derived.level
    reader.scope.columns = derived.columns
    return reader.scope


class Reader(ExpressionReader):
    """One walk. `query` reads any kind of level; `finish` adds what depends on the whole statement."""

    def __init__(self, cluster: ClusterMap, path: tuple[str, ...], *, top: Tree | None = None) -> None:
        super().__init__()
        self._top = top  # a SelectStmt whose output nobody asks for
        self._cluster = cluster
        self._path = path
        self._pushdowns: list[tuple[Derived, Vertex, Vertex]] = []

    def finish(self) -> None:
        """A CTE used once is restricted by what its one user asks of it; one used twice is not."""
        for derived, inside, outside in self._pushdowns:
            if derived.references <= 1 and not derived.writes and not derived.recursive:
                self.scope.add(inside, outside)

    # ---- levels ------------------------------------------------------------------------------------

    def query(self, kind: str, tree: Tree, outer: Level | None, ctes: Ctes) -> Derived:
        """Read one level of any kind, with the CTEs that it may name."""
        before = self.ctes
        self.ctes = ctes
        try:
            if tree.HasField("with_clause"):
                self.ctes = self._with(tree.with_clause, outer, ctes)
            match kind:
                case "select_stmt":
                    return self._select(tree, outer)
                case "insert_stmt":
                    return self._insert(tree, outer)
                case "update_stmt":
                    return self._update(tree, outer)
                case "delete_stmt":
                    return self._delete(tree, outer)
                case "merge_stmt":
                    return self._merge(tree, outer)
                case _:
                    raise Refused(f"{kind} cannot be used here")
        finally:
            self.ctes = before

    def _with(self, clause: Tree, outer: Level | None, ctes: Ctes) -> Ctes:
        found = dict(ctes)
        for node in clause.ctes:
            cte = node.common_table_expr
            itself = Derived(columns=None, recursive=True)
            if clause.recursive:
                found[cte.ctename] = itself
            kind = cte.ctequery.WhichOneof("node")
            derived = self.query(kind, getattr(cte.ctequery, kind), outer, found)
            derived.writes = kind != "select_stmt"
            if itself.references:
                derived = Derived(columns=derived.columns, recursive=True, level=derived.level)
            found[cte.ctename] = renamed(derived, strings(cte.aliascolnames))
        return found

    def _select(self, stmt: Tree, outer: Level | None) -> Derived:
        level = Level(outer, stmt)
        if stmt.op != pb.SETOP_NONE:
            return self._set_operation(stmt, level)
        if stmt.values_lists:
            return self._values(stmt, level)
        for item in stmt.from_clause:
            self._from(item, level, nullable=False)
        self._conditions(stmt.where_clause, level, numbers(level.relations))
        for nodes in (
            stmt.target_list,
            stmt.group_clause,
            stmt.distinct_clause,
            stmt.sort_clause,
            stmt.window_clause,
        ):
            for node in nodes:
                self.visit(node, level)
        for node in (stmt.having_clause, stmt.limit_count, stmt.limit_offset):
            self.visit(node, level)
        if stmt.locking_clause:
            self.scope.locking = True
        if stmt.HasField("into_clause"):
            self.scope.into = True
        if stmt is self._top:
            return Derived(columns=None, level=level)
        return self._output(stmt.target_list, level)

    def _set_operation(self, stmt: Tree, level: Level) -> Derived:
        left = self.query("select_stmt", stmt.larg, level.outer, self.ctes)
        self.query("select_stmt", stmt.rarg, level.outer, self.ctes)
        for node in (*stmt.sort_clause, stmt.limit_count, stmt.limit_offset):
            self.visit(node, level)
        return Derived(columns=left.columns, level=level)

    def _values(self, stmt: Tree, level: Level) -> Derived:
        rows = [row.list.items for row in stmt.values_lists]
        for row in rows:
            for item in row:
                self.visit(item, level)
        names = [f"column{number}" for number in range(1, len(rows[0]) + 1)]
        derived = Derived(columns=names, level=level)
        for at, name in enumerate(names):
            first = self._edges_of(rows[0][at], level) if all(at < len(row) for row in rows) else []
            if first and (len(rows) == 1 or all(self._edges_of(row[at], level) == first for row in rows[1:])):
                derived.sources[name] = first
        return derived

    def _insert(self, stmt: Tree, outer: Level | None) -> Derived:
        level = Level(outer, stmt)
        target = self._table(stmt.relation, level, nullable=False)
        self._writes(target)
        source: Derived | None = None
        if stmt.HasField("select_stmt"):
            source = self.query("select_stmt", stmt.select_stmt.select_stmt, outer, self.ctes)
        if source is not None and target.table is not None:
            names = [col.res_target.name for col in stmt.cols] or [one.name for one in target.table.columns]
            for name, column in zip(names, source.columns or (), strict=False):
                for edge in source.sources.get(column, ()):
                    self.scope.add(Vertex(target.number, name), edge)
        if stmt.HasField("on_conflict_clause"):
            self._on_conflict(stmt.on_conflict_clause, target, outer)
        return self._returning(stmt, level)

    def _on_conflict(self, clause: Tree, target: Relation, outer: Level | None) -> None:
        level = Level(outer, clause, [target])
        columns = [column.name for column in target.table.columns] if target.table else None
        excluded = self._relation("excluded", "derived", level)
        excluded.derived = Derived(columns=columns)
        for column in columns or ():  # what is proposed for insertion is what the target's row was given
            self.scope.add(Vertex(excluded.number, column), Vertex(target.number, column))
        self._assignments(clause.target_list, target, level)
        self.visit(clause.where_clause, level)
        for node in clause.infer.index_elems:
            self.visit(node, level)
        self.visit(clause.infer.where_clause, level)

    def _update(self, stmt: Tree, outer: Level | None) -> Derived:
        level = Level(outer, stmt)
        target = self._table(stmt.relation, level, nullable=False)
        self._writes(target)
        for item in stmt.from_clause:
            self._from(item, level, nullable=False)
        self._conditions(stmt.where_clause, level, numbers(level.relations))
        self._assignments(stmt.target_list, target, level)
        return self._returning(stmt, level)

    def _delete(self, stmt: Tree, outer: Level | None) -> Derived:
        level = Level(outer, stmt)
        self._writes(self._table(stmt.relation, level, nullable=False))
        for item in stmt.using_clause:
            self._from(item, level, nullable=False)
        self._conditions(stmt.where_clause, level, numbers(level.relations))
        return self._returning(stmt, level)

    def _merge(self, stmt: Tree, outer: Level | None) -> Derived:
        level = Level(outer, stmt)
        target = self._table(stmt.relation, level, nullable=True)
        self._writes(target)
        sources = self._from(stmt.source_relation, level, nullable=False)
        clauses = [node.merge_when_clause for node in stmt.merge_when_clauses]
        kinds = {clause.match_kind for clause in clauses}
        allowed: set[int] = set()
        if pb.MERGE_WHEN_NOT_MATCHED_BY_SOURCE not in kinds:
            allowed.add(target.number)
        if pb.MERGE_WHEN_NOT_MATCHED_BY_TARGET not in kinds:
            allowed |= numbers(sources)
        self._conditions(stmt.join_condition, level, allowed)
        for clause in clauses:
            self.visit(clause.condition, level)
            if clause.command_type == pb.CMD_INSERT:
                self._merge_insert(clause, target, level)
            else:
                self._assignments(clause.target_list, target, level)
        return self._returning(stmt, level)

    def _merge_insert(self, clause: Tree, target: Relation, level: Level) -> None:
        for node in clause.values:
            self.visit(node, level)
        if target.table is None:
            return
        names = [col.res_target.name for col in clause.target_list] or [
            one.name for one in target.table.columns
        ]
        given = dict(zip(names, clause.values, strict=False))
        for column in target.table.key:
            edges = self._edges_of(given[column], level) if column in given else []
            self.scope.key_updates.append((target, column, edges))

    def _assignments(self, targets: Iterable[Tree], target: Relation, level: Level) -> None:
        for node in targets:
            assigned = node.res_target
            self.visit(assigned.val, level)
            if target.table is not None and assigned.name in target.table.key:
                self.scope.key_updates.append((target, assigned.name, self._edges_of(assigned.val, level)))

    def _returning(self, stmt: Tree, level: Level) -> Derived:
        if not stmt.HasField("returning_clause"):
            return Derived(columns=[], level=level)
        for node in stmt.returning_clause.exprs:
            self.visit(node, level)
        return self._output(stmt.returning_clause.exprs, level)

    def _writes(self, target: Relation) -> None:
        target.target = True
        self.scope.writes.append(target)

    # ---- FROM ----------------------------------------------------------------------------------------

    def _relation(self, name: str, kind: RelationKind, level: Level, *, nullable: bool = False) -> Relation:
        relation = Relation(len(self.scope.relations), name, kind, level, nullable=nullable)
        self.scope.relations.append(relation)
        level.relations.append(relation)
        return relation

    def _from(self, node: Tree, level: Level, *, nullable: bool) -> list[Relation]:
        kind = node.WhichOneof("node")
        if kind == "range_var":
            return [self._table(node.range_var, level, nullable=nullable)]
        if kind == "join_expr":
            return self._join(node.join_expr, level, nullable=nullable)
        if kind == "range_subselect":
            return [self._from_subselect(node.range_subselect, level, nullable=nullable)]
        if kind == "range_table_sample":
            self.scope.sample = True
            self.visit_inside(node.range_table_sample, level, leave="relation")
            return self._from(node.range_table_sample.relation, level, nullable=nullable)
        item = getattr(node, kind or "")  # a function, xmltable, json_table
        self.visit_inside(item, level)
        relation = self._relation(item.alias.aliasname, "derived", level, nullable=nullable)
        names = strings(item.alias.colnames)
        if names and kind == "range_function":
            relation.derived = Derived(columns=[*names])
        return [relation]

    def _table(self, var: Tree, level: Level, *, nullable: bool) -> Relation:
        name, schema = var.relname, var.schemaname or None
        if var.catalogname:
            raise Refused(
                "cross-database references are not implemented", hint="Leave out the database's name."
            )
        visible = var.alias.aliasname or name
        cte = self.ctes.get(name) if schema is None else None
        if cte is not None:
            cte.references += 1
            return self._derived(visible, cte, level, var.alias, nullable=nullable, is_cte=True)
        table = self._cluster.find(name, schema, self._path)
        kind: RelationKind = table.kind if table is not None else foreign_kind(schema, name)
        relation = self._relation(visible, kind, level, nullable=nullable)
        relation.table, relation.node, relation.schema, relation.at = table, var, schema, var.location
        names = strings(var.alias.colnames)
        if names and table is not None:
            own = [column.name for column in table.columns]
            relation.renamed = dict(zip([*names, *own[len(names) :]], own, strict=True))
        if not var.inh and kind == "distributed":
            raise Refused(f"ONLY cannot be used on distributed table {name}", hint="Leave out ONLY.")
        return relation

    def _from_subselect(self, item: Tree, level: Level, *, nullable: bool) -> Relation:
        outer = level if item.lateral else level.outer
        derived = self.query("select_stmt", item.subquery.select_stmt, outer, self.ctes)
        derived.references = 1
        relation = self._derived(
            item.alias.aliasname, derived, level, item.alias, nullable=nullable, is_cte=False
        )
        relation.lateral = item.lateral
        return relation

    def _derived(
        self, name: str, derived: Derived, level: Level, alias: Tree, *, nullable: bool, is_cte: bool
    ) -> Relation:
        relation = self._relation(name, "derived", level, nullable=nullable)
        relation.is_cte = is_cte
        origin = derived
        derived = relation.derived = renamed(derived, strings(alias.colnames))
        for column, sources in derived.sources.items():
            here = Vertex(relation.number, column)
            for source in sources:
                self.scope.add(here, source)
                if isinstance(source, Vertex) and self._passes_through(derived.level, source):
                    self._pushdowns.append((origin, source, here))
        return relation

    def _passes_through(self, level: Level | None, column: Vertex) -> bool:
        """Whether restricting the output's column is the same as restricting the rows that go in."""
        if level is None or not is_plain(level):
            return False
        if not level.tree.group_clause:
            return not level.aggregates
        grouped = [self._edges_of(node, level) for node in level.tree.group_clause]
        return [column] in grouped

    def _join(self, join: Tree, level: Level, *, nullable: bool) -> list[Relation]:
        kind = join.jointype
        left = self._from(join.larg, level, nullable=nullable or kind in (pb.JOIN_RIGHT, pb.JOIN_FULL))
        right = self._from(join.rarg, level, nullable=nullable or kind in (pb.JOIN_LEFT, pb.JOIN_FULL))
        sides = {pb.JOIN_INNER: [*left, *right], pb.JOIN_LEFT: right, pb.JOIN_RIGHT: left}.get(kind, [])
        allowed = numbers(sides)
        both = Level(level.outer, None, [*left, *right], level.merged)
        self._conditions(join.quals, both, allowed)
        names = strings(join.using_clause) or (common_columns(left, right) if join.is_natural else ())
        for name in names:
            one, other = column_in(name, left, level), column_in(name, right, level)
            self._equate(one, other, allowed)
            level.merged[name] = {pb.JOIN_RIGHT: other, pb.JOIN_FULL: None}.get(kind, one)
        return [*left, *right]

    # ---- conditions ----------------------------------------------------------------------------------

    def _conditions(self, node: Tree, level: Level, allowed: set[int]) -> None:
        """Conjuncts become edges that start at the relations `allowed`."""
        kind = node.WhichOneof("node")
        if kind == "bool_expr" and node.bool_expr.boolop == pb.AND_EXPR:
            for part in node.bool_expr.args:
                self._conditions(part, level, allowed)
            return
        if (
            kind == "sub_link"
            and node.sub_link.sub_link_type == pb.ANY_SUBLINK
            and not node.sub_link.oper_name
        ):
            self._in_subselect(node.sub_link, level, allowed)
            return
        if kind == "a_expr" and self._comparison(node.a_expr, level, allowed):
            return
        self.visit(node, level)

    def _comparison(self, expr: Tree, level: Level, allowed: set[int]) -> bool:
        """Make edges of a comparison; True if there is nothing else in it to read."""
        names = strings(expr.name)
        if names[:-1] not in ((), ("pg_catalog",)):
            return False
        op, kind = names[-1], expr.kind
        if kind == pb.AEXPR_OP and op in _COMPARED:
            return self._compare(op, expr.lexpr, expr.rexpr, level, allowed)
        if kind == pb.AEXPR_IN and op == "=":
            self._member(expr.lexpr, expr.rexpr.list.items, level, allowed)
        elif kind == pb.AEXPR_BETWEEN:
            low, high = expr.rexpr.list.items
            self._compare(">=", expr.lexpr, low, level, allowed)
            self._compare("<=", expr.lexpr, high, level, allowed)
        return False

    def _compare(self, op: str, left: Tree, right: Tree, level: Level, allowed: set[int]) -> bool:
        if left.HasField("row_expr") and right.HasField("row_expr"):
            if op == "=":
                for one, other in zip(left.row_expr.args, right.row_expr.args, strict=False):
                    self._compare("=", one, other, level, allowed)
            return False
        one, other = self._edge(left, level), self._edge(right, level)
        if op == "=":
            self._equate(one, other, allowed)
        elif isinstance(one, Vertex) and isinstance(other, Value):
            if one.relation in allowed:
                self.scope.add(one, Within(op, (other,)))
        elif isinstance(other, Vertex) and isinstance(one, Value) and other.relation in allowed:
            self.scope.add(other, Within(_COMPARED[op], (one,)))
        return self._is_read(left, one) and self._is_read(right, other)

    def _is_read(self, node: Tree, edge: Edge | None) -> bool:
        """Whether nothing in the node is left to visit."""
        if isinstance(edge, Vertex):
            return len(node.column_ref.fields) < 3
        if isinstance(edge, Value) and isinstance(edge.source, Param):
            self.scope.parameters.add(edge.source.number)
            return True
        return False

    def _member(self, left: Tree, items: Any, level: Level, allowed: set[int]) -> None:
        if len(items) == 1:
            self._compare("=", left, items[0], level, allowed)
            return
        column = self._edge(left, level)
        if not isinstance(column, Vertex) or column.relation not in allowed:
            return
        values = [read_value(item) for item in items]
        known = tuple(value for value in values if value is not None)
        if len(known) == len(values):
            self.scope.add(column, Within("=", known))

    def _in_subselect(self, link: Tree, level: Level, allowed: set[int]) -> None:
        """`x IN (SELECT y ...)` as a conjunct: a semi-join on x = y."""
        self.visit(link.testexpr, level)
        derived = self.query("select_stmt", link.subselect.select_stmt, level, self.ctes)
        derived.references = 1
        holder = Level(level, None)
        relation = self._derived("", derived, holder, pb.Alias(), nullable=False, is_cte=False)
        row = link.testexpr.WhichOneof("node") == "row_expr"
        tested = link.testexpr.row_expr.args if row else [link.testexpr]
        for node, column in zip(
            tested, relation.derived.columns or () if relation.derived else (), strict=False
        ):
            self._equate(
                self._edge(node, level), Vertex(relation.number, column), allowed | {relation.number}
            )

    def _equate(self, one: Edge | None, other: Edge | None, allowed: set[int]) -> None:
        if one is None or other is None:
            return
        if isinstance(one, Vertex) and one.relation in allowed:
            self.scope.add(one, other)
        if isinstance(other, Vertex) and other.relation in allowed:
            self.scope.add(other, one)

    def _edge(self, node: Tree, level: Level) -> Edge | None:
        if node.WhichOneof("node") == "column_ref":
            return resolve(node.column_ref, level)
        return read_value(node)

    def _edges_of(self, node: Tree, level: Level) -> list[Edge]:
        edge = self._edge(node, level)
        return [] if edge is None else [edge]

    # ---- outputs -------------------------------------------------------------------------------------

    def _output(self, targets: Iterable[Tree], level: Level) -> Derived:
        derived = Derived(columns=[], level=level)
        for node in targets:
            target = node.res_target
            if target.val.WhichOneof("node") == "column_ref" and is_star(target.val.column_ref):
                self._star(target.val.column_ref, level, derived)
                continue
            add_output(derived, target.name or plain_name(target.val), self._edges_of(target.val, level))
        return derived

    def _star(self, ref: Tree, level: Level, derived: Derived) -> None:
        names = strings(ref.fields)
        relations = [one for one in level.relations if not names or one.name == names[-1]]
        for relation in relations:
            columns = relation.visible()
            if columns is None:
                derived.columns = None
                return
            for name in columns:
                own = relation.column(name)
                vertex = None if own is None else Vertex(relation.number, own)
                if not names and name in level.merged:
                    if name in (derived.columns or ()):
                        continue  # USING: both sides' columns are one
                    vertex = level.merged[name]
                add_output(derived, name, [] if vertex is None else [vertex])
