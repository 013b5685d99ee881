"""INSERTs whose rows are divided over shards: VALUES lists (InsertRows) and query results (InsertSelect)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pgherd.catalog import keys
from pgherd.catalog.model import GroupId, Key, ShardId
from pgherd.engine.link import Params, Part
from pgherd.engine.route import canonical, evaluated, shard_of
from pgherd.engine.scatter import (
    all_shards,
    in_order,
    insert_nothing,
    insert_rows_text,
    null_in_key,
    shards_by_group,
)
from pgherd.engine.supplies import texts_of
from pgherd.engine.work import Work, quoted, side_by_side
from pgherd.plan.plans import (
    AnyPlan,
    Const,
    Expr,
    InsertRow,
    InsertRows,
    InsertSelect,
    KeySource,
    NewId,
    Param,
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was evaluated or generated, as text, by the identity of its source in the plan."""

    values: dict[int, str | None]

    def text(self, source: NewId | Expr) -> str | None:
        return self.values[id(source)]


async def insert_rows(plan: InsertRows, params: Params, work: Work) -> Part:
    """Evaluate and generate what the keys need, divide the rows, insert each shard's with one statement."""
    keyspace = work.map.keyspaces[plan.keyspace]
    filled = await _fill(plan, params, work)
    divided: dict[ShardId, list[int]] = {}
    for number, row in enumerate(plan.rows_):
        key = await _key(row.key, filled, plan, params, work)
        divided.setdefault(shard_of(key, keyspace, inserts=True).id, []).append(number)
    by_group = shards_by_group(divided, all_shards(work))

    async def in_group(group: GroupId) -> list[tuple[Sequence[int], Part]]:
        link = await work.tx.branch(group)
        parts: list[tuple[Sequence[int], Part]] = []
        for shard in by_group[group]:
            rows = [plan.rows_[number] for number in divided[shard]]
            sql, numbers = render(plan, shard, rows, filled)
            parts.append((divided[shard], await link.part(sql, params.select(numbers))))
        return parts

    answers = await side_by_side(by_group, in_group, limit=work.bounds.parallel)
    return in_order([part for parts in answers.values() for part in parts])


async def _fill(plan: InsertRows, params: Params, work: Work) -> Filled:
    values: dict[int, str | None] = {}
    plain: list[Expr] = []
    for row in plan.rows_:
        for source in (*row.parts, *row.key):
            if id(source) in values:
                continue
            if isinstance(source, NewId):
                values[id(source)] = str(work.ids.next())
            elif isinstance(source, Expr):
                values[id(source)] = None
                if source.params or source.zero or source.reads:
                    values[id(source)] = await _evaluated(source, params.select(source.params), work)
                else:
                    plain.append(source)
    if plain:
        link = await work.tx.branch(work.somewhere, write=False)
        sql = "SELECT " + ", ".join(f"({source.sql})::text" for source in plain)
        answer = await link.texts(sql, work.nothing)
        values.update({id(source): text for source, text in zip(plain, answer.rows[0], strict=True)})
    return Filled(values)


async def _evaluated(source: Expr, params: Params, work: Work) -> str | None:
    sql = f"SELECT ({source.sql})::text"
    if source.reads:
        where = work.groups[:1] if source.zero else work.groups
        async with work.tx.federated(where, source.reads) as link:
            return (await link.texts(sql, params)).rows[0][0]
    # group 0's sequences are its own: what a volatile function did there must commit with the rest
    link = await work.tx.branch(GroupId(0) if source.zero else work.somewhere, write=False)
    return (await link.texts(sql, params)).rows[0][0]


async def _key(
    sources: Sequence[KeySource], filled: Filled, plan: InsertRows, params: Params, work: Work
) -> Key:
    keyspace = work.map.keyspaces[plan.keyspace]
    values: list[object] = []
    for source, kind in zip(sources, keyspace.key_types, strict=True):
        try:
            if isinstance(source, Param):
                values.append(params.key(source.number, kind))
                continue
            text = source.text if isinstance(source, Const) else filled.text(source)
            values.append(None if text is None else keys.decode_text(kind, text))
        except keys.Undecodable:
            if isinstance(source, Param):
                text = await evaluated(f"$1::{kind}", params.select((source.number,)), work)
            else:
                text = source.text if isinstance(source, Const) else filled.text(source)
                text = await evaluated(f"{quoted(text)}::{kind}", work.nothing, work)
            values.append(canonical(kind, text))
    if None in values:
        raise null_in_key(values, plan.table)
    return tuple(values)


def render(
    plan: InsertRows, shard: ShardId, rows: Sequence[InsertRow], filled: Filled
) -> tuple[str, tuple[int, ...]]:
    """One shard's statement, and the numbers of the parameters that it uses, in their new order."""
    numbers: dict[int, int] = {}

    def piece(part: str | Param | NewId | Expr) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, Param):
            return f"${numbers.setdefault(part.number, len(numbers) + 1)}"
        return quoted(filled.text(part))

    values = ", ".join("".join(map(piece, row.parts)) for row in rows)
    sql = plan.head.for_shard(shard) + values + "".join(map(piece, plan.tail))
    return sql, tuple(numbers)


async def insert_select(plan: InsertSelect, params: Params, work: Work) -> Part:
    """Read the source first, all of it (it may read the target), then insert its rows shard by shard in batches."""
    rows = (await texts_of(cast(AnyPlan, plan.source), params, work)).rows
    part = await insert_rows_text(plan.head.pieces, rows, plan.columns, plan.table, plan.tail, work)
    if part is None and plan.rows:
        shard = work.map.keyspace_of(plan.table).shards[0]
        head = plan.head.for_shard(shard.id)
        part = await insert_nothing(head, shard.group, plan.columns, plan.tail, work)
    return part or Part(rows=[], tag="INSERT 0 0")
