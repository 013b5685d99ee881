"""Reads that each group answers for its own shards, side by side; PostgreSQL then combines the arms' few rows.

Correct only if every row (or group of rows) that the statement looks at lies in one shard: there is one table, the
anchor, with which all other distributed tables are joined on the shard key, and which no outer join can
leave out. Whatever is not surely so is left to the federated plan, which is right for any SELECT.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import GroupId, Shard
from pgherd.plan import aggregates, combining, ordering, physical
from pgherd.plan.combining import NotGathered
from pgherd.plan.context import Context
from pgherd.plan.naming import is_plain, resolve
from pgherd.plan.plans import AnyPlan, Federated, Gather, Text
from pgherd.plan.prune import bound_to, groups_of, key_columns, wanted
from pgherd.plan.scope import Level, Relation, Scope, Vertex
from pgherd.sql.rewrite import HOLE, pieces
from pgherd.sql.tree import Tree

SHARDS_MAX = 128  # more than so many are joined through `here.*`: the text would be too long

__all__ = ["concatenates", "level_of", "plan_gather", "splits_by"]


def plan_gather(context: Context, fallback: Federated) -> AnyPlan:
    """The gathered plan of a SELECT, or `fallback`."""
    scope, level = context.scope, context.scope.top
    if level is None or scope.system_columns or scope.sample or not _gatherable(scope):
        return fallback
    anchor = _anchor(scope, level)
    if _collated(scope):
        return fallback
    if anchor is None or not hasattr(level.tree, "target_list"):
        return fallback
    shards = wanted(scope, anchor, context.cluster)
    try:
        plan = _with_arms(context, level, anchor, fallback, groups_of(shards))
        if len(scope.distributed) > 1 and not level.tree.locking_clause and len(shards) <= SHARDS_MAX:
            text = Text(pieces=pieces(_with_arms(context, level, anchor, fallback, plan.groups, HOLE).arm))
            return replace(plan, arms=_shard_by_shard(text, shards))
        return plan
    except (NotGathered, physical.Unfaithful):
        return fallback


def locked_arms(context: Context) -> tuple[Gather, tuple[Shard, ...]]:
    """SELECT ... FOR UPDATE with ORDER BY or LIMIT: `arm` is one shard's text (with HOLEs) and `combine` merges. Raises NotGathered."""
    scope, level = context.scope, context.scope.top
    if (
        level is None
        or not hasattr(level.tree, "target_list")
        or scope.system_columns
        or not _gatherable(scope)
    ):
        raise NotGathered
    anchor = _anchor(scope, level)
    if anchor is None or _aggregates(level) or _collated(scope):
        raise NotGathered
    none = Federated(sql="", groups=(), reads=())
    return _with_arms(context, level, anchor, none, (), HOLE), wanted(scope, anchor, context.cluster)


def _collated(scope: Scope) -> bool:
    """Gathered values have lost their collation: ORDER BY, min and DISTINCT would differ."""
    return any(
        column.collated for one in scope.relations if one.table is not None for column in one.table.columns
    )


def _shard_by_shard(text: Text, shards: tuple[Shard, ...]) -> tuple[tuple[GroupId, str], ...]:
    """Each group's arm as one statement for each of its shards.

    `here.*` are UNION ALL views: a join of two would look for each row's partner in every local shard, and without statistics.
    """
    arms: dict[GroupId, list[str]] = {}
    for shard in shards:
        arms.setdefault(shard.group, []).append(text.for_shard(shard.id))
    return tuple(
        (group, texts[0] if len(texts) == 1 else " UNION ALL ".join(f"({one})" for one in texts))
        for group, texts in arms.items()
    )


def _gatherable(scope: Scope) -> bool:
    kinds = scope.kinds()
    views = any(one.table is not None and one.table.distributed_view for one in scope.relations)
    return kinds <= {"distributed", "reference", "view"} and not views


def _anchor(scope: Scope, level: Level) -> Relation | None:
    for anchor in scope.distributed:
        if _holds(scope, level, anchor) and all(bound_to(scope, one, anchor) for one in scope.distributed):
            return anchor
    return None


