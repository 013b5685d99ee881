"""SELECT: one shard, one group, gathered from several groups, or federated."""

from __future__ import annotations

from dataclasses import replace

from pgherd.catalog.model import GroupId
from pgherd.errors import Refused
from pgherd.plan import checked, gather, physical
from pgherd.plan.combining import NotGathered
from pgherd.plan.context import ZERO, Context
from pgherd.plan.dependents import with_dependents
from pgherd.plan.plans import AnyPlan, Federated, Gather, OneGroup, Scatter, Single, Text
from pgherd.plan.prune import all_wanted, bound_to, fixed_key, groups_of
from pgherd.plan.scope import names_of
from pgherd.sql.rewrite import HOLE, pieces

_LOCKS_HINT = (
    "Name the shard key in WHERE, or lock the rows of one table, or of tables joined on the shard key."
)


def plan_select(context: Context) -> AnyPlan:
    """The plan of a SELECT (writing CTEs are for `writes`)."""
    plan = _plan(context)
    if context.replicable and not plan.write:
        plan = replace(plan, replica=True)
        if isinstance(plan, Gather):
            plan = replace(plan, fallback=replace(plan.fallback, replica=True))
    return plan


def _plan(context: Context) -> AnyPlan:
    scope = context.scope
    write = scope.locking or context.calls_unknown
    distributed = scope.distributed
    views = [one for one in scope.relations if one.table is not None and one.table.distributed_view]
    if not distributed and not views:
        return one_group(context, write=write)
    if distributed and not views and not context.touches_zero and not context.needs_zero:
        plan = _within_shards(context, write=write)
        if plan is not None:
            return plan
    if scope.locking:
        raise Refused(
            "FOR UPDATE and FOR SHARE cannot lock rows of several groups in this form", hint=_LOCKS_HINT
        )
    return federated(with_dependents(context), write=write)


def _within_shards(context: Context, *, write: bool) -> AnyPlan | None:
    scope, cluster = context.scope, context.cluster
    fixed = fixed_key(scope, cluster, context.param_types)
    if fixed is not None:
        keyspace, key = fixed
        text = _locking_text(context) if scope.locking else physical.shard_text(context.text, scope)
        return Single(why="the shard key is fixed", write=write, text=text, keyspace=keyspace, key=key)
    if scope.locking:
        return _lock_everywhere(context)
    context = with_dependents(context)
    scope = context.scope
    groups = groups_of(all_wanted(scope, cluster))
    if len(groups) == 1:
        check = checked.still_here(cluster.epoch, all_wanted(scope, cluster))
        sql = checked.checked(context.statement, physical.global_text(context.text, scope, groups[0]), check)
        return OneGroup(why="all shards it may read lie in one group", write=write, sql=sql, group=groups[0])
    if write:
        return None
    return gather.plan_gather(context, federated(context))


def one_group(context: Context, *, write: bool, tag: str = "SELECT") -> OneGroup:
    """No distributed table: group 0, or any if every group would answer alike."""
    scope = context.scope
    zero = (
        context.touches_zero
        or context.needs_zero
        or context.calls_unknown
        or context.scope.locking
        or context.speaks_of_oids
    )
    unknown = names_of(scope.of_kind("unknown"))
    why = "only tables that every group has" if scope.kinds() else "no tables"
    if zero:
        why = "single tables, catalogs or session functions: group 0"
    return OneGroup(
        why=why, write=write, tag=tag, sql=physical.catalog_text(context.text, scope), group=ZERO if zero else None, unknown=unknown,
        pin=context.pins,
    )  # fmt: skip


def federated(context: Context, *, write: bool = False, why: str = "") -> Federated:
    """Over `global.*` on one node."""
    reads = context.read_groups()
    if context.touches_zero or context.needs_zero:
        groups: tuple[GroupId, ...] = (ZERO,)
    else:
        groups = reads + tuple(group for group in sorted(context.cluster.groups) if group not in reads)
    whole = physical.global_text(context.text, context.scope, groups[0] if len(groups) == 1 else None)
    sql = checked.checked(context.statement, whole, checked.at_epoch(context.cluster.epoch))
    return Federated(
        why=why or "it joins or orders rows of several groups in a way that one server must see whole",
        write=write, sql=sql, groups=groups, reads=reads,
    )  # fmt: skip


def _lock_everywhere(context: Context) -> Scatter:
    level = context.scope.top
    anchor = next(iter(context.scope.distributed))
    simple = level is not None and gather.concatenates(context, level, anchor)
    if not simple or not all(bound_to(context.scope, one, anchor) for one in context.scope.distributed):
        return _lock_and_merge(context)
    shards = tuple(shard.id for shard in all_wanted(context.scope, context.cluster))
    text = _locking_text(context)
    return Scatter(
        why="rows are locked in every shard that may hold them", write=True, text=text, shards=shards
    )


def _locking_text(context: Context) -> Text:
    """For a shard: its rows are locked where they are, not through a foreign table."""
    scope = context.scope
    table = next(one.table for one in scope.distributed if one.table is not None)
    whole = physical.apply_to(context.text, scope, physical.in_shard)
    return Text(pieces=pieces(checked.checked(context.statement, whole, checked.table_here(HOLE, table))))


def _lock_and_merge(context: Context) -> Scatter:
    """With ORDER BY or LIMIT each shard locks what may be in the answer: with LIMIT n, up to n rows of its own."""
    try:
        plan, wanted = gather.locked_arms(context)
    except (NotGathered, physical.Unfaithful):
        raise Refused(
            "FOR UPDATE and FOR SHARE cannot lock rows of several groups in this form", hint=_LOCKS_HINT
        ) from None
    return Scatter(
        why="rows are locked in every shard that may hold them, then merged", write=True, text=Text(pieces=pieces(plan.arm)),
        shards=tuple(shard.id for shard in wanted), combine=plan.combine, combine_params=plan.combine_params,
    )  # fmt: skip
