"""INSERT ... VALUES cut into rows: where each row's key comes from, and its text with holes for what is not known yet."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from operator import attrgetter

import postgast.pg_query_pb2 as pb

from pgherd.catalog import keys
from pgherd.catalog.model import Column, Table
from pgherd.errors import NullKey, PgherdError
from pgherd.plan import physical
from pgherd.plan.checked import at_epoch
from pgherd.plan.context import Context
from pgherd.plan.plans import (
    Const,
    Expr,
    InsertRow,
    InsertRows,
    KeySource,
    NewId,
    Param,
    Text,
)
from pgherd.plan.scope import Relation
from pgherd.plan.values import fits, read_value
from pgherd.sql import functions
from pgherd.sql.rewrite import HOLE, Edit, apply, quote, word_end
from pgherd.sql.tokens import byte_offset, tokens
from pgherd.sql.tree import Tree, find, strings

Part = str | Param | NewId | Expr
_DOT = re.compile(rb"\s*\.\s*")


class TooManyValues(PgherdError):
    """A row has more values than the table, or the list, has columns; or names a column that is not there."""

    sqlstate = "42601"


class UndefinedColumn(PgherdError):
    """INSERT names a column that the table does not have."""

    sqlstate = "42703"


def target_of(context: Context) -> Table:
    relation = context.statement.tree.relation
    table = next(one for one in context.scope.writes if one.at == relation.location).table
    assert table is not None
    return table


def columns_of(tree: Tree, table: Table, count: int) -> list[str]:
    """The columns that a row's values are for."""
    named = [col.res_target.name for col in tree.cols]
    for name in named:
        if table.column(name) is None:
            raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
    columns = named or [column.name for column in table.columns][:count]
    if count > len(columns):
        raise TooManyValues("INSERT has more expressions than target columns")
    if named and count < len(columns):
        raise TooManyValues("INSERT has more target columns than expressions")
    return columns


_start = attrgetter("start")


@dataclass(frozen=True, slots=True)
class _Span:
    """A row's text: character offsets of its values, between `start` (after the bracket) and `end` (before the other)."""

    start: int
    end: int
    values: tuple[tuple[int, int], ...]


