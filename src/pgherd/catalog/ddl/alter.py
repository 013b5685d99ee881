"""ALTER TABLE, CREATE INDEX, triggers, policies: whatever changes a table that exists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import postgast

from pgherd.catalog.ddl.change import Change, copy_of, name_of, written
from pgherd.catalog.ddl.rules import check_foreign_keys, check_key, wished_keyspace
from pgherd.catalog.ddl.tables import run_and_inspect, single_texts, with_key_hint
from pgherd.catalog.ddl.views import rebuild_views
from pgherd.catalog.model import Table
from pgherd.catalog.text import call, identifier, literal, qualified
from pgherd.errors import Refused, ServerError
from pgherd.sql.tree import find

_types = postgast.pg_query_pb2.AlterTableType
_REFUSED: Final = {
    _types.Value(name): words
    for name, words in {
        "AT_AttachPartition": "ATTACH PARTITION",
        "AT_DetachPartition": "DETACH PARTITION",
        "AT_AddInherit": "INHERIT",
        "AT_DropInherit": "NO INHERIT",
        "AT_AddOf": "OF",
        "AT_DropOf": "NOT OF",
        "AT_SetTableSpace": "SET TABLESPACE",
        "AT_ClusterOn": "CLUSTER ON",
        "AT_SetLogged": "SET LOGGED",
        "AT_SetUnLogged": "SET UNLOGGED",
        "AT_EnableRule": "ENABLE RULE",
        "AT_DisableRule": "DISABLE RULE",
    }.items()
}
_ALTER_TYPE: Final[int] = _types.Value("AT_AlterColumnType")
_SHAPING: Final = frozenset({_ALTER_TYPE, _types.Value("AT_DropColumn")})
_PLAIN_INDEX = "CONCURRENTLY is left out: the definition runs in one transaction over all groups"


async def alter_table(change: Change) -> None:
    """ALTER TABLE in all its forms but RENAME and SET SCHEMA."""
    table = change.find(change.tree.relation)
    if table is None:
        await change.run_home(change.text)
    elif table.kind == "distributed":
        await _alter_distributed(change, table)
    elif table.kind == "reference":
        await _alter_reference(change, table)
    elif table.kind == "view":
        await change.run(change.work.groups if table.on_all else (change.home.group,), change.text)
        await rebuild_views(change, drop=(table,))
        await change.everywhere(change.new_epoch())
    else:
        await _alter_single(change, table)


def _commands(tree: Any) -> list[Any]:
    return [command.alter_table_cmd for command in tree.cmds]


async def _alter_distributed(change: Change, table: Table) -> None:
    for command in _commands(change.tree):
        if command.subtype in _REFUSED:
            raise Refused(
                f"ALTER TABLE ... {_REFUSED[command.subtype]} is not supported for distributed tables",
                hint="pgherd places the shards of a distributed table itself.",
            )
    shape = await run_and_inspect(change, qualified(table.schema, table.name))
    check_key(shape)
    table = await _follow_foreign_key(change, shape, table)
    check_foreign_keys(change.cluster, shape, table)
    after = [*_type_texts(change.tree, table), *sync_texts(table), change.new_epoch()]
    await change.run_home(*after)
    await change.elsewhere(change.text, *after)
    await rebuild_views(change)


async def _follow_foreign_key(change: Change, shape: dict[str, Any], table: Table) -> Table:
    """Dumps and ORMs add foreign keys after the tables: an empty table then joins the keyspace that its key ties it to."""
    wished = wished_keyspace(change.cluster, shape, table)
    full_name = qualified(global_schema(table.schema), table.name)
    if wished is None or await _has_rows(change, table):
        return table
    rekey = call(
        "rekey", literal(table.schema), literal(table.name), literal(change.cluster.keyspaces[wished].name)
    )
    if (await change.run_home(call("dependent_views", literal(full_name))))[0][0]:
        return table  # a materialized view reads it
    await change.everywhere(rekey)
    return replace(table, keyspace=wished)


async def _has_rows(change: Change, table: Table) -> bool:
    """Whether any shard of the table holds a row; they stay locked."""
    here = qualified("here" if table.schema == "public" else f"here_{table.schema}", table.name)
    for group in change.work.groups:
        link = await change.branch(group)
        rows = await link.run(
            f"LOCK TABLE {here} IN ACCESS EXCLUSIVE MODE;\nSELECT EXISTS (SELECT FROM {here})"
        )
        if rows[0][0] == "t":
            return True
    return False


def sync_texts(table: Table) -> list[str]:
    """The texts that bring a distributed table's physical tables in line with its template."""
    arguments = (literal(table.schema), literal(table.name))
    return [call("sync_columns", *arguments), call("sync_table", *arguments)]


