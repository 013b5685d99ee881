"""INSERT, UPDATE, DELETE, MERGE, and SELECT with writing CTEs: where the rows lie that they write."""

from __future__ import annotations

import postgast.pg_query_pb2 as pb

from pgherd.catalog import keys
from pgherd.catalog.model import Keyspace, Table
from pgherd.errors import NoShard, NullKey, Refused
from pgherd.plan import inserts, moves, physical, reads, references
from pgherd.plan.context import ZERO, Context
from pgherd.plan.plans import AnyPlan, Const, OneGroup, Scatter, Single
from pgherd.plan.prune import bound_to, constant_key, fixed_key, wanted
from pgherd.plan.reads import one_group
from pgherd.plan.scope import Edge, Relation, Scope, Vertex
from pgherd.plan.supplies import plan_supplied
from pgherd.plan.values import Value
from pgherd.sql.rewrite import HOLE
from pgherd.sql.tree import find

TAGS = {"insert_stmt": "INSERT", "update_stmt": "UPDATE", "delete_stmt": "DELETE", "merge_stmt": "MERGE"}
_SPLIT_HINT = "Write it as several statements in one transaction, or name the shard key."


def plan_write(context: Context) -> AnyPlan:
    """The plan of a statement that writes at least one table."""
    kinds = {target.kind for target in context.scope.writes}
    tag = TAGS.get(context.statement.kind, "SELECT")
    if any(one.table is not None and one.table.distributed_view for one in context.scope.writes):
        raise Refused("a view over distributed tables cannot be written", hint="Write the table itself.")
    if "distributed" in kinds:
        if kinds != {"distributed"}:
            raise Refused("one statement cannot write distributed and other tables", hint=_SPLIT_HINT)
        return _plan_distributed(context, tag)
    if "reference" in kinds:
        if kinds != {"reference"}:
            raise Refused("one statement cannot write reference tables and others", hint=_SPLIT_HINT)
        return references.plan_reference(context, tag)
    return _on_group_zero(context, tag)


def _on_group_zero(context: Context, tag: str) -> OneGroup:
    """Single tables (and unknown ones): on group 0, whole tables read through `global`."""
    whole = any(
        one.kind == "distributed" or (one.table is not None and one.table.distributed_view)
        for one in context.scope.relations
    )
    plan = one_group(context, write=True, tag=tag)
    return OneGroup(
        why="writes single tables: group 0", write=True, rows=context.returns, tag=tag,
        sql=physical.global_text(context.text, context.scope, ZERO), group=ZERO, unknown=plan.unknown, pin=plan.pin,
        reads=context.read_groups() if whole else (), epoch=context.cluster.epoch,
    )  # fmt: skip


def _plan_distributed(context: Context, tag: str) -> AnyPlan:
    statement = context.statement
    if statement.kind == "insert_stmt":
        fetched = plan_supplied(context, _before_tail(context), reads.plan_select, plan_write)
        if fetched is not None:
            return fetched
        if inserts.must_divide(context):
            return inserts.plan_insert(context)
    if not context.touches_zero and not context.needs_zero:
        plan = _single(context, tag)
        if plan is not None:
            return plan
    if statement.kind == "insert_stmt":
        return inserts.plan_insert(context)
    if statement.kind == "select_stmt" or len(context.scope.writes) > 1:
        raise Refused("a statement with writing WITH queries must stay within one shard", hint=_SPLIT_HINT)
    fetched = plan_supplied(context, _local(context), reads.plan_select, plan_write)
    if fetched is not None:
        return fetched
    moves_rows = any(_changes_key(context.scope, one) for one in context.scope.key_updates)
    if moves_rows and statement.kind != "merge_stmt":
        return moves.plan_move(context)
    return scatter(context, tag)


# ---- one shard -----------------------------------------------------------------------------------------------


def _single(context: Context, tag: str) -> Single | None:
    scope, cluster = context.scope, context.cluster
    fixed = fixed_key(scope, cluster, context.param_types)
    if fixed is None:
        return None
    keyspace_id, key = fixed
    for target, column, edges in scope.key_updates:
        found = _all_edges(scope, edges, _type_of(target, column))
        wanted_source = key[_key_of(target).index(column)]
        own = Vertex(target.number, column)
        if not any(
            edge == own or (isinstance(edge, Value) and edge.source == wanted_source) for edge in found
        ):
            return None
    if context.statement.kind == "insert_stmt":
        check_key(key, cluster.keyspaces[keyspace_id], _table_of(scope.writes[0]))
    return Single(
        why="the shard key is fixed", write=True, rows=context.returns, tag=tag,
        text=physical.shard_text(context.text, scope), keyspace=keyspace_id, key=key,
    )  # fmt: skip


