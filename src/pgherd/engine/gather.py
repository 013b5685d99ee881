"""Reads over several groups: each group answers for its own shards (Gather), or one reads all (Federated)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link, Params, Part, TextRows
from pgherd.engine.work import Work, array_text, merged, quoted, side_by_side
from pgherd.plan.plans import Federated, Gather


def arm_params(plan: Gather, params: Params) -> Params:
    """The parameters of each arm."""
    return params if plan.arm_params is None else params.select(plan.arm_params)


async def gather(plan: Gather, params: Params, work: Work) -> Part:
    """The arms side by side on one snapshot; then PostgreSQL combines their rows, if there is a `combine`."""
    if plan.combine is None:
        return await _concatenated(plan, params, work)
    async with work.tx.reading(plan.groups) as links:

        async def arm(group: GroupId) -> TextRows:
            own = arm_params(plan, params)
            return await links[group].texts(plan.arm_on(group), own)

        arms = list((await side_by_side(plan.groups, arm, limit=work.bounds.parallel)).values())
        readable = not any(
            "record" in kind for kind in arms[0].types
        )  # no text can be read as an anonymous row
        if readable and sum(len(one.rows) for one in arms) <= plan.row_limit:
            sql = with_rows(plan.combine, arms)
            return await links[plan.groups[0]].part(sql, params.select(plan.combine_params))
    return await federated(plan.fallback, params, work)


async def _concatenated(plan: Gather, params: Params, work: Work) -> Part:
    async with work.tx.reading(plan.groups) as links:

        async def arm(group: GroupId) -> Part:
            return await links[group].part(plan.arm_on(group), arm_params(plan, params))

        arms = await side_by_side(plan.groups, arm, limit=work.bounds.parallel)
    return merged(list(arms.values()))


def with_rows(sql: str, arms: Sequence[TextRows]) -> str:
    """Fill the holes for the arms' rows `{rows}` and for their columns' types `{t1}`, `{t2}` ..."""
    for number, kind in enumerate(arms[0].types, 1):
        sql = sql.replace(f"{{t{number}}}", kind)
    return sql.replace("{rows}", rows_text(arms))


_SCALARS = frozenset(
    ["bigint", "boolean", "bytea", "cidr", "date", "inet", "integer", "interval", "json", "jsonb", "macaddr", "money", "name", "numeric", "oid", "real", "smallint", "text", "uuid", "varchar"]
) | {
    "character varying", "double precision", "time without time zone", "time with time zone",
    "timestamp without time zone", "timestamp with time zone",
}  # fmt: skip
_PLAIN = frozenset(
    f'"pg_catalog"."{name}"'
    for name in [
        "bool",
        "bytea",
        "cidr",
        "date",
        "float4",
        "float8",
        "inet",
        "int2",
        "int4",
        "int8",
        "interval",
        "json",
        "jsonb",
        "macaddr",
        "money",
        "name",
        "numeric",
        "oid",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
        "uuid",
        "varchar",
    ]
)  # the same, as the client names types
_MODIFIER = re.compile(r"\([\d,]+\)")


def rows_text(arms: Sequence[TextRows]) -> str:
    """All arms' rows as one table expression: unnest of an array for each column.

    Arms without rows describe the types as well as any. All but plain scalars travels as text and is cast back: unnest would
    flatten arrays and composite values. A modifier, as in numeric(10,2), is given back by a cast too.
    """
    types = arms[0].types
    rows = [row for one in arms for row in one.rows]
    columns: Sequence[Sequence[str | None]] = list(zip(*rows, strict=True)) if rows else [()] * len(types)
    names = [f"c{number}" for number in range(1, len(types) + 1)]
    carried = [_carried(kind) for kind in types]
    arrays = ", ".join(
        f"{quoted(array_text(values))}::{kind}[]" for values, kind in zip(columns, carried, strict=True)
    )
    plain = f"unnest({arrays}) AS p({', '.join(names)})"
    if carried == list(types):
        return plain
    casts = ", ".join(
        name if kind == own else f"{name}::{kind} AS {name}"
        for name, kind, own in zip(names, types, carried, strict=True)
    )
    return f"(SELECT {casts} FROM {plain}) AS p"


def _carried(kind: str) -> str:
    bare = _MODIFIER.sub("", kind)
    return bare if bare in _SCALARS or bare in _PLAIN else "text"


async def federated(plan: Federated, params: Params, work: Work) -> Part:
    """The whole statement on one node over `global.*`."""
    async with work.tx.federated(plan.groups, plan.reads) as link:
        await steady(link, plan.sql)
        return await link.part(plan.sql, params)


async def steady(link: Link, sql: str) -> None:
    """Before a federated read with sub-selects: no asynchronous foreign scans.

    postgres_fdw (PostgreSQL 18.6) fails with "another command is already in progress" when a scan that waits for its answer
    has a parameter that another scan of the same connection must compute first.
    """
    if len(_SELECT.findall(sql)) < 2:
        return
    if getattr(link, "status", None) == _IDLE:  # no transaction: the gateway's, on a replica
        await link.run("SET enable_async_append = off")
        link.strayed = True  # type: ignore[attr-defined]
    else:
        await link.run("SET LOCAL enable_async_append = off")


_IDLE = 0x49
_SELECT = re.compile(r"\bselect\b", re.IGNORECASE)
