"""The table for point reads and updates, with the same rows in the cluster and straight."""

from __future__ import annotations

from bench.ground import Ground, fill, settle

_COLUMNS = "id bigint PRIMARY KEY, name text NOT NULL, hits integer NOT NULL"
READ = "SELECT name, hits FROM people WHERE id = $1"
UPDATE = "UPDATE people SET hits = hits + 1 WHERE id = $1"
_made: set[int] = set()


async def people(ground: Ground) -> None:
    """Make it once for a run."""
    if id(ground) in _made:
        return
    _made.add(id(ground))
    place = ground.embedded
    source = f"SELECT g, 'name of ' || g, 0 FROM generate_series(1, {ground.effort.points}) g"
    ddl = f"CREATE TABLE people ({_COLUMNS})"
    await fill(
        place, (f"{ddl} PARTITION BY HASH (id)", ddl), "people", source, ground.directory / "people.copy"
    )
    await settle(place)
