"""INSERT ... SELECT into a distributed table: shard by shard, or the query's rows divided by key."""

from __future__ import annotations

import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import Table
from pgherd.errors import Refused
from pgherd.plan import gather, physical, reads
from pgherd.plan.context import Context
from pgherd.plan.plans import AnyPlan, InsertSelect, Scatter
from pgherd.plan.prune import bound_to, wanted
from pgherd.plan.reader import read
from pgherd.plan.rows import UndefinedColumn, hole_text, null_key, target_of
from pgherd.plan.scope import Scope
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import HOLE, quote
from pgherd.sql.tokens import Token, tokens
from pgherd.sql.tree import Tree, find


def plan_insert_select(context: Context) -> AnyPlan:
    tree = context.statement.tree
    if tree.override == pb.OVERRIDING_USER_VALUE:
        raise Refused(
            "OVERRIDING USER VALUE is not available here", hint="Leave the identity column out of the list."
        )
    shard_by_shard = _by_shard(context)
    if shard_by_shard is not None:
        return shard_by_shard
    if len(context.scope.writes) > 1:
        raise Refused(
            "INSERT ... SELECT with writing WITH queries must stay within one shard",
            hint="Write it as several statements in one transaction.",
        )
    return _divide_query(_with_inside(context) if tree.HasField("with_clause") else context)


def _with_inside(context: Context) -> Context:
    """WITH ... INSERT INTO t SELECT ... as INSERT INTO t WITH ... SELECT ..."""
    tree = pb.InsertStmt()
    tree.CopyFrom(context.statement.tree)
    query = tree.select_stmt.select_stmt
    outer = {node.common_table_expr.ctename for node in tree.with_clause.ctes}
    inner = {node.common_table_expr.ctename for node in query.with_clause.ctes}
    tail = (tree.on_conflict_clause, tree.returning_clause)
    if outer & inner or any(True for part in tail for _ in find(part, "SubLink")):
        raise Refused(
            "INSERT ... SELECT with this WITH clause before INSERT must stay within one shard",
            hint="Put WITH before SELECT.",
        )
    clause = pb.WithClause()
    clause.CopyFrom(tree.with_clause)
    clause.recursive |= query.with_clause.recursive
    clause.ctes.extend(query.with_clause.ctes)
    query.with_clause.CopyFrom(clause)
    tree.ClearField("with_clause")
    statement = parse(physical.written("insert_stmt", tree))[0]
    scope = read(statement, context.cluster, context.path)
    return Context(statement, context.cluster, context.path, context.param_types, scope)


def _by_shard(context: Context) -> Scatter | None:
    """Each shard's new rows come from its own rows."""
    scope = context.scope
    sources = [one for one in scope.distributed if not one.target]
    if context.touches_zero or context.needs_zero or len(scope.writes) > 1 or not sources:
        return None
    if any(one.table is not None and one.table.distributed_view for one in scope.relations):
        return None
    level = gather.level_of(scope, context.statement.tree.select_stmt.select_stmt)
    for anchor in sources:
        if level is None or not gather.splits_by(scope, level, anchor):
            continue
        if all(bound_to(scope, one, anchor) for one in scope.distributed):
            shards = tuple(shard.id for shard in wanted(scope, anchor, context.cluster))
            return Scatter(
                why="each shard's new rows come from its own", write=True, rows=context.returns, tag="INSERT",
                text=physical.shard_text(context.text, scope), shards=shards,
            )  # fmt: skip
    return None


def _divide_query(context: Context) -> InsertSelect:
    tree, table = context.statement.tree, target_of(context)
    start, end = _source_span(context.text, tree)
    source = context.text[start:end]
    tail = context.text[end:].strip()
    if any(token.kind == "param" for token in tokens(tail)):
        raise Refused(
            "parameters behind the query of an INSERT ... SELECT are not available", hint="Write constants."
        )
    found = parse(source)[0]
    scope = read(found, context.cluster, context.path, columns=True)
    columns = [col.res_target.name for col in tree.cols] or _as_many(table, scope)
    added = _added(table, columns)
    wrapped = _wrapped(source, table, columns, added)
    columns += added
    inner = parse(wrapped)[0]
    inner_scope = read(inner, context.cluster, context.path)
    plan = reads.plan_select(Context(inner, context.cluster, context.path, context.param_types, inner_scope))
    alias = f" AS {quote(tree.relation.alias.aliasname)}" if tree.relation.alias.aliasname else ""
    schema = physical.quoted_schema(HOLE, table.schema)
    head = f"INSERT INTO {schema}.{quote(table.name)}{alias} ({', '.join(map(quote, columns))})"
    return InsertSelect(
        why="the query's rows are divided by shard key", write=True, rows=context.returns, tag="INSERT",
        source=plan, table=table, columns=tuple(columns), head=hole_text(head), tail=tail,
    )  # fmt: skip


def _as_many(table: Table, scope: Scope) -> list[str]:
    """Without a column list, the query's columns are for the table's first ones."""
    return [column.name for column in table.columns][: len(scope.columns or table.columns)]


def _added(table: Table, columns: list[str]) -> list[str]:
    """Columns to be generated here: missing ones of the key, and ids, so that they ascend in the order of the query's rows."""
    ids = (column.name for column in table.columns if column.cluster_id)
    return [name for name in dict.fromkeys((*table.key, *ids)) if name not in columns]


def _wrapped(source: str, table: Table, columns: list[str], added: list[str]) -> str:
    """The query with each column cast to the type that it is inserted as, and the added columns' defaults."""
    aliases = ", ".join(f"c{number}" for number in range(1, len(columns) + 1))
    casts: list[str] = []
    for number, name in enumerate(columns, 1):
        column = table.column(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
        casts.append(f"CAST(q.c{number} AS {column.type}) AS {quote(name)}")
    for name in added:
        column = table.column(name)
        assert column is not None
        if column.default is None and not column.cluster_id:
            raise null_key(column, table)
        default = "pgherd.next_id()" if column.cluster_id else column.default
        casts.append(f"CAST(({default}) AS {column.type}) AS {quote(name)}")
    return f"SELECT {', '.join(casts)} FROM ({source}) AS q({aliases})"


def _source_span(text: str, tree: Tree) -> tuple[int, int]:
    """Character offsets of the query inside INSERT INTO t (columns) query ON CONFLICT ... RETURNING ..."""
    found = tokens(text)
    at = next(number for number, token in enumerate(found) if token.word == "into") + 1
    at += 3 if text[found[at + 1].start] == "." else 1
    if found[at].word == "as":
        at += 2
    elif tree.relation.alias.aliasname:
        at += 1
    if tree.cols:
        opening = found[at]
        at = (
            next(
                n
                for n, token in enumerate(found)
                if n > at and token.kind == "close" and token.depth == opening.depth
            )
            + 1
        )
    if found[at].word == "overriding":
        at += 3
    return found[at].start, _tail_start(text, tree, found[at:])


def _tail_start(text: str, tree: Tree, found: list[Token]) -> int:
    outer = [token for token in found if token.depth == found[0].depth]
    if tree.HasField("on_conflict_clause"):
        return next(
            one.start
            for one, following in zip(reversed(outer), [None, *reversed(outer)], strict=False)
            if one.word == "on" and following is not None and following.word == "conflict"
        )
    if tree.HasField("returning_clause"):
        return next(token.start for token in reversed(outer) if token.word == "returning")
    return len(text)
