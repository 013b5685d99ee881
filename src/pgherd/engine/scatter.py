"""Writes that several shards or groups carry out side by side: Scatter, OnAll, and rows that move (MoveRows)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgherd.catalog import keys
from pgherd.catalog.model import GroupId, Key, Keyspace, Shard, ShardId, Table
from pgherd.engine import abroad
from pgherd.engine.gather import with_rows
from pgherd.engine.link import Link, Params, Part, Row, TextRows
from pgherd.engine.references import entered
from pgherd.engine.route import canonical, evaluated, shard_of
from pgherd.engine.work import Work, merged, quoted, side_by_side
from pgherd.errors import NullKey, StaleMap, TooLarge
from pgherd.plan.plans import MoveRows, OnAll, Scatter


def shards_by_group(
    shards: Iterable[ShardId], keyspace_shards: dict[ShardId, Shard]
) -> dict[GroupId, list[ShardId]]:
    """The shards of each group, groups and shards ascending (one order for all writers: fewer deadlocks)."""
    found: dict[GroupId, list[ShardId]] = {}
    for shard in sorted(shards):
        if shard not in keyspace_shards:
            raise StaleMap(f"shard {shard} is not in the map")
        found.setdefault(keyspace_shards[shard].group, []).append(shard)
    return dict(sorted(found.items()))


def all_shards(work: Work) -> dict[ShardId, Shard]:
    """Every shard of the map by its id."""
    return {shard.id: shard for keyspace in work.map.keyspaces.values() for shard in keyspace.shards}


async def scatter(plan: Scatter, params: Params, work: Work) -> Part:
    """The same write in every shard; one group's shards one after another, groups side by side."""
    if plan.combine is not None:
        link, sql, own = await merging(plan, params, work)
        return await link.part(sql, own)
    by_group = shards_by_group(plan.shards, all_shards(work))
    links = (
        await abroad.branches(work, list(by_group), plan.reads, epoch=plan.epoch, write=plan.write)
        if plan.reads
        else {}
    )

    async def in_group(group: GroupId) -> Part:
        link = links[group] if links else await work.tx.branch(group, write=plan.write)
        return merged([await link.part(plan.text.for_shard(shard), params) for shard in by_group[group]])

    parts = await side_by_side(by_group, in_group, limit=work.bounds.parallel)
    return merged(list(parts.values()))


async def shard_texts(plan: Scatter, params: Params, work: Work) -> list[TextRows]:
    """Each shard's rows in text form."""
    by_group = shards_by_group(plan.shards, all_shards(work))

    async def in_group(group: GroupId) -> list[TextRows]:
        link = await work.tx.branch(group, write=plan.write)
        return [await link.texts(plan.text.for_shard(shard), params) for shard in by_group[group]]

    found = await side_by_side(by_group, in_group, limit=work.bounds.parallel)
    return [one for parts in found.values() for one in parts]


async def merging(plan: Scatter, params: Params, work: Work) -> tuple[Link, str, Params]:
    """Lock rows in every shard; answers where, with what and with which parameters they are merged."""
    assert plan.combine is not None
    parts = await shard_texts(plan, params, work)
    if sum(len(part.rows) for part in parts) > work.bounds.held_rows:
        raise TooLarge(
            f"more than {work.bounds.held_rows} rows to lock and sort",
            hint="Leave out ORDER BY, or use LIMIT.",
        )
    link = await work.tx.branch(all_shards(work)[plan.shards[0]].group, write=True)
    return link, with_rows(plan.combine, parts), params.select(plan.combine_params)


async def on_all(plan: OnAll, params: Params, work: Work) -> Part:
    """The given text in each group. Group 0 goes first: its locks put concurrent ones in a queue.

    The answer is the first group's: the same thing was done everywhere, so its count is not summed.
    """
    texts = dict(plan.sql)
    first, *others = sorted(texts)
    for table in plan.references:
        if (await entered(table, work)).groups != work.groups:
            raise StaleMap("groups were added or removed meanwhile", hint="Run the transaction again.")

    async def in_group(group: GroupId) -> Part:
        link = await work.tx.branch(group, write=plan.write)
        return await link.part(texts[group], params)

    answer = await in_group(first)
    if others:
        await side_by_side(others, in_group, limit=work.bounds.parallel)
    return answer


async def move_rows(plan: MoveRows, params: Params, work: Work) -> Part:
    """DELETE ... RETURNING the new rows in every shard, then INSERT each where its new key belongs."""
    by_group = shards_by_group(plan.shards, all_shards(work))

    async def take(group: GroupId) -> list[Row]:
        link = await work.tx.branch(group)
        return [
            row
            for shard in by_group[group]
            for row in (await link.texts(plan.take.for_shard(shard), params)).rows
        ]

    taken = await side_by_side(by_group, take, limit=work.bounds.parallel)
    rows = [row for part in taken.values() for row in part]
    if not rows:
        return await _none_moved(plan, by_group, work)
    put = plan.put.pieces
    part = await insert_rows_text(put, rows, plan.columns, plan.table, plan.returning, work)
    assert part is not None
    return Part(rows=part.rows, tag=f"UPDATE {part.count}", columns=part.columns)


