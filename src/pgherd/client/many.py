"""executemany and copy_records_to_table: many argument lists or records, divided over shards."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from pgherd.catalog import keys
from pgherd.catalog.model import GroupId, Key, ShardId, Table, physical_schema
from pgherd.client import statements
from pgherd.client.link import AsyncpgLink, PythonParams
from pgherd.engine.execute import execute
from pgherd.engine.references import entered
from pgherd.engine.route import canonical, evaluated, locate_slowly, shard_of
from pgherd.engine.scatter import all_shards, shards_by_group
from pgherd.engine.work import Work, name_text, side_by_side
from pgherd.plan.plans import (
    AnyPlan,
    Const,
    Expr,
    InsertRows,
    KeySource,
    NewId,
    OneGroup,
    Param,
    ReferenceWrite,
    Single,
)

if TYPE_CHECKING:
    from pgherd.client.database import Database
    from pgherd.client.transaction import Transaction

Args = Sequence[Any]
Texts = dict[GroupId, dict[str, list[Args]]]  # each group's statements with their argument lists
RECORDS = 20_000  # records divided at a time: bounds memory


async def execute_many(db: Database, query: str, lists: list[Args]) -> None:
    """One statement for many argument lists, in a transaction of its own or the current one; all or none."""
    if not lists:
        return
    transaction = db.active
    if transaction is not None:
        async with transaction.stepping():
            await in_transaction(transaction, query, lists)
        return
    async with db.alone() as own:
        await in_transaction(own, query, lists)


async def in_transaction(transaction: Transaction, query: str, lists: list[Args]) -> None:
    """As `execute_many`, inside an open transaction."""
    plan = await transaction.planned(query)
    statements.check(plan, in_transaction=True)
    work = await transaction.work()
    if isinstance(plan, ReferenceWrite):
        work = await entered(plan.table, work)
    texts = await _texts(plan, lists, work)
    if texts is None:
        for args in lists:
            await execute(plan, PythonParams(args), await transaction.work(args))
        return

    async def in_group(group: GroupId) -> None:
        link = await work.tx.branch(group, write=plan.write)
        assert isinstance(link, AsyncpgLink)
        for text, some in texts[group].items():
            await link.many(text, some)

    if isinstance(plan, ReferenceWrite):
        first = min(texts)
        await in_group(first)  # its row locks put all writers in one queue
        texts.pop(first)
    if texts:
        await side_by_side(sorted(texts), in_group, limit=work.bounds.parallel)


async def _texts(plan: AnyPlan, lists: list[Args], work: Work) -> Texts | None:
    """Each group's texts with their argument lists; None: one list after another."""
    if isinstance(plan, OneGroup):
        return {work.somewhere if plan.group is None else plan.group: {plan.sql: lists}}
    if isinstance(plan, ReferenceWrite) and plan.mode == "text":
        return {group: {plan.sql: lists} for group in work.groups}
    if isinstance(plan, InsertRows):
        return _generated(plan, lists, work)
    if not isinstance(plan, Single):
        return None
    keyspace = work.map.keyspaces[plan.keyspace]
    texts: Texts = {}
    for args in lists:
        shard = await locate_slowly(plan, PythonParams(args), keyspace, work)
        texts.setdefault(shard.group, {}).setdefault(plan.text.for_shard(shard.id), []).append(args)
    return texts


def _generated(plan: InsertRows, lists: list[Args], work: Work) -> Texts | None:
    """INSERT of one row whose key is (partly) generated: the new ids travel as further arguments."""
    if len(plan.rows_) != 1 or any(
        isinstance(part, Expr) for part in (*plan.rows_[0].parts, *plan.rows_[0].key)
    ):
        return None
    row = plan.rows_[0]
    keyspace = work.map.keyspaces[plan.keyspace]
    new = list({id(part): part for part in row.parts if isinstance(part, NewId)}.values())
    texts: Texts = {}
    for args in lists:
        ids = {id(part): str(work.ids.next()) for part in new}
        try:
            key = tuple(
                _given(source, kind, args, ids)
                for source, kind in zip(row.key, keyspace.key_types, strict=True)
            )
        except keys.Undecodable:
            return None
        shard = shard_of(None if None in key else key, keyspace, inserts=True)
        sql = _one_row(plan, shard.id, new, len(args))
        texts.setdefault(shard.group, {}).setdefault(sql, []).append(
            (*args, *(int(text) for text in ids.values()))
        )
    return texts


