"""Split and move shards, locked meanwhile: rows travel inside the one transaction that changes the map."""

from __future__ import annotations

from typing import Any

from pgherd.catalog import naming
from pgherd.catalog.admin.arguments import Arguments, table_argument
from pgherd.catalog.ddl.change import Change, dumps
from pgherd.catalog.model import GroupId, Key, Keyspace, Shard, Table
from pgherd.catalog.text import call, identifier, literal, qualified
from pgherd.errors import Refused


def tables_of(change: Change, keyspace: Keyspace) -> list[Table]:
    """The distributed tables of a keyspace, in a fixed order."""
    found = [table for table in change.cluster.tables.values() if table.keyspace == keyspace.id]
    return sorted(found, key=lambda table: (table.schema, table.name))


def bare_texts(tables: list[Table]) -> list[str]:
    """The texts that make the physical tables without keys and triggers, so that rows can be loaded in any order."""
    return [call("sync_table", literal(t.schema), literal(t.name), "'bare'") for t in tables]


def whole_texts(tables: list[Table]) -> list[str]:
    """The texts that finish the physical tables: all unique keys before the first foreign key."""
    return [
        call("sync_table", literal(table.schema), literal(table.name), literal(phase))
        for phase in ("keys", "all")
        for table in tables
    ]


def stored(table: Table) -> str:
    """The columns that hold what somebody stored, as a list for SQL."""
    return ", ".join(identifier(column.name) for column in table.columns if not column.generated)


def in_shard(table: Table, shard: int) -> str:
    """The table's name in a shard."""
    return qualified(
        f"shard_{shard}" if table.schema == "public" else f"shard_{shard}_{table.schema}", table.name
    )


async def split(change: Change, arguments: Arguments) -> None:
    """CALL pgherd.split(table, point …), or for a hash keyspace split(table, shard)."""
    table = naming.distributed(await table_argument(change, arguments))
    keyspace = change.cluster.keyspace_of(table)
    if "point" not in arguments.values:
        raise Refused(
            "where to split must be said inside a transaction, or when it is done at once",
            hint="By itself, with offline => false, it finds the middle of the rows.",
        )
    if keyspace.strategy == "hash":
        shard = naming.shard_of(change.cluster, table, arguments.number("point"))
        await replace(change, keyspace, shard, _halves_of_hash(change, shard))
        return
    point = await naming.point(change.run_home, keyspace, [arguments.text("point"), *arguments.rest])
    shard = naming.cut_by(keyspace, point)
    await replace(change, keyspace, shard, _halves_of_range(change, keyspace, shard, point))


def _halves_of_range(change: Change, keyspace: Keyspace, shard: Shard, point: Key) -> list[dict[str, Any]]:
    bounds = [(shard.lower, point), (point, shard.upper)]
    return [
        {
            "id": change.next_shard + number, "group_id": shard.group,
            "range_start": lower and naming.texts_of(keyspace, lower),
            "range_end": upper and naming.texts_of(keyspace, upper),
        }
        for number, (lower, upper) in enumerate(bounds)
    ]  # fmt: skip


def _halves_of_hash(change: Change, shard: Shard) -> list[dict[str, Any]]:
    return [
        {
            "id": change.next_shard + number, "group_id": shard.group, "modulus": 2 * shard.modulus,
            "remainder": shard.remainder + number * shard.modulus,
        }
        for number in range(2)
    ]  # fmt: skip


async def replace(change: Change, keyspace: Keyspace, old: Shard, new: list[dict[str, Any]]) -> None:
    """Retire a shard in favour of new ones in the same group; its rows move over, on the server itself."""
    tables = tables_of(change, keyspace)
    name = literal(keyspace.name)
    await change.everywhere(
        call("detach_shard", str(old.id)), call("remove_shard", str(old.id)), call("add_shards", name, dumps(new)),
        *bare_texts(tables),
    )  # fmt: skip
    for done, table in enumerate(tables):
        change.work.progress(f"split shard {old.id}", done, len(tables))
        whole = qualified("global" if table.schema == "public" else f"global_{table.schema}", table.name)
        columns = stored(table)
        text = f"INSERT INTO {whole} ({columns}) SELECT {columns} FROM {in_shard(table, old.id)}"
        await change.run((old.group,), f"SET LOCAL row_security = off;\n{text}")
    await change.everywhere(*whole_texts(tables), call("drop_shard_schemas", str(old.id)), change.new_epoch())


async def move(change: Change, arguments: Arguments) -> None:
    """CALL pgherd.move(shard, group)."""
    shard = naming.shard(change.cluster, arguments.number("shard"))
    target = naming.group(change.cluster, arguments.number("group"))
    if shard.group == target:
        change.work.notice(f"shard {shard.id} is in group {target} already")
        return
    tables = tables_of(change, change.cluster.keyspaces[shard.keyspace])
    source = await change.branch(shard.group)
    locks = [f"LOCK TABLE ONLY {in_shard(table, shard.id)} IN ACCESS EXCLUSIVE MODE" for table in tables]
    await source.run(";\n".join(["SET LOCAL row_security = off", *locks]))
    await change.everywhere(call("set_shard_group", str(shard.id), str(target)))
    await change.run((target,), ";\n".join(["SET LOCAL row_security = off", *bare_texts(tables)]))
    for done, table in enumerate(tables):
        change.work.progress(f"move shard {shard.id}", done, len(tables))
        await carry(
            change, table, f"{in_shard(table, shard.id)} ({stored(table)})", shard.group, shard.id, target
        )
    await change.run((shard.group,), call("drop_real", str(shard.id)))
    await change.everywhere(*whole_texts(tables), change.new_epoch())


async def carry(
    change: Change, table: Table, source: str, start: GroupId, shard: int, target: GroupId
) -> int:
    """Copy the rows of `source` (what COPY ... TO takes) from group `start` into the table's shard in group `target`."""
    sender = await change.branch(start)
    receiver = await change.branch(target)
    chunks = sender.copy_out(f"COPY {source} TO STDOUT")
    return await receiver.copy_in(f"COPY {in_shard(table, shard)} ({stored(table)}) FROM STDIN", chunks)
