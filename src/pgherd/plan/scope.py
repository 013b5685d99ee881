"""What a statement says about its tables: which it names, where, and what its conditions fix.

`Reader` walks a statement once, level by level (a level is one SELECT, INSERT, UPDATE, DELETE or MERGE), and resolves
names as PostgreSQL does. Conditions become edges of a graph over columns: an edge from A to B says
that a row whose A differs from B cannot influence the answer. So if a path leads from a table's key column to a
constant, only the shard with that constant matters; if it leads to another table's key column, the two are
joined within a shard. Edges are directed for outer joins: the condition of a LEFT JOIN restricts
the nullable side only. A column can be followed through an ON condition only if the condition is strict, which `=` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pgherd.catalog.model import Table
from pgherd.plan.values import Value, Within, same_kind

RelationKind = Literal[
    "distributed", "reference", "single", "view", "catalog", "pgherd", "unknown", "derived"
]


class Vertex(NamedTuple):
    """A column of a relation (by the relation's number in the statement)."""

    relation: int
    column: str


Edge = Vertex | Value | Within


@dataclass(slots=True)
class Derived:
    """The output of a subquery: its columns (None: not known), and what each is, if it is a plain column or value."""

    columns: list[str] | None
    sources: dict[str, list[Edge]] = field(default_factory=dict[str, list[Edge]])
    level: Level | None = None
    references: int = 0  # of a CTE
    recursive: bool = False
    writes: bool = False


@dataclass(slots=True)
class Relation:
    """One table, subquery or function in one place of the statement. `at` is the name's byte offset (-1: none)."""

    number: int
    name: str
    kind: RelationKind
    level: Level
    table: Table | None = None
    node: Any = None
    schema: str | None = None  # as written
    at: int = -1
    renamed: dict[str, str] | None = None  # visible column name -> its own
    derived: Derived | None = None
    nullable: bool = False
    target: bool = False
    is_cte: bool = False
    lateral: bool = False

    def column(self, name: str) -> str | None:
        """The column's own name, or None if the relation surely has no such column."""
        if self.renamed is not None:
            return self.renamed.get(name)
        if self.table is not None:
            return name if self.table.column(name) is not None else None
        if self.derived is not None and self.derived.columns is not None:
            return name if name in self.derived.columns else None
        return None

    @property
    def opaque(self) -> bool:
        """Its columns are not known."""
        if self.table is not None:
            return not self.table.columns
        return self.derived is None or self.derived.columns is None

    def visible(self) -> list[str] | None:
        """The names of its columns in order, or None if they are not known."""
        if self.renamed is not None:
            return list(self.renamed)
        if self.table is not None:
            return [column.name for column in self.table.columns] or None
        return self.derived.columns if self.derived is not None else None


@dataclass(slots=True)
class Level:
    """One query level. `outer`: where names are looked up next. `tree`: its SelectStmt (or other statement)."""

    outer: Level | None
    tree: Any
    relations: list[Relation] = field(default_factory=list[Relation])
    merged: dict[str, Vertex | None] = field(default_factory=dict[str, "Vertex | None"])
    aggregates: bool = False
    windows: bool = False
    unknown_functions: bool = False
    outer_aggregate: bool = False


@dataclass(slots=True)
class Scope:
    """Everything that was read from one statement."""

    relations: list[Relation] = field(default_factory=list[Relation])
    edges: dict[Vertex, list[Edge]] = field(default_factory=dict[Vertex, list[Edge]])
    functions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # (schema or "", name)
    qualified: list[tuple[Any, Relation]] = field(default_factory=list[tuple[Any, Relation]])
    parameters: set[int] = field(default_factory=set[int])
    top: Level | None = None
    columns: list[str] | None = None  # of the answer, if they are known
    locking: bool = False
    sample: bool = False
    time: bool = False  # CURRENT_TIMESTAMP and its kin
    writes: list[Relation] = field(default_factory=list[Relation])
    key_updates: list[tuple[Relation, str, list[Edge]]] = field(
        default_factory=list[tuple[Relation, str, "list[Edge]"]]
    )
    into: bool = False
    system_columns: bool = False

    def add(self, start: Vertex, end: Edge) -> None:
        self.edges.setdefault(start, []).append(end)

    def reach(self, start: Vertex, kind: str) -> Iterator[Edge]:
        """Everything that `start` is bound to, by any path whose columns have types of the same kind."""
        seen = {start}
        queue = [start]
        for vertex in queue:
            yield vertex
            for end in self.edges.get(vertex, ()):
                if not isinstance(end, Vertex):
                    yield end
                elif end not in seen and self._passes(end, kind):
                    seen.add(end)
                    queue.append(end)

    def _passes(self, vertex: Vertex, kind: str) -> bool:
        table = self.relations[vertex.relation].table
        if table is None:
            return True
        column = table.column(vertex.column)
        return column is not None and same_kind(column.type, kind)

    def of_kind(self, *kinds: RelationKind) -> list[Relation]:
        return [relation for relation in self.relations if relation.kind in kinds]

    @property
    def distributed(self) -> list[Relation]:
        return [relation for relation in self.relations if relation.kind == "distributed"]

    def kinds(self) -> set[str]:
        return {relation.kind for relation in self.relations} - {"derived"}


def names_of(relations: Iterable[Relation]) -> tuple[str, ...]:
    """The relations' names as the user would write them, each once."""
    return tuple(dict.fromkeys(f"{one.schema}.{one.name}" if one.schema else one.name for one in relations))