class Division:
    """An INSERT ... VALUES being cut into rows."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tree = context.statement.tree
        self._text = context.text
        self._table = target_of(context)
        self._tokens = tokens(self._text)
        self._default = not self._tree.HasField("select_stmt")
        self._values_at = self._find_values()
        spans, self._tail_at = ([], self._tokens[self._values_at].end) if self._default else self._spans()
        self._spans_ = spans
        count = len(spans[0].values) if spans else 0
        self._columns = [] if self._default else columns_of(self._tree, self._table, count)
        self._added = [name for name in self._table.key if name not in self._columns]
        self._numbered = (
            len(spans) > 1
        )  # generated ids ascend in the order of the rows: clients match rows by that
        if self._numbered:
            self._added += [
                one.name
                for one in self._table.columns
                if one.cluster_id and one.name not in (*self._columns, *self._added)
            ]
        self._edits = physical.edits(self._text, context.scope, self._space)
        self._params = [token for token in self._tokens if token.kind == "param"]

    def plan(self) -> InsertRows:
        """The rows with where their keys come from, and what stands before and behind them."""
        keyspace = self._table.keyspace
        assert keyspace is not None
        nodes = (
            []
            if self._default
            else [row.list.items for row in self._tree.select_stmt.select_stmt.values_lists]
        )
        rows = tuple(self._row(span, items) for span, items in zip(self._spans_, nodes, strict=True))
        if self._default:
            rows = (self._row(_Span(0, 0, ()), []),)
        return InsertRows(
            why="its rows are divided by shard key", write=True, rows=self._context.returns, tag="INSERT",
            head=self._head(), rows_=rows, tail=self._tail(), keyspace=keyspace, table=self._table,
        )  # fmt: skip

    def _space(self, relation: Relation) -> str | None:
        if relation.target:
            return HOLE
        return physical.everywhere(None)(relation)

    def _find_values(self) -> int:
        return next(
            at for at, token in enumerate(self._tokens) if token.word == "values" and token.depth == 0
        )

    def _spans(self) -> tuple[list[_Span], int]:
        """The rows between VALUES and the tail."""
        spans: list[_Span] = []
        at = self._values_at + 1
        while True:
            opening = self._tokens[at]
            cuts = [opening.end]
            at += 1
            while not (self._tokens[at].kind == "close" and self._tokens[at].depth == opening.depth):
                if self._tokens[at].kind == "comma" and self._tokens[at].depth == opening.depth + 1:
                    cuts += [self._tokens[at].start, self._tokens[at].end]
                at += 1
            closing = self._tokens[at]
            cuts.append(closing.start)
            spans.append(_Span(opening.end, closing.start, tuple(zip(cuts[::2], cuts[1::2], strict=True))))
            at += 1
            if at >= len(self._tokens) or self._tokens[at].kind != "comma":
                return spans, closing.end
            at += 1

    # ---- rows ----

    def _row(self, span: _Span, nodes: object) -> InsertRow:
        items = list(nodes)  # type: ignore[call-overload]
        sources: dict[str, KeySource] = {}
        parts: list[Part] = ["("]
        for at, (name, node) in enumerate(zip(self._columns, items, strict=False)):
            start, end = span.values[at]
            found = self._value(name, node, start, end, sources)
            parts += [", "] if at else []
            parts += found
        if len(items) != len(self._columns):
            raise TooManyValues("VALUES lists must all be the same length")
        for at, name in enumerate(self._added):
            source = self._generated(self._column(name))
            sources[name] = source
            parts += [", ", source] if at or self._columns else [source]
        parts.append(")")
        return InsertRow(parts=_joined(parts), key=tuple(sources[name] for name in self._table.key))

    def _column(self, name: str) -> Column:
        column = self._table.column(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" of relation "{self._table.name}" does not exist')
        return column

    def _value(
        self, name: str, node: Tree, start: int, end: int, sources: dict[str, KeySource]
    ) -> list[Part]:
        """One value's parts; a key column's source goes into `sources`."""
        column = self._column(name)
        kind = node.WhichOneof("node")
        default = kind == "set_to_default" or (
            self._tree.override == pb.OVERRIDING_USER_VALUE and (column.cluster_id or column.always)
        )
        if name not in self._table.key:
            if default:
                return [NewId()] if column.cluster_id and self._numbered else ["DEFAULT"]
            if kind in ("a_const", "param_ref") or not self._evaluate_first(node):
                return self._cut(start, end)
            return [self._expression(node, column, start, end)]
        if default:
            source = sources[name] = self._generated(column)
            return [source]
        source = sources[name] = self._key(node, column, start, end)
        return [source] if isinstance(source, Expr) else self._cut(start, end)

    def _key(self, node: Tree, column: Column, start: int, end: int) -> Param | Const | Expr:
        value = read_value(node)
        if value is None or not fits(value, column.type, self._context.param_types):
            return self._expression(node, column, start, end)
        if isinstance(value.source, Param):
            return value.source
        if value.source.text is None:
            raise null_key(column, self._table)
        try:
            keys.decode_text(column.type, value.source.text)
        except keys.Undecodable:
            return self._expression(node, column, start, end)
        return value.source

    def _generated(self, column: Column) -> NewId | Expr:
        if column.cluster_id:
            return NewId()
        if column.default is None:
            raise null_key(column, self._table)
        zero = "nextval(" in column.default
        return Expr(f"CAST(({column.default}) AS {column.type})", zero=zero)

    def _evaluate_first(self, node: Tree) -> bool:
        """Subqueries would read one shard only, and sequences one group's: such a value is computed beforehand."""
        for call in find(node, "FuncCall"):
            if strings(call.funcname)[-1] in functions.GROUP_ZERO:
                return True
        return any(True for _ in find(node, "SubLink"))

    def _expression(self, node: Tree, column: Column, start: int, end: int) -> Expr:
        inside = [one for one in self._context.scope.relations if one.table is not None and not one.target]
        single = any(one.kind in ("single", "unknown", "catalog") for one in inside)
        zero = single or any(
            strings(call.funcname)[-1] in functions.GROUP_ZERO for call in find(node, "FuncCall")
        )
        numbers: dict[int, int] = {}
        parts = self._cut(start, end)
        text = "".join(
            part if isinstance(part, str) else f"${numbers.setdefault(part.number, len(numbers) + 1)}"
            for part in parts
            if isinstance(part, str | Param)
        )
        whole = bool(inside) and any(True for _ in find(node, "SubLink"))
        sql = f"CAST(({text.strip()}) AS {column.type})"
        if whole and any(one.kind == "distributed" for one in inside):
            sql = f"CASE WHEN {at_epoch(self._context.cluster.epoch)} THEN {sql} END"
        return Expr(
            sql,
            tuple(numbers),
            zero=zero,
            reads=self._context.read_groups() if whole else (),
        )

    # ---- text ----

    def _cut(self, start: int, end: int) -> list[Part]:
        """Text from character `start` to `end`, rewritten, cut at its parameters."""
        parts: list[Part] = []
        at = start
        first = bisect_left(self._params, start, key=_start)  # there may be 65,535, one for each value
        for token in self._params[first : bisect_left(self._params, end, first, key=_start)]:
            parts += [self._plain(at, token.start), Param(int(self._text[token.start + 1 : token.end]))]
            at = token.end
        parts.append(self._plain(at, end))
        if isinstance(parts[0], str):
            parts[0] = parts[0].lstrip()
        if isinstance(parts[-1], str):
            parts[-1] = parts[-1].rstrip()
        return [part for part in parts if part != ""]

    def _plain(self, start: int, end: int) -> str:
        if not self._edits or self._text.isascii():
            here = [edit for edit in self._edits if edit.start >= start and edit.end <= end]
            return apply(self._text, here, start, end) if here else self._text[start:end]
        return apply(self._text, self._edits, byte_offset(self._text, start), byte_offset(self._text, end))

    def _head(self) -> Text:
        values = self._tokens[self._values_at]
        before = self._tokens[self._values_at - 1]
        end = before.start if self._default else values.start
        inserted = [*self._columns, *self._added]
        head = self._plain(0, end).rstrip()
        if self._default:
            return hole_text(f"{head} ({', '.join(map(quote, inserted))}) VALUES ")
        if self._added and self._tree.cols:
            close = next(one for one in reversed(self._tokens[: self._values_at]) if one.kind == "close")
            added = "".join(f", {quote(name)}" for name in self._added)
            head = f"{self._plain(0, close.start)}{added}{self._plain(close.start, end)}".rstrip()
        elif self._added:
            at = self._override_at() or end
            listed = f" ({', '.join(map(quote, inserted))}) "
            head = f"{self._plain(0, at).rstrip()}{listed}{self._plain(at, end)}".rstrip()
        return hole_text(f"{head} VALUES ")

    def _override_at(self) -> int | None:
        found = (
            one.start
            for one in self._tokens[: self._values_at]
            if one.word == "overriding" and one.depth == 0
        )
        return next(found, None)

    def _tail(self) -> tuple[str | Param, ...]:
        if self._tail_at >= len(self._text.rstrip()):
            return ()
        start = byte_offset(self._text, self._tail_at)
        target = self._context.scope.writes[0]
        self._edits = [edit for edit in self._edits if edit.start < start or HOLE not in edit.text]
        for ref, relation in self._context.scope.qualified:
            if relation is target and ref.location >= start:
                data = self._text.encode()
                dot = _DOT.match(data, word_end(self._text, ref.location))
                assert dot is not None
                self._edits.append(Edit(ref.location, dot.end(), ""))
        parts = self._cut(self._tail_at, len(self._text))
        return (" ", *(part for part in parts if isinstance(part, str | Param)))


def null_key(column: Column, table: Table) -> NullKey:
    return NullKey(
        f'null value in column "{column.name}" of relation "{table.name}" violates not-null constraint',
        hint="It is part of the shard key: give it a value.",
    )


def hole_text(text: str) -> Text:
    return Text(pieces=tuple(text.split(HOLE)))


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Neighbouring texts as one."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return tuple(found)