def _with_arms(
    context: Context,
    level: Level,
    anchor: Relation,
    fallback: Federated,
    groups: tuple[GroupId, ...],
    space: str = "here",
) -> Gather:
    tree = arm_tree(context, space)
    check = partial(
        combining.checked_at_once if space == "here" else combining.checked_by_row,
        epoch=context.cluster.epoch,
    )
    base = Gather(
        why="each group answers for its own shards",
        arm="",
        groups=groups,
        fallback=replace(fallback),
        tag="SELECT",
    )
    if not is_plain_top(level):
        raise NotGathered
    if _aggregates(level) and not _whole_groups(context.scope, level, anchor):
        return aggregates.plan_partial(context, level, tree, base, check)
    if ordering.needed(level.tree):
        return ordering.plan_ordered(context, level, tree, base, check)
    check(tree)
    return replace(base, arm=physical.written("select_stmt", tree))


def arm_tree(context: Context, space: str) -> Any:
    """A copy of the statement's tree over `here.*` (or one shard's tables)."""
    tree = pb.SelectStmt()
    tree.CopyFrom(context.statement.tree)
    physical.move(tree, context.scope, lambda one: space if one.kind == "distributed" else None)
    return tree


# ---- what may be split -----------------------------------------------------------------------------------


def level_of(scope: Scope, tree: Tree) -> Level | None:
    """The level that was read from a SelectStmt of the statement."""
    for relation in scope.relations:
        if relation.level.tree is not None and relation.level.tree == tree:
            return relation.level
    return None


def is_plain_top(level: Level) -> bool:
    """As `is_plain`, but LIMIT is allowed: the combining step deals with it."""
    tree = level.tree
    if tree.op != pb.SETOP_NONE or tree.values_lists or level.windows:
        return False
    if level.unknown_functions or level.outer_aggregate:
        return False
    if any(node.WhichOneof("node") == "grouping_set" for node in tree.group_clause):
        return False
    return not any(node.WhichOneof("node") for node in tree.distinct_clause)


def splits_by(scope: Scope, level: Level, anchor: Relation) -> bool:
    """Whether the level's rows are those of each shard of `anchor`, one after another."""
    if not is_plain(level) or level.tree.distinct_clause or not _holds(scope, level, anchor):
        return False
    if _aggregates(level):
        return _whole_groups(scope, level, anchor)
    return True


def _aggregates(level: Level) -> bool:
    return level.aggregates or bool(level.tree.group_clause or level.tree.having_clause.WhichOneof("node"))


def concatenates(context: Context, level: Level, anchor: Relation) -> bool:
    """Whether the shards' answers, one after another, are the answer."""
    return splits_by(context.scope, level, anchor) and not level.tree.sort_clause


def _holds(scope: Scope, level: Level, anchor: Relation) -> bool:
    """Whether the level has just one row source that is `anchor`, or a subquery that splits by it, and never without it."""
    for relation in level.relations:
        if relation.nullable:
            continue
        if relation is anchor:
            return True
        derived = relation.derived
        if derived is None or derived.level is None or derived.recursive or derived.writes:
            continue
        if relation.is_cte and derived.references > 1:
            continue
        if splits_by(scope, derived.level, anchor):
            return True
    return False


def _whole_groups(scope: Scope, level: Level, anchor: Relation) -> bool:
    """Whether GROUP BY holds the whole shard key, so that each group of rows lies in one shard."""
    grouped = [
        found for node in level.tree.group_clause if (found := _grouped_column(node, level)) is not None
    ]
    assert anchor.table is not None
    for name, kind in key_columns(anchor.table):
        own = Vertex(anchor.number, name)
        if not any(
            one == own or (not scope.relations[one.relation].nullable and own in set(scope.reach(one, kind)))
            for one in grouped
        ):
            return False
    return bool(grouped)


def _grouped_column(node: Tree, level: Level) -> Vertex | None:
    if node.HasField("a_const") and node.a_const.HasField("ival"):
        at = node.a_const.ival.ival - 1
        targets = level.tree.target_list
        node = targets[at].res_target.val if 0 <= at < len(targets) else node
    if not node.HasField("column_ref"):
        return None
    found = resolve(node.column_ref, level)
    if found is not None or len(node.column_ref.fields) != 1:
        return found
    name = node.column_ref.fields[0].string.sval
    named = [one.res_target.val for one in level.tree.target_list if one.res_target.name == name]
    return (
        resolve(named[0].column_ref, level) if len(named) == 1 and named[0].HasField("column_ref") else None
    )