def _given(source: KeySource, kind: str, args: Args, ids: dict[int, str]) -> Any:
    if isinstance(source, Param):
        return PythonParams(args).key(source.number, kind)
    text = source.text if isinstance(source, Const) else ids[id(source)]
    return None if text is None else keys.decode_text(kind, text)


def _one_row(plan: InsertRows, shard: ShardId, new: list[NewId], given: int) -> str:
    """The row's text with its own parameters as they are, and generated ids as parameters after them."""
    numbers = {id(part): given + at for at, part in enumerate(new, 1)}

    def piece(part: str | Param | NewId | Expr) -> str:
        if isinstance(part, str):
            return part
        return f"${part.number}" if isinstance(part, Param) else f"${numbers[id(part)]}::bigint"

    return plan.head.for_shard(shard) + "".join(map(piece, (*plan.rows_[0].parts, *plan.tail)))


# ---- records by COPY ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table to copy into, and the columns that records have."""

    table: str
    schema: str | None
    columns: tuple[str, ...] | None


Records = Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]]


async def copy_records(transaction: Transaction, target: Target, records: Records) -> int:
    """COPY records into a table of any kind; the number of records."""
    table = transaction.db.map.find(target.table, target.schema, transaction.db.options.path)
    if table is None:
        raise asyncpg.UndefinedTableError(f'relation "{target.table}" does not exist')
    columns = target.columns or tuple(column.name for column in table.columns if not column.generated)
    total = 0
    async for some in _chunks(records):
        work = await transaction.work()
        total += len(some)
        if table.kind == "distributed":
            await _copy_divided(table, columns, some, work)
        else:
            await _copy_whole(table, columns, some, work)
    return total


async def _chunks(records: Records) -> AsyncIterator[list[Args]]:
    held: list[Args] = []
    if isinstance(records, AsyncIterable):
        async for record in records:
            held.append(record)
            if len(held) >= RECORDS:
                yield held
                held = []
    else:
        for record in records:
            held.append(record)
            if len(held) >= RECORDS:
                yield held
                held = []
    if held:
        yield held


async def _copy_whole(table: Table, columns: Sequence[str], records: list[Args], work: Work) -> None:
    groups: tuple[GroupId, ...] = (GroupId(0),)
    if table.kind == "reference":
        work = await entered(table, work)
        groups = work.groups
    for group in groups:
        link = await work.tx.branch(group)
        assert isinstance(link, AsyncpgLink)
        await link.records(table.schema, table.name, columns, records)


async def _copy_divided(table: Table, columns: Sequence[str], records: list[Args], work: Work) -> None:
    columns, records = _with_ids(table, columns, records, work)
    keyspace = work.map.keyspace_of(table)
    missing = [name for name in table.key if name not in columns]
    if missing:
        raise asyncpg.InterfaceError(f"records lack the shard key's column {name_text(missing[0])}")
    at = [columns.index(name) for name in table.key]
    divided: dict[ShardId, list[Args]] = {}
    for record in records:
        shard = shard_of(await _key(record, at, keyspace.key_types, work), keyspace, inserts=True)
        divided.setdefault(shard.id, []).append(record)
    by_group = shards_by_group(divided, all_shards(work))

    async def in_group(group: GroupId) -> None:
        link = await work.tx.branch(group)
        assert isinstance(link, AsyncpgLink)
        for shard in by_group[group]:
            schema = physical_schema(f"shard_{shard}", table.schema)
            await link.records(schema, table.name, columns, divided[shard])

    await side_by_side(by_group, in_group, limit=work.bounds.parallel)


def _with_ids(
    table: Table, columns: Sequence[str], records: list[Args], work: Work
) -> tuple[Sequence[str], list[Args]]:
    """Generate the key's identity column if the records lack it: the route depends on it."""
    new = [
        name
        for name in table.key
        if name not in columns and (found := table.column(name)) is not None and found.cluster_id
    ]
    if not new:
        return columns, records
    return [*columns, *new], [(*record, *(work.ids.next() for _ in new)) for record in records]


async def _key(record: Args, at: Sequence[int], kinds: Sequence[str], work: Work) -> Key | None:
    values: list[Any] = []
    for index, kind in zip(at, kinds, strict=True):
        value = record[index]
        try:
            values.append(None if value is None else keys.decode_python(kind, value))
        except keys.Undecodable:
            values.append(canonical(kind, await evaluated(f"$1::{kind}", PythonParams((value,)), work)))
    return None if None in values else tuple(values)
