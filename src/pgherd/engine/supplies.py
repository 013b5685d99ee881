"""Rows that are read first and stand in the texts of another plan (Supplied), and the rows of any reading plan as text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pgherd.catalog.model import GroupId
from pgherd.engine.gather import arm_params, rows_text, with_rows
from pgherd.engine.link import Params, TextRows
from pgherd.engine.route import locate_slowly
from pgherd.engine.scatter import merging, shard_texts
from pgherd.engine.work import Work, name_text, side_by_side
from pgherd.errors import Refused, TooLarge
from pgherd.plan.plans import (
    AnyPlan,
    Expr,
    Federated,
    Gather,
    InsertRow,
    OneGroup,
    Plan,
    Scatter,
    Single,
    Supplied,
    Text,
)

SUPPLIED_BYTES_MAX = 64 * 2**20
_KEPT = frozenset({"why", "tag", "table"})
_SOURCE = re.compile(r"pgherd\.source\((\d+)\)")


async def supply(plan: Supplied, params: Params, work: Work) -> AnyPlan:
    """`inner` with the sources' rows in its texts. Raises TooLarge if there are too many."""
    rows: dict[int, str] = {}
    count = size = 0
    for source in plan.sources:
        found = await texts_of(
            _bounded(_filled(source.plan, rows), work.bounds.held_rows), params.select(source.params), work
        )
        if any("record" in kind for kind in found.types):
            raise Refused(
                "a write over several shards cannot take anonymous rows from other tables",
                hint="Name the columns, or read first and write what was read.",
            )
        text = rows[source.number] = _table_text(found)
        count, size = count + len(found.rows), size + len(text)
        if count > work.bounds.held_rows or size > SUPPLIED_BYTES_MAX:
            raise TooLarge(
                f"a write over several shards reads more than {work.bounds.held_rows} rows, or {SUPPLIED_BYTES_MAX >> 20} MB, "
                "of other tables on the way",
                hint="Let the tables share a keyspace and join them on their shard keys; or write in several steps.",
            )
    return _filled(plan.inner, rows)


def _bounded(plan: AnyPlan, rows_max: int) -> AnyPlan:
    """A source that answers one row too many at most: what does not fit shall not be held first."""
    before, behind = "SELECT * FROM (", f") AS pgherd_source LIMIT {rows_max + 1}"
    match plan:
        case Single():
            first, *rest = plan.text.pieces
            pieces = [before + first, *rest]
            pieces[-1] += behind
            return dataclasses.replace(plan, text=Text(pieces=tuple(pieces)))
        case OneGroup() | Federated():
            return dataclasses.replace(plan, sql=f"{before}{plan.sql}{behind}")
        case Gather() if plan.combine is None:
            arms = tuple((group, f"{before}{arm}{behind}") for group, arm in plan.arms)
            return dataclasses.replace(plan, arm=f"{before}{plan.arm}{behind}", arms=arms)
        case _:
            return plan


def _table_text(found: TextRows) -> str:
    names = ", ".join(f"p.c{number} AS {name_text(name)}" for number, name in enumerate(found.names, 1))
    return f"(SELECT {names} FROM {rows_text([found])}) AS pgherd_source"


def _filled(value: Any, rows: Mapping[int, str]) -> Any:
    """A plan, or a part of one, with rows where the sources stand. What holds none stays the same object: InsertRows needs that."""
    match value:
        case str():
            return (
                _SOURCE.sub(lambda found: rows.get(int(found[1]), found[0]), value)
                if _SOURCE.search(value)
                else value
            )
        case tuple():
            parts = [_filled(one, rows) for one in value]  # type: ignore[reportUnknownVariableType]
            same = all(new is old for new, old in zip(parts, value, strict=True))  # type: ignore[reportUnknownArgumentType]
            return value if same else tuple(parts)  # type: ignore[reportUnknownVariableType]
        case Gather() if value.combine is not None and _SOURCE.search(value.combine):
            return _filled(value.fallback, rows)  # rows might hold what its texts' own holes are made of
        case Plan() | Text() | InsertRow() | Expr():
            names = [field.name for field in dataclasses.fields(value) if field.name not in _KEPT]
            parts = {name: _filled(getattr(value, name), rows) for name in names}
            if all(part is getattr(value, name) for name, part in parts.items()):
                return value
            return dataclasses.replace(value, **parts)
        case _:
            return value


async def texts_of(plan: AnyPlan, params: Params, work: Work) -> TextRows:
    """The rows of a reading plan in text form, with their names and types."""
    match plan:
        case Single():
            shard = await locate_slowly(plan, params, work.map.keyspaces[plan.keyspace], work)
            link = await work.tx.branch(shard.group, write=plan.write)
            return await link.texts(plan.text.for_shard(shard.id), params)
        case OneGroup():
            group = work.somewhere if plan.group is None else plan.group
            return await (await work.tx.branch(group, write=plan.write)).texts(plan.sql, params)
        case Gather():
            return await _gathered(plan, params, work)
        case Federated():
            async with work.tx.federated(plan.groups, plan.reads) as link:
                return await link.texts(plan.sql, params)
        case Scatter():
            return await _scattered(plan, params, work)
        case _:
            raise Refused("this query cannot feed a write", hint="Run it first, then write its rows.")


async def _gathered(plan: Gather, params: Params, work: Work) -> TextRows:
    async with work.tx.reading(plan.groups) as links:

        async def arm(group: GroupId) -> TextRows:
            return await links[group].texts(plan.arm_on(group), arm_params(plan, params))

        arms = list((await side_by_side(plan.groups, arm, limit=work.bounds.parallel)).values())
        if plan.combine is None:
            return dataclasses.replace(arms[0], rows=[row for one in arms for row in one.rows])
        readable = not any("record" in kind for kind in arms[0].types)
        if readable and sum(len(one.rows) for one in arms) <= plan.row_limit:
            sql = with_rows(plan.combine, arms)
            return await links[plan.groups[0]].texts(sql, params.select(plan.combine_params))
    return await texts_of(plan.fallback, params, work)


async def _scattered(plan: Scatter, params: Params, work: Work) -> TextRows:
    if plan.combine is not None:
        link, sql, own = await merging(plan, params, work)
        return await link.texts(sql, own)
    parts = await shard_texts(plan, params, work)
    return dataclasses.replace(parts[0], rows=[row for one in parts for row in one.rows])
