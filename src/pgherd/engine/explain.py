"""EXPLAIN of a distributed plan: how it is routed and why, then PostgreSQL's own plan of each part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pgherd.catalog.model import GroupId
from pgherd.engine.gather import arm_params
from pgherd.engine.link import Params, Part
from pgherd.engine.route import locate_slowly
from pgherd.engine.scatter import all_shards, shards_by_group
from pgherd.engine.supplies import supply
from pgherd.engine.work import Work, answer
from pgherd.errors import Refused
from pgherd.plan.plans import (
    AnyPlan,
    Explain,
    Federated,
    Gather,
    InsertRows,
    InsertSelect,
    MoveRows,
    OnAll,
    OneGroup,
    ReferenceWrite,
    Scatter,
    Single,
    Supplied,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One group's share of a plan: what runs there. `label` is the line above it."""

    group: GroupId
    sql: str
    label: str
    params: Params
    shard: int | None = None
    reads: tuple[GroupId, ...] = ()


async def explain(plan: Explain, params: Params, work: Work) -> Part:
    """One row of text for each line (or one document for the other formats), parts under their headings."""
    steps, extra = await steps_of(cast(AnyPlan, plan.inner), params, work)
    route = f"{type(plan.inner).__name__}: {plan.inner.why}".rstrip(": ")
    outputs = [await _explained(plan, step, work) for step in steps]
    if plan.format == "json":
        return await _json((plan, route), steps, outputs, extra, work)
    lines = [f"Route: {route}", *extra]
    mark = {"text": "-> {}", "yaml": "# {}", "xml": "<!-- {} -->"}[plan.format]
    if plan.format != "text":
        lines = [mark.format(line) for line in lines]
    for step, output in zip(steps, outputs, strict=True):
        lines.append(mark.format(step.label))
        if (node := work.node(step.group, plan.inner)) is not None:
            line = f"Node: {node}"
            lines.append(f"  {line}" if plan.format == "text" else mark.format(line))
        lines.extend(f"  {line}" if plan.format == "text" else line for line in output)
    kind = "xml" if plan.format == "xml" else "text"
    rows = ["\n".join(line for line in lines)] if plan.format != "text" else lines
    if plan.format == "xml":
        rows = ["<herd>\n" + rows[0] + "\n</herd>"]
    return await answer(work, [("QUERY PLAN", kind)], [(row,) for row in rows], "EXPLAIN")


async def _explained(plan: Explain, step: Step, work: Work) -> list[str]:
    sql = f"{plan.prefix} {step.sql}"
    writes = plan.analyze and plan.inner.write
    if step.reads:
        async with work.tx.federated((step.group,), step.reads) as link:
            output = await link.texts(sql, step.params)
    else:
        output = await (await work.tx.branch(step.group, write=writes)).texts(sql, step.params)
    return [line for row in output.rows for line in (row[0] or "").splitlines()]


async def _json(
    what: tuple[Explain, str],
    steps: Sequence[Step],
    outputs: Sequence[list[str]],
    extra: list[str],
    work: Work,
) -> Part:
    plan, route = what
    documents: list[dict[str, Any]] = []
    for step, output in zip(steps, outputs, strict=True):
        for document in json.loads("\n".join(output)):
            shard = {} if step.shard is None else {"Shard": step.shard}
            node = work.node(step.group, plan.inner)
            where = {} if node is None else {"Node": node}
            documents.append(
                {**document, "Route": route, "Group": step.group, **where, **shard, "SQL": step.sql}
            )
    if not documents:
        documents.append({"Route": route})
    if extra:
        documents[0]["Notes"] = extra
    return await answer(work, [("QUERY PLAN", "json")], [(json.dumps(documents, indent=2),)], "EXPLAIN")


async def steps_of(inner: AnyPlan, params: Params, work: Work) -> tuple[list[Step], list[str]]:
    """What runs where, and further lines for people."""
    match inner:
        case Single():
            shard = await locate_slowly(inner, params, work.map.keyspaces[inner.keyspace], work)
            label = f"Shard {shard.id} on group {shard.group}"
            return [
                Step(
                    group=shard.group,
                    shard=shard.id,
                    sql=inner.text.for_shard(shard.id),
                    label=label,
                    params=params,
                )
            ], []
        case OneGroup():
            group = work.somewhere if inner.group is None else inner.group
            return [Step(group=group, sql=inner.sql, label=f"Group {group}", params=params)], []
        case Scatter():
            return _per_shard(inner.shards, inner.text.for_shard, params, work), []
        case MoveRows():
            steps = _per_shard(inner.shards, inner.take.for_shard, params, work)
            return steps, ["Rows taken here are inserted where their new keys belong"]
        case Federated():
            return [_federated_step(inner, params)], []
        case Gather():
            return _gather_steps(inner, params), _combine_lines(inner)
        case OnAll():
            return [
                Step(group=group, sql=sql, label=f"Group {group}", params=params) for group, sql in inner.sql
            ], []
        case ReferenceWrite():
            return [
                Step(group=group, sql=inner.sql, label=f"Group {group}", params=params)
                for group in work.groups
            ], []
        case InsertSelect():
            steps, extra = await steps_of(cast(AnyPlan, inner.source), params, work)
            return steps, [*extra, f"Its rows are divided by shard key into {inner.table.name}"]
        case Supplied():
            steps, extra = await steps_of(
                await supply(inner, params, work), params.select(inner.numbers), work
            )
            return steps, [*extra, *(f"Rows read first: {source.plan.why}" for source in inner.sources)]
        case InsertRows():
            return [], [f"{len(inner.rows_)} row(s), divided by shard key"]
        case _:
            raise Refused("EXPLAIN of this statement is not supported", hint="EXPLAIN the query itself.")


def _per_shard(shards: Sequence[Any], text: Any, params: Params, work: Work) -> list[Step]:
    by_group = shards_by_group(shards, all_shards(work))
    return [
        Step(
            group=group, shard=shard, sql=text(shard), label=f"Shard {shard} on group {group}", params=params
        )
        for group, its_shards in by_group.items()
        for shard in its_shards
    ]


def _federated_step(plan: Federated, params: Params) -> Step:
    group = plan.groups[0]
    label = f"Group {group}, reading groups {', '.join(map(str, plan.reads))}"
    return Step(group=group, sql=plan.sql, label=label, params=params, reads=plan.reads)


def _gather_steps(plan: Gather, params: Params) -> list[Step]:
    own = arm_params(plan, params)
    return [
        Step(group=group, sql=plan.arm_on(group), label=f"Arm on group {group}", params=own)
        for group in plan.groups
    ]


def _combine_lines(plan: Gather) -> list[str]:
    return [f"Combine: {plan.combine}"] if plan.combine is not None else ["The arms' rows follow one another"]


def writes_for_real(plan: Explain) -> bool:
    """Whether carrying out this EXPLAIN changes data, as PostgreSQL's EXPLAIN ANALYZE does."""
    return plan.analyze and plan.inner.write


__all__ = ["Step", "explain", "steps_of", "writes_for_real"]
