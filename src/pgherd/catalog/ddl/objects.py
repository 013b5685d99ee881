"""Types, domains, functions, schemas, extensions, comments, grants: what lives in every group, or on group 0 alone."""

from __future__ import annotations

from typing import Any, Final

import postgast

from pgherd.catalog.bodies import distributed_in
from pgherd.catalog.ddl.alter import sync_texts
from pgherd.catalog.ddl.change import Change, check_schema_name, copy_of, names, written
from pgherd.catalog.ddl.drops import forget_gone
from pgherd.catalog.model import GroupId, Table
from pgherd.catalog.text import call, literal
from pgherd.errors import Refused, ServerError

_objects = postgast.pg_query_pb2.ObjectType
_TABLE: Final[int] = _objects.Value("OBJECT_TABLE")
_SEQUENCE: Final[int] = _objects.Value("OBJECT_SEQUENCE")
_SCHEMA: Final[int] = _objects.Value("OBJECT_SCHEMA")
_DATABASE: Final[int] = _objects.Value("OBJECT_DATABASE")
_ALL_IN_SCHEMA: Final[int] = postgast.pg_query_pb2.GrantTargetType.Value("ACL_TARGET_ALL_IN_SCHEMA")
_UNDEFINED: Final = {"42P01", "42704", "42703", "42883"}


async def in_every_group(change: Change) -> None:
    """The same text in every group. What it drops along the way is forgotten."""
    await change.everywhere(change.text)
    if await forget_gone(change):
        await change.everywhere(change.new_epoch())


async def on_home(change: Change) -> None:
    """The text on group 0 alone."""
    await change.run_home(change.text)


async def where_it_can_live(change: Change) -> None:
    """The text on group 0, and in each group that has what it refers to (a single table's row type is only there)."""
    await change.run_home(change.text)
    for group in change.others:
        await _try(change, group)


async def _try(change: Change, group: GroupId) -> None:
    link = await change.branch(group)
    await link.run("SAVEPOINT pgherd_definition")
    try:
        await link.run(change.text)
    except ServerError as error:
        if error.code not in _UNDEFINED:
            raise
        await link.run("ROLLBACK TO SAVEPOINT pgherd_definition")
    await link.run("RELEASE SAVEPOINT pgherd_definition")


async def create_schema(change: Change) -> None:
    """CREATE SCHEMA, without tables inside."""
    tree = change.tree
    check_schema_name(tree.schemaname or tree.authrole.rolename)
    if tree.schema_elts:
        raise Refused(
            "CREATE SCHEMA cannot create tables along with it",
            hint="Create them after the schema, one by one.",
        )
    await change.everywhere(change.text)


async def create_extension(change: Change) -> None:
    """CREATE or ALTER EXTENSION: in every group, and known to the foreign servers as pushable."""
    await change.everywhere(change.text, "SELECT pgherd.sync_servers()")


async def create_function(change: Change) -> None:
    """CREATE FUNCTION or PROCEDURE. Its body runs inside one server, where a distributed table cannot be read as a whole."""
    table = distributed_in(change.text, change.cluster)
    if table is not None:
        raise Refused(
            f'a function or procedure cannot use the distributed table "{table.name}"',
            hint="Its body runs inside one server, which holds only a part of the table. Use a view, or run the statements from the application.",
        )
    await where_it_can_live(change)


async def do_block(change: Change) -> None:
    """DO: on group 0, for what lives there."""
    table = distributed_in(change.text, change.cluster)
    if table is not None:
        raise Refused(
            f'a DO block cannot use the distributed table "{table.name}"',
            hint="It runs inside group 0, which holds only a part of the table. Run its statements one by one.",
        )
    await on_home(change)


# ---- privileges -------------------------------------------------------------------------------------


async def grant(change: Change) -> None:
    """GRANT and REVOKE: on tables, also on their shards; on what only group 0 has, only there."""
    tree = change.tree
    if tree.objtype == _DATABASE:
        raise Refused(
            "GRANT ON DATABASE is not supported",
            hint="Each group's database has a name of its own. Grant on schemas and tables.",
        )
    if tree.objtype in (_TABLE, _SEQUENCE):
        await _grant_on_tables(change, tree)
        return
    await where_it_can_live(change)
    if tree.objtype == _SCHEMA:
        schemas = [name for node in tree.objects for name in names([node])]
        await change.everywhere(*(call("sync_schema", literal(schema)) for schema in schemas))


async def _grant_on_tables(change: Change, tree: Any) -> None:
    await change.run_home(change.text)
    if tree.targtype == _ALL_IN_SCHEMA:
        schemas = {name for node in tree.objects for name in names([node])}
        tables = [t for t in change.cluster.tables.values() if t.schema in schemas]
        await change.elsewhere(change.text)
    else:
        found = [(node, change.find(node.range_var)) for node in tree.objects]
        tables = [table for _, table in found if table is not None]
        copy = copy_of(tree)
        kept = [
            node
            for node, table in found
            if table is not None and (table.kind in ("distributed", "reference") or table.on_all)
        ]
        del copy.objects[:]
        copy.objects.extend(kept)
        if kept:
            await change.elsewhere(written("grant_stmt", copy))
    await sync_rights(change, tables)


async def sync_rights(change: Change, tables: list[Table]) -> None:
    """Carry the privileges of templates to their physical tables, of views to their global form."""
    texts = [text for table in tables if table.kind == "distributed" for text in sync_texts(table)[1:]]
    texts += [
        call("sync_view_rights", literal(t.schema), literal(t.name))
        for t in tables
        if t.kind == "view" and t.distributed_view
    ]
    if texts:
        await change.everywhere(*texts)