async def _none_moved(plan: MoveRows, by_group: dict[GroupId, list[ShardId]], work: Work) -> Part:
    if not plan.returning:
        return Part(rows=[], tag="UPDATE 0")
    group, shards = next(iter(by_group.items()))
    part = await insert_nothing(plan.put.for_shard(shards[0]), group, plan.columns, plan.returning, work)
    return Part(rows=[], tag="UPDATE 0", columns=part.columns)


async def insert_nothing(head: str, group: GroupId, columns: Sequence[str], tail: str, work: Work) -> Part:
    """An INSERT of no rows: it describes the RETURNING columns of an answer that has none."""
    link = await work.tx.branch(group)
    nulls = ", ".join("NULL" for _ in columns)
    return await link.part(f"{head} SELECT {nulls} WHERE false {tail}", work.nothing)


# ---- rows in text form into their shards ----------------------------------------------------------------


async def key_of_row(
    row: Sequence[str | None], at: Sequence[int], keyspace: Keyspace, work: Work
) -> Key | None:
    """The canonical key of a row in text form; a server reads what Python cannot."""
    values: list[object] = []
    for index, kind in zip(at, keyspace.key_types, strict=True):
        text = row[index]
        try:
            values.append(None if text is None else keys.decode_text(kind, text))
        except keys.Undecodable:
            values.append(canonical(kind, await evaluated(f"{quoted(text)}::{kind}", work.nothing, work)))
    return None if None in values else tuple(values)


async def rows_by_shard(
    rows: Iterable[Row], columns: Sequence[str], table: Table, work: Work
) -> dict[ShardId, list[tuple[int, Row]]]:
    """Numbered rows divided by shard key, each shard's in their order. Raises NullKey, NoShard."""
    keyspace = work.map.keyspace_of(table)
    at = [columns.index(name) for name in table.key]
    divided: dict[ShardId, list[tuple[int, Row]]] = {}
    for number, row in enumerate(rows):
        key = await key_of_row(row, at, keyspace, work)
        if key is None:
            raise null_in_key([row[index] for index in at], table)
        divided.setdefault(shard_of(key, keyspace, inserts=True).id, []).append((number, row))
    return divided


def null_in_key(values: Sequence[object], table: Table) -> NullKey:
    """The error for a new row whose shard key holds a NULL."""
    column = next(name for name, value in zip(table.key, values, strict=True) if value is None)
    return NullKey(
        f'null value in column "{column}" of relation "{table.name}" violates not-null constraint',
        hint="It is part of the shard key: give it a value.",
    )


async def insert_rows_text(
    pieces: tuple[str, ...], rows: Iterable[Row], columns: Sequence[str], table: Table, tail: str, work: Work
) -> Part | None:
    """INSERT rows in text form into their shards, in batches of bounded size. None if there are no rows."""
    divided = await rows_by_shard(rows, columns, table, work)
    by_group = shards_by_group(divided, all_shards(work))

    async def put(group: GroupId) -> list[tuple[Sequence[int], Part]]:
        link = await work.tx.branch(group)
        parts: list[tuple[Sequence[int], Part]] = []
        for shard in by_group[group]:
            head = f"shard_{shard}".join(pieces)
            texts = batches([row for _, row in divided[shard]], work)
            whole = merged(
                [await link.part(f"{head} VALUES {values} {tail}", work.nothing) for values in texts]
            )
            parts.append(([number for number, _ in divided[shard]], whole))
        return parts

    answers = await side_by_side(by_group, put, limit=work.bounds.parallel)
    return in_order([part for parts in answers.values() for part in parts]) if answers else None


def in_order(parts: Sequence[tuple[Sequence[int], Part]]) -> Part:
    """Divided INSERTs as one, what RETURNING answers in the order of the rows that were given, by their numbers: clients count
    on it. Where ON CONFLICT left rows out, it cannot be told which ones, and the rows stay in the shards' order."""
    whole = merged([part for _, part in parts])
    if any(len(numbers) != len(part.rows) for numbers, part in parts):
        return whole
    numbered = [pair for numbers, part in parts for pair in zip(numbers, part.rows, strict=True)]
    numbered.sort(key=lambda pair: pair[0])
    return Part(rows=[row for _, row in numbered], tag=whole.tag, columns=whole.columns)


def batches(rows: Sequence[Row], work: Work) -> Iterable[str]:
    """VALUES lists of bounded length."""
    held: list[str] = []
    size = 0
    for row in rows:
        text = "(" + ", ".join(map(quoted, row)) + ")"
        held.append(text)
        size += len(text)
        if len(held) >= work.bounds.batch_rows or size >= work.bounds.batch_bytes:
            yield ", ".join(held)
            held, size = [], 0
    if held:
        yield ", ".join(held)
