"""Where a shard is cut when nobody says where: in the middle of its rows."""

from __future__ import annotations

from pgherd.catalog import keys
from pgherd.catalog.model import Shard, Table, physical_schema
from pgherd.catalog.text import identifier, literal, qualified
from pgherd.errors import Refused
from pgherd.reshard.asking import Asking

SAMPLE_ROWS = 200_000


async def largest(asking: Asking, table: Table) -> Shard:
    """The shard where the table takes most room."""
    sizes: list[tuple[int, Shard]] = []
    for shard in asking.cluster.keyspace_of(table).shards:
        rows = await asking.elsewhere(
            shard.group, f"SELECT pg_total_relation_size({literal(_name(table, shard))}::regclass)"
        )
        sizes.append((int(rows[0][0] or 0), shard))
    return max(sizes, key=lambda pair: (pair[0], -pair[1].id))[1]


async def middle(asking: Asking, table: Table, shard: Shard) -> tuple[str, ...]:
    """The point that halves the rows of a shard, as texts. Raises Refused when all rows have the same key."""
    keyspace = asking.cluster.keyspace_of(table)
    names = ", ".join(identifier(name) for name in table.key)
    texts = ", ".join(f"({identifier(name)})::text" for name in table.key)
    source = _name(table, shard)
    estimate = await asking.elsewhere(
        shard.group, f"SELECT reltuples::bigint FROM pg_class WHERE oid = {literal(source)}::regclass"
    )
    rows_about = max(int(estimate[0][0] or 0), 1)
    part = (
        ""
        if rows_about <= SAMPLE_ROWS
        else f" TABLESAMPLE SYSTEM ({min(100.0, 100.0 * SAMPLE_ROWS / rows_about):.4f}) REPEATABLE (7)"
    )
    found = await asking.elsewhere(
        shard.group,
        f"WITH s AS MATERIALIZED (SELECT {names} FROM {source}{part}), m AS (SELECT {names} FROM s ORDER BY {names} OFFSET (SELECT count(*) / 2 FROM s) LIMIT 1) "
        f"SELECT {texts}, 1 AS way FROM m UNION ALL SELECT * FROM (SELECT {texts}, 2 FROM s WHERE ({names}) > (SELECT {names} FROM m) ORDER BY {names} LIMIT 1) x "
        "ORDER BY way",
    )
    for row in found:
        point = tuple(value or "" for value in row[:-1])
        key = tuple(
            keys.decode_text(kind, text) for kind, text in zip(keyspace.key_types, point, strict=True)
        )
        inside = shard.lower is None or key > shard.lower
        if inside and await _splits(asking, table, shard, names, point):
            return point
    raise Refused(
        f"shard {shard.id} holds too few different keys of {table.name} to be cut",
        hint="A key of more columns can be cut within one value.",
    )


async def _splits(asking: Asking, table: Table, shard: Shard, names: str, point: tuple[str, ...]) -> bool:
    """Whether a row lies before the point: then each half has some."""
    values = ", ".join(
        f"{literal(text)}::{kind}"
        for text, kind in zip(point, asking.cluster.keyspace_of(table).key_types, strict=True)
    )
    rows = await asking.elsewhere(
        shard.group, f"SELECT EXISTS (SELECT FROM {_name(table, shard)} WHERE ({names}) < ({values}))"
    )
    return rows[0][0] in ("t", "True", "true")


def _name(table: Table, shard: Shard) -> str:
    return qualified(physical_schema(f"shard_{shard.id}", table.schema), table.name)
