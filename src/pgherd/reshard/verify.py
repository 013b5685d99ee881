"""Source and target row by row: checksums by ranges of the keys' hashes, in two snapshots of the same position."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from pgherd.backend.connection import ServerLink
from pgherd.catalog.model import GroupId
from pgherd.catalog.text import identifier
from pgherd.errors import PgherdError
from pgherd.reshard.model import Direction, slot_prefix
from pgherd.reshard.replication import create_slot, see
from pgherd.reshard.running import Run
from pgherd.reshard.stream import Stream, mark
from pgherd.reshard.tables import CopiedTable

BUCKETS = 256
HOLD_S = 120.0

Sums = dict[str, tuple[str | None, ...]]


class Different(PgherdError):
    """The copy is not what the source holds. Nothing was switched over."""

    sqlstate = "XX001"
    hint = "The copy is thrown away and made again; the source is untouched. Please report this."


def sums_sql(table: CopiedTable, relations: Sequence[str]) -> str:
    """The checksums of the rows of some relations together, by bucket."""
    row = f"ROW({', '.join('x.' + identifier(name) for name, _ in table.columns)})::text"
    key = f"ROW({', '.join('x.' + identifier(name) for name in table.key)})::text"
    rows = " UNION ALL ".join(f"SELECT {table.names} FROM {relation}" for relation in relations)
    return (
        f"SELECT hashtextextended({key}, 0) & {BUCKETS - 1} AS bucket, count(*), bit_xor(h), sum(h & 4294967295) FROM "
        f"(SELECT x.*, hashtextextended({row}, 0) AS h FROM ({rows}) x) x GROUP BY 1"
    )


def compare(table: CopiedTable, source: Sequence[Sums], target: Sequence[Sums]) -> None:
    """Raises Different, and says how many buckets differ."""
    left, right = _joined(source), _joined(target)
    wrong = [bucket for bucket in left.keys() | right.keys() if left.get(bucket) != right.get(bucket)]
    if wrong:
        rows = sum(count for count, _, _ in left.values()), sum(count for count, _, _ in right.values())
        raise Different(
            f"the copy of table {table.shown} differs from the source: {len(wrong)} of {BUCKETS} ranges of keys ({rows[0]} rows, {rows[1]} in the copy)"
        )


def _joined(parts: Sequence[Sums]) -> dict[str, tuple[int, int, int]]:
    total: dict[str, tuple[int, int, int]] = {}
    for part in parts:
        for bucket, (count, xor, summed) in part.items():
            old = total.get(bucket, (0, 0, 0))
            total[bucket] = (old[0] + int(count or 0), old[1] ^ int(xor or 0), old[2] + int(summed or 0))
    return total


async def verify(run: Run) -> None:
    """See the module. All streams of a source stand at the position of its snapshot when the targets' snapshots are taken."""
    direction = run.workflow.forward
    pairs = list(zip(direction.routes, run.start_streams(direction), strict=True))
    links: dict[tuple[str, int], ServerLink] = {}
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(HOLD_S):
                for group in direction.source_groups:
                    streams = [stream for route, stream in pairs if route.source == group]
                    links["source", group] = await _source(run, group, streams, stack)
                for group in direction.target_groups:
                    links["target", group] = link = await run.places.open(group)
                    stack.callback(link.close)
                    await link.do("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        finally:
            for _, stream in pairs:
                stream.release()
        for done, table in enumerate(run.tables):
            await run.progress(now=True, done=done, total=len(run.tables))
            await _table(direction, table, links)
            await run.point("verify: table compared")


async def _source(run: Run, group: GroupId, streams: list[Stream], stack: AsyncExitStack) -> ServerLink:
    """A connection whose snapshot is a passing slot's; the streams stand at its position."""
    keeper = await run.places.open(group, replication=True)
    stack.callback(keeper.close)
    for stream in streams:
        stream.hold(0)  # nothing that commits after the snapshot may arrive before we know the position
    slot = f"{slot_prefix(run.places.cluster_id)}v{run.workflow.id}_{group}"
    lsn, snapshot = await create_slot(keeper, slot, temporary=True)
    for stream in streams:
        stream.hold(lsn)
    link = await run.places.open(group)
    stack.callback(link.close)
    await see(link, snapshot)
    await mark(run.places, group, f"verify {slot}")
    for stream in streams:
        await stream.held()
    return link


async def _table(direction: Direction, table: CopiedTable, links: dict[tuple[str, int], ServerLink]) -> None:
    async def ask(side: str, group: int) -> Sums:
        if side == "source":
            relations = [table.in_shard(piece.id) for piece in direction.sources if piece.group == group]
        else:
            relations = [
                table.part(direction.side, piece.id) for piece in direction.targets if piece.group == group
            ]
        rows = await links[side, group].run(sums_sql(table, relations))
        return {str(row[0]): row[1:] for row in rows}

    found = await asyncio.gather(*(ask(side, group) for side, group in links))
    sides = list(links)
    compare(
        table,
        [sums for (side, _), sums in zip(sides, found, strict=True) if side == "source"],
        [sums for (side, _), sums in zip(sides, found, strict=True) if side == "target"],
    )
