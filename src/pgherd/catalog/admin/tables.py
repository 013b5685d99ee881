"""Change what kind of table a table is, with its rows, locked meanwhile."""

from __future__ import annotations

from typing import Any

from pgherd.catalog import naming
from pgherd.catalog.admin.arguments import Arguments, table_argument
from pgherd.catalog.admin.shards import carry, in_shard, stored, whole_texts
from pgherd.catalog.ddl.change import HOME, Change
from pgherd.catalog.ddl.rules import check_foreign_keys, check_key, new_keyspace, place
from pgherd.catalog.ddl.tables import registration, single_texts, with_key_hint
from pgherd.catalog.ddl.views import rebuild_views
from pgherd.catalog.model import KeyspaceId, Shard, Table, physical_schema
from pgherd.catalog.store import load
from pgherd.catalog.text import call, identifier, literal, qualified
from pgherd.errors import BadSetting, NullKey, Refused, ServerError

_ASIDE = "pgherd_aside"


async def reference(change: Change, arguments: Arguments) -> None:
    """CALL pgherd.reference(table): a full copy in every group."""
    table = await table_argument(change, arguments)
    if table.kind == "reference":
        change.work.notice(f'"{table.name}" is a reference table already')
        return
    shape = await _locked_single(change, table, "a reference table")
    me = Table(schema=table.schema, name=table.name, kind="reference", columns=table.columns)
    check_foreign_keys(change.cluster, shape, me)
    await _refuse_triggers(change, table)
    schema, name = literal(table.schema), literal(table.name)
    text = (await change.run_home(call("table_text", schema, name)))[0][0] or ""
    drop = call("drop_relation", literal(physical_schema("global", table.schema)), name)
    register = call("register_table", schema, name, "'reference'", "NULL", "NULL")
    await change.run_home(drop, register)
    await change.elsewhere(drop, text, register)
    full_name = qualified(table.schema, table.name)
    for done, group in enumerate(change.others):
        change.work.progress(f"copy {table.name} to every group", done, len(change.others))
        receiver = await change.branch(group)
        chunks = change.home.copy_out(f"COPY {full_name} ({stored(table)}) TO STDOUT")
        await receiver.copy_in(f"COPY {full_name} ({stored(table)}) FROM STDIN", chunks)
    await _finish(change)


async def _finish(change: Change) -> None:
    change.cluster = await load(change.home)
    await rebuild_views(change)
    await change.everywhere(change.new_epoch())


async def _locked_single(change: Change, table: Table, wish: str) -> dict[str, Any]:
    if table.kind != "single":
        hint = f"CALL pgherd.undistribute('{table.name}') first." if table.kind == "distributed" else None
        raise Refused(
            f'"{table.name}" is a {table.kind} table or view; only a single table can become {wish}',
            hint=hint,
        )
    full_name = qualified(table.schema, table.name)
    shape = await change.inspect(name=full_name)
    if shape["relkind"] != "r":
        raise Refused(f'"{table.name}" is not an ordinary table')
    return await change.inspect(
        f"LOCK TABLE {full_name} IN ACCESS EXCLUSIVE MODE", "SET LOCAL row_security = off", name=full_name
    )


async def _refuse_triggers(change: Change, table: Table) -> None:
    rows = await change.run_home(
        "SELECT tgname FROM pg_catalog.pg_trigger WHERE NOT tgisinternal"
        f" AND tgrelid = {literal(qualified(table.schema, table.name))}::regclass"
    )
    if rows:
        raise Refused(
            f'trigger "{rows[0][0]}": a reference table cannot have triggers',
            hint="They would fire once in every group. Drop it first.",
        )


async def distribute(change: Change, arguments: Arguments) -> None:
    """CALL pgherd.distribute(table, by => 'range' | 'hash', key => 'a, b', shards => n)."""
    table = await table_argument(change, arguments)
    strategy = naming.strategy(arguments.text("by"))
    key = await naming.key(change.run_home, table, arguments.text("key"))
    await _refuse_dependents(change, table, await _locked_single(change, table, "a distributed table"))
    await _refuse_null_keys(change, table, key)
    text = await _to_template(change, table, strategy, key)
    shape = await change.inspect(name=qualified(table.schema, table.name))
    check_key(shape)
    shards = await _register(change, shape, text, arguments.optional_number("shards"))
    await _load(change, table, shards)
    aside = qualified(_ASIDE, table.name)
    await change.run_home(f"DROP TABLE {aside}")
    now = change.cluster.tables[table.schema, table.name]
    await change.everywhere(*whole_texts([now]))
    await change.run_home(call("veil", literal(table.schema), literal(table.name)))
    await _finish(change)


async def _refuse_dependents(change: Change, table: Table, shape: dict[str, Any]) -> None:
    views = (await change.run_home(call("dependent_views", literal(qualified(table.schema, table.name)))))[0][
        0
    ]
    if views:
        raise Refused(
            f'views read "{table.name}": {views}', hint="Drop them, and create them again afterwards."
        )
    me = (table.schema, table.name)
    for fk in shape["foreign_keys"]:
        source = (fk["from_schema"], fk["from_name"])
        if source not in (me,) and (fk["to_schema"], fk["to_name"]) == me:
            raise Refused(
                f'foreign key "{fk["name"]}" of "{fk["from_name"]}" refers to "{table.name}"',
                hint="Drop the foreign key, distribute both tables by the same key, and add it again.",
            )


