"""What matters in expressions: functions, subqueries, parameters, names with a schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import postgast.pg_query_pb2 as pb

from pgherd.plan.naming import find_relation, resolve
from pgherd.plan.scope import Derived, Level, Scope
from pgherd.sql import functions
from pgherd.sql.tree import Tree, children, find, strings

Ctes = dict[str, Derived]

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
_TIME_WORDS = frozenset({"now", "today", "tomorrow", "yesterday"})
_TIME_OPS_END = pb.SQLValueFunctionOp.SVFOP_LOCALTIMESTAMP_N


class ExpressionReader(ABC):
    """Reads expressions into `scope`; `query` reads the levels below."""

    def __init__(self) -> None:
        self.scope = Scope()
        self.ctes: Ctes = {}
        self._handlers: dict[str, Callable[[Tree, Level], None]] = {
            "column_ref": self._column,
            "param_ref": self._param,
            "a_const": self._const,
            "func_call": self._function,
            "sub_link": self._sublink,
            "select_stmt": self._subselect,
            "sqlvalue_function": self._sql_value,
            "json_object_agg": self._json_aggregate,
            "json_array_agg": self._json_aggregate,
            "locking_clause": self._ignore,
        }

    @abstractmethod
    def query(self, kind: str, tree: Tree, outer: Level | None, ctes: Ctes) -> Derived:
        """Read one level of any kind, with the CTEs that it may name."""

    def visit(self, node: Tree, level: Level) -> None:
        """Read whatever matters in an expression: functions, subqueries, parameters, long column names."""
        kind = node.WhichOneof("node")
        if kind is None:
            return
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(getattr(node, kind), level)
        else:
            self.visit_inside(getattr(node, kind), level)

    def visit_inside(self, message: Tree, level: Level, leave: str = "") -> None:
        """`visit` all that lies directly inside."""
        left = getattr(message, leave) if leave else None
        for child in children(message):
            if child is left:
                continue
            name = child.DESCRIPTOR.name
            if name == "Node":
                self.visit(child, level)
            elif name == "SelectStmt":
                self._subselect(child, level)
            elif name not in ("TypeName", "Alias"):
                self.visit_inside(child, level)

    def _column(self, ref: Tree, level: Level) -> None:
        fields = ref.fields
        if len(fields) >= 3:
            names = strings(fields)
            relation = find_relation(names[1], level, names[0])
            if relation is not None:
                self.scope.qualified.append((ref, relation))
        if fields[-1].string.sval in SYSTEM_COLUMNS:
            self.scope.system_columns = True

    def _param(self, ref: Tree, level: Level) -> None:
        self.scope.parameters.add(ref.number)

    def _const(self, const: Tree, level: Level) -> None:
        if const.sval.sval.lower() in _TIME_WORDS:
            self.scope.time = True

    def _ignore(self, clause: Tree, level: Level) -> None:
        """FOR UPDATE OF names relations of the level, not tables."""
        self.scope.locking = True

    def _function(self, call: Tree, level: Level) -> None:
        names = strings(call.funcname)
        schema, name = ("", names[0]) if len(names) == 1 else (names[-2], names[-1])
        self.scope.functions.append(("" if schema == "pg_catalog" else schema, name))
        if call.HasField("over"):
            level.windows = True
        elif name in functions.AGGREGATES or call.agg_within_group:
            level.aggregates = True
            self._aggregate_of_outer(call, level)
        elif names[0] != "pgherd" and name not in functions.KNOWN and name not in functions.GROUP_ZERO:
            level.unknown_functions = True
        self.visit_inside(call, level)

    def _aggregate_of_outer(self, call: Tree, level: Level) -> None:
        """An aggregate over columns of an outer level alone belongs to that level."""
        refs = [resolve(ref, level) for ref in find(call, "ColumnRef")]
        own = {relation.number for relation in level.relations}
        if refs and level.outer is not None and not any(v is not None and v.relation in own for v in refs):
            outer: Level | None = level.outer
            while outer is not None:
                outer.outer_aggregate = True
                outer = outer.outer

    def _json_aggregate(self, node: Tree, level: Level) -> None:
        level.aggregates = True
        level.unknown_functions = True
        self.visit_inside(node, level)

    def _sql_value(self, node: Tree, level: Level) -> None:
        if node.op <= _TIME_OPS_END:
            self.scope.time = True

    def _sublink(self, link: Tree, level: Level) -> None:
        self.visit(link.testexpr, level)
        self.query("select_stmt", link.subselect.select_stmt, level, self.ctes)

    def _subselect(self, stmt: Tree, level: Level) -> None:
        self.query("select_stmt", stmt, level, self.ctes)
