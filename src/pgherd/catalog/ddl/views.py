"""Views: the user's own text where its tables are, and global.<view> over global.* tables everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import postgast

from pgherd.catalog.ddl.change import Change, copy_of, dumps, name_of, written
from pgherd.catalog.ddl.tables import single_texts
from pgherd.catalog.model import ClusterMap, Table, TableName, physical_schema
from pgherd.catalog.text import call, literal, qualified
from pgherd.errors import Refused
from pgherd.sql.tree import find

_PASSING = "pgherd_new_view"


def relations(tree: Any) -> list[Any]:
    """All RangeVars in a tree that can name tables (not common table expressions)."""
    ctes = {node.ctename for node in find(tree, "CommonTableExpr")}
    return [node for node in find(tree, "RangeVar") if node.schemaname or node.relname not in ctes]


def needs_global(table: Table) -> bool:
    """Whether a federated reader must read `global.<name>` instead of the name itself."""
    return table.kind in ("distributed", "single") or table.distributed_view or not table.on_all


def to_global(tree: Any, cluster: ClusterMap, path: tuple[str, ...]) -> bool:
    """Let every table in `tree` be its global form, in place. Answers whether there was any."""
    changed = False
    for node in relations(tree):
        table = cluster.find(node.relname, node.schemaname or None, path)
        if table is not None and needs_global(table):
            node.schemaname = physical_schema("global", table.schema)
            if not node.HasField("alias"):
                node.alias.aliasname = node.relname
            changed = True
    return changed


async def create_view(change: Change) -> None:
    """CREATE [OR REPLACE] VIEW."""
    tree = change.tree
    if tree.view.relpersistence == "t":
        await change.run_home(change.text)
        return
    read = [table for node in relations(tree.query) if (table := change.find(node)) is not None]
    on_all = all(table.kind in ("distributed", "reference") or table.on_all for table in read)
    distributed = any(table.kind == "distributed" or table.distributed_view for table in read)
    shape = await change.inspect(change.text, name=name_of(tree.view))
    if on_all:
        await change.elsewhere(change.text)
    me = Table(
        schema=shape["schema"], name=shape["name"], kind="view", distributed_view=distributed, on_all=on_all
    )
    await change.everywhere(
        call(
            "register_table",
            literal(me.schema),
            literal(me.name),
            "'view'",
            "NULL",
            "NULL",
            literal(distributed),
            literal(on_all),
        )
    )
    await rebuild_views(change, drop=(me,))
    await change.everywhere(change.new_epoch())


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    name: TableName
    body: str
    options: str
    reads: frozenset[TableName]


async def rebuild_views(change: Change, drop: Sequence[Table] = ()) -> None:
    """Make every global.<view> that is missing on group 0, after dropping those of `drop` and all that stand on them."""
    for table in drop:
        schema = physical_schema("global", table.schema)
        await change.everywhere(call("drop_relation", literal(schema), literal(table.name)))
    known = await _known_views(change)
    missing = [entry for entry in known if entry["global"] and not entry["exists"]]
    if missing:
        await change.everywhere(*await _texts(change, known, missing))


async def global_view_texts(change: Change) -> list[str]:
    """The texts that make every global.<view> in a group that has none of them yet."""
    known = await _known_views(change)
    return await _texts(change, known, [entry for entry in known if entry["global"]])


async def _known_views(change: Change) -> list[dict[str, Any]]:
    rows = await change.run_home("SELECT pgherd.views()")
    return json.loads(rows[0][0] or "[]")


async def _texts(
    change: Change, known: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]
) -> list[str]:
    swap = {(entry["schema"], entry["name"]) for entry in known if entry["global"]}
    swap |= {name for name, table in change.cluster.tables.items() if table.kind in ("distributed", "single")}
    swap |= {
        (entry["schema"], entry["name"])
        for entry in json.loads((await change.run_home("SELECT pgherd.swapped()"))[0][0] or "[]")
    }
    texts: list[str] = []
    for view in _in_order([_read(entry, swap) for entry in wanted]):
        schema, name = view.name
        texts.append(f"CREATE VIEW {qualified(schema, _PASSING)}{view.options} AS {view.body}")
        texts.append(call("adopt_view", literal(schema), literal(_PASSING), literal(name)))
    return texts


def _read(entry: dict[str, Any], swap: Iterable[TableName]) -> _View:
    tree = postgast.parse(entry["body"]).stmts[0].stmt
    reads: set[TableName] = set()
    names = set(swap)
    for node in relations(tree):
        if (node.schemaname, node.relname) in names:
            reads.add((node.schemaname, node.relname))
            if not node.HasField("alias"):
                node.alias.aliasname = node.relname
            node.schemaname = physical_schema("global", node.schemaname)
    kind = tree.WhichOneof("node") or ""
    options = f" WITH ({entry['options']})" if entry["options"] else ""
    return _View(
        name=(entry["schema"], entry["name"]),
        body=written(kind, getattr(tree, kind)),
        options=options,
        reads=frozenset(reads),
    )


def _in_order(views: list[_View]) -> list[_View]:
    """Those that are read first."""
    left = {view.name: view for view in views}
    done: list[_View] = []
    while left:
        ready = [view for view in left.values() if not any(name in left for name in view.reads - {view.name})]
        done += [left.pop(view.name) for view in ready or list(left.values())]
    return done


async def create_table_as(change: Change) -> str:
    """CREATE TABLE AS and CREATE MATERIALIZED VIEW: single tables on group 0, filled over global.* tables."""
    tree = copy_of(change.tree)
    relation = tree.into.rel
    matview = tree.objtype == postgast.pg_query_pb2.ObjectType.Value("OBJECT_MATVIEW")
    if relation.relpersistence == "t":
        raise Refused("CREATE TEMPORARY TABLE AS is not a definition of the cluster")
    before = await change.inspect(name=name_of(relation)) if tree.if_not_exists else {}
    text = change.text
    if to_global(tree.query, change.cluster, change.path):
        text = written("create_table_as_stmt", tree)
    shape = await change.inspect(text, name=name_of(relation))
    if not before or before["schema"] != shape["schema"]:
        await change.everywhere(*single_texts(shape), change.new_epoch())
    if not shape:
        return "CREATE MATERIALIZED VIEW"
    return await _rows_tag(change, tree, shape, "CREATE MATERIALIZED VIEW" if matview else "CREATE TABLE AS")


async def _rows_tag(change: Change, tree: Any, shape: dict[str, Any], empty: str) -> str:
    if tree.into.skip_data:
        return empty
    rows = await change.run_home(
        f"SELECT pg_catalog.count(*) FROM {qualified(shape['schema'], shape['name'])}"
    )
    return f"SELECT {rows[0][0]}"


__all__ = [
    "create_table_as",
    "create_view",
    "dumps",
    "global_view_texts",
    "needs_global",
    "rebuild_views",
    "relations",
    "to_global",
]