async def _refuse_null_keys(change: Change, table: Table, key: tuple[str, ...]) -> None:
    missing = " OR ".join(f"{identifier(name)} IS NULL" for name in key)
    rows = await change.run_home(
        f"SELECT EXISTS (SELECT FROM {qualified(table.schema, table.name)} WHERE {missing})"
    )
    if rows[0][0] == "t":
        raise NullKey(
            f'"{table.name}" has rows without a value in its key',
            hint="Every row of a distributed table needs one: update or delete them.",
        )


async def _to_template(change: Change, table: Table, strategy: str, key: tuple[str, ...]) -> str:
    """Put the table aside on group 0 and an empty template in its place; answers the template's text for the other groups."""
    schema, name = literal(table.schema), literal(table.name)
    partition = f"{strategy.upper()} ({', '.join(identifier(column) for column in key)})"
    text = (await change.run_home(call("table_text", schema, name, literal(partition))))[0][0] or ""
    drop = call("drop_relation", literal(physical_schema("global", table.schema)), name)
    await change.everywhere(drop)
    try:
        await change.run_home(call("set_aside", schema, name), text)
    except ServerError as error:
        raise with_key_hint(error) from None
    return text


async def _register(change: Change, shape: dict[str, Any], text: str, count: int | None) -> tuple[Shard, ...]:
    placement = place(change.cluster, shape, change.work.groups)
    if count is not None:
        if placement.strategy != "hash" or count < 1:
            raise BadSetting(
                "pgherd.distribute: shards is a positive number, for by => 'hash'",
                hint="Range keyspaces begin with one shard; CALL pgherd.split(...) cuts it.",
            )
        placement = new_keyspace(
            change.cluster,
            shape["name"],
            "hash",
            placement.key,
            placement.key_types,
            change.work.groups,
            count,
        )
    ids = {keyspace.name: keyspace.id for keyspace in change.cluster.keyspaces.values()}
    me = Table(
        schema=shape["schema"],
        name=shape["name"],
        kind="distributed",
        key=placement.key,
        keyspace=ids.get(placement.keyspace, KeyspaceId(-1)),
    )
    check_foreign_keys(change.cluster, shape, me)
    bare = call("sync_table", literal(me.schema), literal(me.name), "'bare'")
    texts = [*registration(placement, change, shape), bare]
    await change.run_home(*texts)
    await change.elsewhere(text, *texts)
    change.cluster = await load(change.home)
    return change.cluster.keyspace_of(change.cluster.tables[me.schema, me.name]).shards


async def _load(change: Change, table: Table, shards: tuple[Shard, ...]) -> None:
    aside, columns = qualified(_ASIDE, table.name), stored(table)
    moved = 0
    for done, shard in enumerate(shards):
        change.work.progress(f"distribute {table.name}", done, len(shards))
        condition = (
            await change.run_home(
                call("shard_condition", literal(table.schema), literal(table.name), str(shard.id))
            )
        )[0][0]
        rows = f"SELECT {columns} FROM {aside} WHERE {condition or 'true'}"
        if shard.group == HOME:
            text = f"WITH moved AS (INSERT INTO {in_shard(table, shard.id)} ({columns}) {rows} RETURNING 1) SELECT count(*) FROM moved"
            moved += int((await change.run_home(text))[0][0] or 0)
        else:
            moved += await carry(change, table, f"({rows})", HOME, shard.id, shard.group)
    total = int((await change.run_home(f"SELECT count(*) FROM {aside}"))[0][0] or 0)
    if total != moved:
        raise Refused(
            f'"{table.name}" has {total} rows, but {moved} found a shard',
            hint="Nothing was changed. Please report this.",
        )


async def undistribute(change: Change, arguments: Arguments) -> None:
    """CALL pgherd.undistribute(table): a single table in group 0 again."""
    table = await table_argument(change, arguments)
    if table.kind != "distributed":
        raise Refused(f'"{table.name}" is not a distributed table')
    full_name, schema, name = qualified(table.schema, table.name), literal(table.schema), literal(table.name)
    shape = await change.inspect(name=full_name)
    await _refuse_dependents(change, table, shape)
    check_foreign_keys(change.cluster, shape, Table(schema=table.schema, name=table.name, kind="single"))
    shards = change.cluster.keyspace_of(table).shards
    text = (await change.run_home(call("table_text", schema, name, "''")))[0][0] or ""
    await change.everywhere("SET LOCAL row_security = off")
    await change.run_home(call("set_aside", schema, name), text)
    for done, shard in enumerate(shards):
        change.work.progress(f"gather {table.name}", done, len(shards))
        await _gather(change, table, shard)
    await change.run_home(
        call("forget_physical", schema, name), f"DROP TABLE {qualified(_ASIDE, table.name)}"
    )
    await change.elsewhere(call("forget", schema, name))
    await change.everywhere(*single_texts(await change.inspect(name=full_name)))
    await _finish(change)


async def _gather(change: Change, table: Table, shard: Shard) -> None:
    source, target, columns = in_shard(table, shard.id), qualified(table.schema, table.name), stored(table)
    link = await change.branch(shard.group)
    await link.run(f"LOCK TABLE ONLY {source} IN ACCESS EXCLUSIVE MODE")
    if shard.group == HOME:
        await change.run_home(
            f"INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {source}"
        )
        return
    await change.home.copy_in(
        f"COPY {target} ({columns}) FROM STDIN", link.copy_out(f"COPY {source} ({columns}) TO STDOUT")
    )
