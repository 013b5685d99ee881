"""Which column a name means, and what a subquery's output columns are called."""

from __future__ import annotations

from collections.abc import Iterable

import postgast.pg_query_pb2 as pb

from pgherd.plan.scope import Derived, Edge, Level, Relation, RelationKind, Vertex
from pgherd.sql.tree import Tree, strings


def resolve(ref: Tree, level: Level) -> Vertex | None:
    """The column that a reference means, or None if that is not certain."""
    names = strings(ref.fields)
    if len(names) != len(ref.fields):
        return None
    if len(names) == 1:
        return _resolve_bare(names[0], level)
    *schema, table, column = names
    relation = find_relation(table, level, schema[-1] if schema else None)
    if relation is None:
        return None
    own = relation.column(column)
    return None if own is None else Vertex(relation.number, own)


def _resolve_bare(name: str, level: Level) -> Vertex | None:
    at: Level | None = level
    while at is not None:
        if name in at.merged:
            return at.merged[name]
        found = [(relation, own) for relation in at.relations if (own := relation.column(name)) is not None]
        if found:
            return Vertex(found[0][0].number, found[0][1]) if len(found) == 1 else None
        if any(relation.opaque for relation in at.relations):
            return None
        at = at.outer
    return None


def find_relation(name: str, level: Level, schema: str | None) -> Relation | None:
    at: Level | None = level
    while at is not None:
        for relation in at.relations:
            if relation.name == name and (
                schema is None or (relation.table is not None and relation.table.schema == schema)
            ):
                return relation
        at = at.outer
    return None


# pgherd's own tables that are filled on group 0 only; the others say the same in every group.
ON_ZERO = frozenset(
    {"workflows", "decisions_log", "shard_load", "keyspace_settings", "group_settings", "balance_settings"}
)


def foreign_kind(schema: str | None, name: str) -> RelationKind:
    if schema in ("pg_catalog", "information_schema") or (schema is None and name.startswith("pg_")):
        return "catalog"
    if schema == "pgherd":
        return "catalog" if name in ON_ZERO else "pgherd"
    return "unknown"


def numbers(relations: Iterable[Relation]) -> set[int]:
    return {relation.number for relation in relations}


def common_columns(left: list[Relation], right: list[Relation]) -> tuple[str, ...]:
    one = {name for relation in left for name in relation.visible() or ()}
    return tuple(name for relation in right for name in relation.visible() or () if name in one)


def column_in(name: str, side: list[Relation], level: Level) -> Vertex | None:
    found = [Vertex(one.number, own) for one in side if (own := one.column(name)) is not None]
    if len(found) == 1:
        return found[0]
    return level.merged.get(name) if found else None


def is_plain(level: Level) -> bool:
    """A SELECT whose rows, or groups, depend on nothing but their own rows: no LIMIT, window, DISTINCT ON, sets."""
    tree = level.tree
    if tree is None or not hasattr(tree, "values_lists") or tree.op != pb.SETOP_NONE or tree.values_lists:
        return False
    if tree.limit_count.WhichOneof("node") or tree.limit_offset.WhichOneof("node") or level.windows:
        return False
    if level.unknown_functions or level.outer_aggregate:
        return False
    if any(node.WhichOneof("node") == "grouping_set" for node in tree.group_clause):
        return False
    return not any(node.WhichOneof("node") for node in tree.distinct_clause)


def is_star(ref: Tree) -> bool:
    return ref.fields[-1].WhichOneof("node") == "a_star"


def plain_name(node: Tree) -> str:
    kind = node.WhichOneof("node")
    if kind == "column_ref":
        return node.column_ref.fields[-1].string.sval
    if kind == "func_call":
        return strings(node.func_call.funcname)[-1]
    if kind == "type_cast":
        return plain_name(node.type_cast.arg)
    return "?column?"


def add_output(derived: Derived, name: str, edges: list[Edge]) -> None:
    """One more output column. A name that occurs twice cannot be referred to, but has its place."""
    if derived.columns is None:
        return
    unique = name if name not in derived.columns else f"{name}\0{len(derived.columns)}"
    derived.columns.append(unique)
    if edges:
        derived.sources[unique] = edges


def renamed(derived: Derived, names: tuple[str, ...]) -> Derived:
    if not names or derived.columns is None:
        return derived
    columns = [*names, *derived.columns[len(names) :]]
    sources = {
        new: derived.sources[old]
        for new, old in zip(columns, derived.columns, strict=False)
        if old in derived.sources
    }
    return Derived(columns, sources, derived.level, derived.references, derived.recursive, derived.writes)
