"""DROP of anything: the user's text on group 0 decides; the map forgets what is gone; the other groups follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import postgast

from pgherd.catalog.ddl.alter import sync_texts, table_of_index
from pgherd.catalog.ddl.change import Change, copy_of, names, written
from pgherd.catalog.model import Table, physical_schema
from pgherd.catalog.text import call, identifier, literal

_objects = postgast.pg_query_pb2.ObjectType
_INDEX: Final[int] = _objects.Value("OBJECT_INDEX")
_SCHEMA: Final[int] = _objects.Value("OBJECT_SCHEMA")
_STATISTICS: Final[int] = _objects.Value("OBJECT_STATISTIC_EXT")
_OF_TABLE: Final = {_objects.Value(f"OBJECT_{word}") for word in ("TRIGGER", "POLICY", "RULE")}
# gone from group 0 means forgotten everywhere: nothing of the user's text is needed in the other groups
_RELATIONS: Final = {
    _objects.Value(f"OBJECT_{word}") for word in ("TABLE", "VIEW", "MATVIEW", "FOREIGN_TABLE")
}
PLAIN_INDEX: Final = "CONCURRENTLY is left out: the definition runs in one transaction over all groups"


async def drop(change: Change) -> None:
    """DROP TABLE, VIEW, INDEX, TYPE, FUNCTION, SCHEMA, TRIGGER …"""
    tree = copy_of(change.tree)
    text = change.text
    if tree.concurrent:
        change.work.notice(PLAIN_INDEX)
        tree.concurrent = False
        text = written("drop_stmt", tree)
    touched = await _touched(change, tree)
    await change.run_home(*_clear_the_way(change, tree), text)
    gone = await forget_gone(change)
    if tree.remove_type not in _RELATIONS:
        tree.missing_ok = True
        await change.elsewhere(written("drop_stmt", tree))
    await _sync(change, [table for table in touched if (table.schema, table.name) not in gone])
    if gone:
        await change.everywhere(change.new_epoch())


def _clear_the_way(change: Change, tree: Any) -> list[str]:
    """On group 0, global.<name> of a single table is a view that PostgreSQL would count among what depends on the table."""
    if tree.remove_type in _RELATIONS:
        parts = [names(node.list.items) for node in tree.objects]
        found = [change.cluster.find(p[-1], p[-2] if len(p) > 1 else None, change.path) for p in parts]
        tables = [table for table in found if table is not None]
    elif tree.remove_type == _SCHEMA:
        schemas = {name for node in tree.objects for name in names([node])}
        tables = [table for table in change.cluster.tables.values() if table.schema in schemas]
    else:
        return []
    return [
        call("drop_relation", literal(physical_schema("global", table.schema)), literal(table.name))
        for table in tables
        if table.kind == "single"
    ]


async def forget_gone(change: Change) -> set[tuple[str, str]]:
    """Whatever of the map no longer exists on group 0 is forgotten everywhere. Answers what that was."""
    rows = await change.run_home("SELECT schema, name FROM pgherd.gone()")
    gone = {(row[0] or "", row[1] or "") for row in rows}
    if gone:
        await change.everywhere(
            *(call("forget", literal(schema), literal(name)) for schema, name in sorted(gone))
        )
    return gone


async def _touched(change: Change, tree: Any) -> list[Table]:
    """The tables whose shards lose something with the objects."""
    if tree.remove_type not in _OF_TABLE | {_INDEX, _STATISTICS}:
        cascades = tree.behavior == postgast.pg_query_pb2.DropBehavior.Value("DROP_CASCADE")
        return (
            [table for table in change.cluster.tables.values() if table.kind == "distributed"]
            if cascades
            else []
        )
    found: list[Table] = []
    for node in tree.objects:
        parts = names(node.list.items)
        if tree.remove_type in _OF_TABLE:
            parts = parts[:-1]
            table = change.cluster.find(parts[-1], parts[0] if len(parts) > 1 else None, change.path)
        elif tree.remove_type == _INDEX:
            table = await table_of_index(change, ".".join(identifier(part) for part in parts))
        else:
            table = await _table_of_statistics(change, parts)
        if table is not None and table.kind == "distributed" and table not in found:
            found.append(table)
    return found


async def _table_of_statistics(change: Change, parts: Sequence[str]) -> Table | None:
    where = (
        f"AND n.nspname = {literal(parts[0])}"
        if len(parts) > 1
        else "AND pg_catalog.pg_statistics_obj_is_visible(s.oid)"
    )
    rows = await change.run_home(
        "SELECT tn.nspname, c.relname FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace"
        " JOIN pg_catalog.pg_class c ON c.oid = s.stxrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = c.relnamespace"
        f" WHERE s.stxname = {literal(parts[-1])} {where}"
    )
    return change.cluster.tables.get((rows[0][0] or "", rows[0][1] or "")) if rows else None


async def _sync(change: Change, tables: list[Table]) -> None:
    if tables:
        await change.everywhere(*(text for table in tables for text in sync_texts(table)))