def check_key(key: tuple[object, ...], keyspace: Keyspace, table: Table) -> None:
    """A constant key of a new row must have a shard. Raises NullKey, NoShard."""
    for source, name in zip(key, table.key, strict=True):
        if source == Const(None):
            raise NullKey(
                f'null value in column "{name}" of relation "{table.name}" violates not-null constraint',
                hint="It is part of the shard key: give it a value.",
            )
    if not all(isinstance(source, Const) for source in key):
        return
    try:
        found = constant_key(tuple(source for source in key if isinstance(source, Const)), keyspace)
    except keys.Undecodable:
        return
    if keyspace.locate(found) is None:
        shown = ", ".join(str(source.text) for source in key if isinstance(source, Const))
        raise NoShard(
            f'no shard of relation "{table.name}" found for row',
            detail=f"Shard key of the failing row is ({', '.join(table.key)}) = ({shown}).",
            hint="See pgherd.shards for the ranges.",
        )


def _table_of(relation: Relation) -> Table:
    assert relation.table is not None
    return relation.table


def _key_of(relation: Relation) -> tuple[str, ...]:
    return _table_of(relation).key


def _type_of(relation: Relation, column: str) -> str:
    found = _table_of(relation).column(column)
    assert found is not None
    return found.type


def _all_edges(scope: Scope, edges: list[Edge], kind: str) -> list[Edge]:
    """The edges and what they lead to."""
    found = list(edges)
    for edge in edges:
        if isinstance(edge, Vertex):
            found.extend(scope.reach(edge, kind))
    return found


def _changes_key(scope: Scope, update: tuple[Relation, str, list[Edge]]) -> bool:
    """Whether an assignment may change the column: anything but `key = key`."""
    target, column, edges = update
    return Vertex(target.number, column) not in edges


def _before_tail(context: Context) -> set[int]:
    """The relations of an INSERT that ON CONFLICT and RETURNING do not read: numbers."""
    tree = context.statement.tree
    tail = {
        var.location
        for part in (tree.on_conflict_clause, tree.returning_clause)
        for var in find(part, "RangeVar")
    }
    return {one.number for one in context.scope.relations if one.at not in tail}


def _local(context: Context) -> set[int]:
    """The relations whose rows lie in the shard that is written: numbers."""
    scope = context.scope
    anchor = scope.writes[0]
    if context.statement.kind == "merge_stmt":
        try:
            anchor = _merge_anchor(context, anchor)
        except Refused:
            return set()
    return {one.number for one in scope.distributed if bound_to(scope, one, anchor)}


# ---- every shard ---------------------------------------------------------------------------------------------


def scatter(context: Context, tag: str) -> Scatter:
    """UPDATE, DELETE or MERGE in each shard that may hold rows of the target."""
    scope = context.scope
    target = scope.writes[0]
    if context.needs_zero:
        raise Refused(
            "sequences and advisory locks cannot be used in a write over several shards",
            hint="An identity column gives ids in every shard; or compute the values first.",
        )
    anchor = _merge_anchor(context, target) if context.statement.kind == "merge_stmt" else target
    colocated = {one.number for one in scope.distributed if bound_to(scope, one, anchor)}
    _check_reads(context, target, colocated)
    shards = tuple(shard.id for shard in wanted(scope, anchor, context.cluster))

    def choose(relation: Relation) -> str | None:
        if relation.kind == "distributed":
            return HOLE if relation.number in colocated else "global"
        table = relation.table
        return "global" if table is not None and (table.distributed_view or table.kind == "single") else None

    federated = any(choose(one) == "global" for one in scope.relations)
    return Scatter(
        why="the rows may lie in any of these shards", write=True, rows=context.returns, tag=tag,
        text=physical.shard_text(context.text, scope, choose), shards=shards,
        reads=context.read_groups() if federated else (), epoch=context.cluster.epoch,
    )  # fmt: skip


def _check_reads(context: Context, target: Relation, colocated: set[int]) -> None:
    """Shards of one group are written one after another: none may read what another has written."""
    for one in context.scope.relations:
        same = one.kind == "distributed" and one.number not in colocated and one.table is target.table
        view = one.table is not None and one.table.distributed_view
        if same or view:
            raise Refused(
                f"a write over several shards cannot read {one.name} as a whole",
                hint="Read it first, then write; or join it on the shard key.",
            )


def _merge_anchor(context: Context, target: Relation) -> Relation:
    """The table whose shards the MERGE follows: its target, or a source that it inserts rows from. Raises Refused."""
    scope = context.scope
    clauses = [node.merge_when_clause for node in context.statement.tree.merge_when_clauses]
    if all(clause.match_kind != pb.MERGE_WHEN_NOT_MATCHED_BY_TARGET for clause in clauses):
        if not any(_changes_key(scope, one) for one in scope.key_updates):
            return target
        raise Refused("MERGE cannot change the shard key", hint="Use UPDATE for that.")
    for source in scope.distributed:
        if (
            source.target
            or source.nullable
            or not all(bound_to(scope, one, source) for one in scope.distributed)
        ):
            continue
        if all(_same_key(scope, update, source) for update in scope.key_updates):
            return source
    raise Refused(
        "MERGE that inserts must name one shard, or take its rows from a table that is joined on the shard key",
        hint="Join on the shard key with a constant or parameter, or use INSERT ... ON CONFLICT.",
    )


def _same_key(scope: Scope, update: tuple[Relation, str, list[Edge]], source: Relation) -> bool:
    target, column, edges = update
    own = Vertex(source.number, _key_of(source)[_key_of(target).index(column)])
    return own in _all_edges(scope, edges, _type_of(target, column))