def _type_texts(tree: Any, table: Table) -> list[str]:
    """Changes of type, once more for global: only the statement knows their USING."""
    if not any(command.subtype == _ALTER_TYPE for command in _commands(tree)):
        return []
    copy = copy_of(tree)
    kept = [node for node in tree.cmds if node.alter_table_cmd.subtype == _ALTER_TYPE]
    del copy.cmds[:]
    copy.cmds.extend(kept)
    copy.relation.schemaname = global_schema(table.schema)
    copy.relation.relname = table.name
    here = "here" if table.schema == "public" else f"here_{table.schema}"
    return [
        call("drop_relation", literal(here), literal(table.name)),
        call("drop_foreign", literal(table.schema), literal(table.name)),
        written("alter_table_stmt", copy),
    ]


def global_schema(schema: str) -> str:
    """The schema of a user schema's whole tables."""
    return "global" if schema == "public" else f"global_{schema}"


async def _alter_reference(change: Change, table: Table) -> None:
    shape = await run_and_inspect(change, qualified(table.schema, table.name))
    check_foreign_keys(change.cluster, shape, table)
    await change.elsewhere(change.text)
    await change.everywhere(change.new_epoch())


async def _alter_single(change: Change, table: Table) -> None:
    shaping = any(command.subtype in _SHAPING for command in _commands(change.tree))
    if shaping:  # the view global.<name> on group 0 would stand in the way
        await change.run_home(
            call("drop_relation", literal(global_schema(table.schema)), literal(table.name))
        )
    shape = await run_and_inspect(change, qualified(table.schema, table.name))
    check_foreign_keys(change.cluster, shape, table)
    await refresh_single(change, table, shape)


async def refresh_single(change: Change, table: Table, shape: dict[str, Any]) -> None:
    """Make global.<name> of a single table again in every group, and the views that stood on it."""
    await change.everywhere(*single_texts(shape))
    await rebuild_views(change)
    await change.everywhere(change.new_epoch())


async def rename_column(change: Change, table: Table) -> None:
    """ALTER TABLE ... RENAME COLUMN."""
    tree = change.tree
    schema, name = literal(table.schema), literal(table.name)
    if table.kind == "distributed":
        rename = f"RENAME COLUMN {identifier(tree.subname)} TO {identifier(tree.newname)}"
        texts = [call("alter_global", schema, name, literal(rename)), *sync_texts(table)]
        if tree.subname in table.key:
            texts.insert(
                0, call("rename_key_column", schema, name, literal(tree.subname), literal(tree.newname))
            )
        await change.everywhere(change.text, *texts, change.new_epoch())
    elif table.kind == "single":
        await change.run_home(call("drop_relation", literal(global_schema(table.schema)), name))
        shape = await change.inspect(change.text, name=qualified(table.schema, table.name))
        await refresh_single(change, table, shape)
    else:
        await change.run(change.work.groups if table.on_all else (change.home.group,), change.text)
        await rebuild_views(change, drop=(table,) if table.kind == "view" else ())
        await change.everywhere(change.new_epoch())


async def rename_table(change: Change, table: Table) -> None:
    """ALTER TABLE (or VIEW) ... RENAME TO."""
    old, new = literal(table.name), literal(change.tree.newname)
    rename = call("rename_table", literal(table.schema), old, new)
    if table.kind in ("distributed", "reference") or table.on_all:
        await change.everywhere(change.text, rename)
    else:
        await change.run_home(change.text, rename)
        await change.elsewhere(rename)
    target = qualified(table.schema, change.tree.newname)
    if table.kind == "distributed":
        await change.everywhere(call("sync_table", literal(table.schema), new))
    elif table.kind == "single":
        await change.everywhere(*single_texts(await change.inspect(name=target)))
    await rebuild_views(change)
    await change.everywhere(change.new_epoch())


