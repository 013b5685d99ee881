"""What must be known of the tables of a keyspace to copy them."""

from __future__ import annotations

from dataclasses import dataclass

from pgherd.catalog.model import GroupId, physical_schema
from pgherd.catalog.text import identifier, literal, qualified
from pgherd.reshard.places import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedTable:
    """`columns`: the stored ones with their types. `key`: names of the columns that tell rows apart (of the replica identity)."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]

    @property
    def shown(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    @property
    def names(self) -> str:
        """The stored columns as a list for SQL."""
        return ", ".join(identifier(name) for name, _ in self.columns)

    def in_shard(self, shard: int) -> str:
        """Its name in a shard."""
        return qualified(physical_schema(f"shard_{shard}", self.schema), self.name)

    def shard_schema(self, shard: int) -> str:
        return physical_schema(f"shard_{shard}", self.schema)

    def root(self, side: str) -> str:
        """The root of a side."""
        return qualified(physical_schema(side, self.schema), self.name)

    def part(self, side: str, shard: int) -> str:
        """The staged (or kept) table of a shard."""
        return qualified(physical_schema(f"{side}s{shard}", self.schema), self.name)


_TABLES = """
SELECT t.schema, t.name, a.attname, format_type(a.atttypid, a.atttypmod), EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = t.template AND a.attnum = ANY (i.indkey)
    AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) AND c.relreplident <> 'n'
FROM pgherd.tables_in({keyspace}) t JOIN pg_class c ON c.oid = t.template JOIN pg_attribute a ON a.attrelid = t.template
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY t.schema, t.name, a.attnum
"""


async def tables_of(places: Places, keyspace: str) -> tuple[CopiedTable, ...]:
    """The tables of a keyspace, in the order of their locks."""
    found: dict[tuple[str, str], list[tuple[str, str, bool]]] = {}
    for schema, name, column, kind, in_key in await places.ask(
        GroupId(0), _TABLES.format(keyspace=literal(keyspace))
    ):
        found.setdefault((schema or "", name or ""), []).append((column or "", kind or "", in_key == "t"))
    return tuple(
        CopiedTable(
            schema=schema,
            name=name,
            columns=tuple((column, kind) for column, kind, _ in columns),
            key=tuple(column for column, _, in_key in columns if in_key),
        )
        for (schema, name), columns in found.items()
    )
