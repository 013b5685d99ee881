"""From the names that users write to the schemas where the rows lie: `shard_<id>`, `global`, `here`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import postgast
import postgast.pg_query_pb2 as pb

from pgherd.catalog.model import GroupId, physical_schema
from pgherd.catalog.overlay import OVERLAID, TARGETS, overlaid
from pgherd.plan.plans import Text
from pgherd.plan.scope import Relation, Scope
from pgherd.sql.rewrite import HOLE, Edit, apply, pieces, quote, word_end
from pgherd.sql.tree import descend, is_a, without_places

Space = str | None  # HOLE (a shard's schema), "global", "here", or None: as the user wrote it
Choose = Callable[[Relation], Space]


def schema_of(relation: Relation, space: str) -> str:
    """The physical schema, quoted; a HOLE stands for `shard_<id>`."""
    assert relation.table is not None
    return quoted_schema(space, relation.table.schema)


def quoted_schema(space: str, schema: str) -> str:
    """`physical_schema`, quoted as it must be."""
    if space != HOLE:
        return quote(physical_schema(space, schema))
    if schema == "public":
        return HOLE
    whole = quote(physical_schema("shard", schema))
    return whole.replace("shard", HOLE, 1)


def catalog_edits(text: str, scope: Scope) -> list[Edit]:
    """The edits that put the catalogs' views without pgherd's own schemas in the catalogs' place."""
    found: dict[int, Edit] = {}
    for relation in scope.relations:
        if relation.kind != "catalog" or relation.at < 0:
            continue
        target = overlaid(relation.schema, relation.node.relname)
        if target is None:
            continue
        end = relation.at if relation.schema is None else word_end(text, relation.at)
        found[relation.at] = Edit(relation.at, end, target + "." if relation.schema is None else target)
        if relation.level.tree is not None:
            for ref in _qualified_refs(relation.level.tree):
                found[ref.location] = _column_edit(text, ref, TARGETS[ref.fields[0].string.sval])
    return list(found.values())


def _qualified_refs(tree: Any) -> list[Any]:
    """References such as pg_catalog.pg_class.relname, to columns of catalogs that are overlaid."""
    refs = (one for one in descend(tree) if is_a(one, "ColumnRef") and len(one.fields) >= 3)
    return [ref for ref in refs if (ref.fields[0].string.sval, ref.fields[1].string.sval) in OVERLAID]


def catalog_text(text: str, scope: Scope) -> str:
    """The statement as it is, but for catalogs."""
    found = catalog_edits(text, scope)
    return apply(text, found) if found else text


def edits(text: str, scope: Scope, choose: Choose) -> list[Edit]:
    """The edits that put every table of the statement where `choose` says."""
    found = catalog_edits(text, scope)
    for relation in scope.relations:
        if relation.at < 0 or relation.table is None:
            continue
        space = choose(relation)
        if space is None:
            continue
        schema = schema_of(relation, space)
        if relation.schema is None:
            found.append(Edit(relation.at, relation.at, schema + "."))
        else:
            found.append(Edit(relation.at, word_end(text, relation.at), schema))
    for ref, relation in scope.qualified:
        if relation.table is not None and (space := choose(relation)) is not None:
            found.append(_column_edit(text, ref, schema_of(relation, space)))
    return found


def _column_edit(text: str, ref: Any, schema: str) -> Edit:
    return Edit(ref.location, word_end(text, ref.location), schema)


def in_shard(relation: Relation) -> Space:
    """Distributed tables in their shard's schema."""
    return HOLE if relation.kind == "distributed" else None


def everywhere(group: GroupId | None) -> Choose:
    """Whole tables, as seen from `group` (None: any but perhaps not 0)."""

    def choose(relation: Relation) -> Space:
        table = relation.table
        if table is None:
            return None
        if table.kind == "distributed" or table.distributed_view:
            return "global"
        return "global" if table.kind == "single" and group != 0 else None

    return choose


def shard_text(text: str, scope: Scope, choose: Choose = in_shard) -> Text:
    """The statement for a shard, with holes."""
    return Text(pieces=pieces(apply_to(text, scope, choose)))


def apply_to(text: str, scope: Scope, choose: Choose) -> str:
    """The statement over the tables that `choose` names."""
    return apply(text, edits(text, scope, choose))


def global_text(text: str, scope: Scope, group: GroupId | None) -> str:
    """The statement over whole tables."""
    return apply_to(text, scope, everywhere(group))


# ---- trees ---------------------------------------------------------------------------------------------------

_MARK = "pgherd__hole"  # stands for a HOLE while a tree is written out


def move(tree: Any, scope: Scope, choose: Choose) -> None:
    """As `edits`, but in a copy of the statement's tree."""
    tables = {one.at: one for one in scope.relations if one.at >= 0 and one.table is not None}
    columns = {ref.location: relation for ref, relation in scope.qualified}
    for one in descend(tree):
        if is_a(one, "RangeVar"):
            relation = tables.get(one.location)
            space = choose(relation) if relation is not None else None
            if relation is not None and space is not None and relation.node.relname == one.relname:
                one.schemaname = _tree_schema(relation, space)
        elif is_a(one, "ColumnRef") and len(one.fields) >= 3:
            relation = columns.get(one.location)
            space = choose(relation) if relation is not None else None
            if relation is not None and space is not None:
                one.fields[0].string.sval = _tree_schema(relation, space)


def _tree_schema(relation: Relation, space: str) -> str:
    assert relation.table is not None
    return physical_schema(_MARK if space == HOLE else space, relation.table.schema)


def written(kind: str, tree: Any) -> str:
    """A tree as text, with HOLEs. Raises Unfaithful if that would not mean the same."""
    result = pb.ParseResult()
    node = result.stmts.add().stmt
    getattr(node, kind).CopyFrom(tree)
    try:
        text = postgast.deparse(result)
        again = postgast.parse(text).stmts[0].stmt
    except postgast.PgQueryError as error:
        raise Unfaithful(error.message) from error
    if without_places(again) != without_places(node):
        raise Unfaithful(text)
    return text.replace(_MARK, HOLE)


class Unfaithful(Exception):
    """libpg_query would write the tree as a text that reads differently."""