# ---- indexes ----------------------------------------------------------------------------------------


async def create_index(change: Change) -> None:
    """CREATE INDEX: on the template and every shard, with the name that group 0 chose."""
    tree = copy_of(change.tree)
    if tree.concurrent:
        change.work.notice(_PLAIN_INDEX)
        tree.concurrent = False
    table = change.find(tree.relation)
    text = change.text if not change.tree.concurrent else written("index_stmt", tree)
    if table is None or table.kind in ("single", "view"):
        await change.run_home(text)
        return
    chosen = await _index_on_home(change, table, text)
    if not chosen:
        return  # IF NOT EXISTS, and it does
    if not tree.idxname:
        tree.idxname = chosen
        text = written("index_stmt", tree)
    await change.run_home(*_sync_of(table))
    await change.elsewhere(text, *_sync_of(table))


async def _index_on_home(change: Change, table: Table, text: str) -> str | None:
    listing = (
        f"SELECT coalesce(max(indexrelid::bigint), 0) FROM pg_catalog.pg_index"
        f" WHERE indrelid = {literal(qualified(table.schema, table.name))}::regclass"
    )
    before = (await change.run_home(listing))[0][0]
    try:
        await change.run_home(text)
    except Exception as error:
        raise _hinted(error) from None
    found = await change.run_home(
        f"SELECT c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
        f" WHERE i.indrelid = {literal(qualified(table.schema, table.name))}::regclass AND i.indexrelid::bigint > {before}"
        " ORDER BY i.indexrelid DESC LIMIT 1"
    )
    return found[0][0] if found else None


def _hinted(error: Exception) -> Exception:
    return with_key_hint(error) if isinstance(error, ServerError) else error


def _sync_of(table: Table) -> list[str]:
    return (
        [call("sync_table", literal(table.schema), literal(table.name))]
        if table.kind == "distributed"
        else ["SELECT"]
    )


async def reindex(change: Change) -> None:
    """REINDEX TABLE or INDEX: shard by shard for a distributed table."""
    tree = change.tree
    table = change.find(tree.relation) if tree.HasField("relation") else None
    if table is None or table.kind != "distributed":
        await on_table(change, table)
        return
    await change.everywhere(call("reindex_table", literal(table.schema), literal(table.name)))


async def on_table(change: Change, table: Table | None) -> None:
    """A statement about something of one table: everywhere, and again for each shard, if the table is distributed."""
    if table is None or not (table.kind in ("distributed", "reference") or table.on_all):
        await change.run_home(change.text)
        return
    await change.everywhere(change.text, *_sync_of(table))


async def create_trigger(change: Change) -> None:
    """CREATE TRIGGER: row triggers of distributed tables fire on the shards."""
    tree = change.tree
    table = change.find(tree.relation)
    if table is not None and table.kind == "distributed" and not tree.row:
        raise Refused(
            "a distributed table cannot have statement-level triggers",
            hint="Use FOR EACH ROW: such triggers fire in the row's own shard.",
        )
    if table is not None and table.kind == "reference":
        raise Refused(
            "a reference table cannot have triggers",
            hint="They would fire once in every group. Do the trigger's work in the statement.",
        )
    await on_table(change, table)


async def create_policy(change: Change) -> None:
    """CREATE or ALTER POLICY. Conditions that only the session can answer are refused: the other groups' sessions do not know them."""
    tree = change.tree
    table = change.find(tree.table)
    if table is not None and table.kind == "distributed":
        parts = (tree.qual, tree.with_check)
        if "current_setting" in change.text.lower() or any(
            True for part in parts for _ in find(part, "SubLink")
        ):
            raise Refused(
                "a policy of a distributed table can use neither current_setting() nor subqueries",
                hint="Use the row's columns and current_user.",
            )
    await on_table(change, table)


async def alter_index(change: Change) -> None:
    """ALTER INDEX: found by the table that it belongs to."""
    await on_table(change, await table_of_index(change, name_of(change.tree.relation)))


async def table_of_index(change: Change, name: str) -> Table | None:
    """The table of the map that an index belongs to."""
    rows = await change.run_home(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid"
        f" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE i.indexrelid = to_regclass({literal(name)})"
    )
    return change.cluster.tables.get((rows[0][0] or "", rows[0][1] or "")) if rows else None
