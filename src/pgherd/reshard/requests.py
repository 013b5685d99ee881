"""CALL pgherd.split, move, merge: what shall become of which shards, recorded as a workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pgherd.catalog import naming
from pgherd.catalog.model import ClusterMap, Shard, ShardId, Table, physical_schema
from pgherd.catalog.text import literal, qualified
from pgherd.engine.work import Work
from pgherd.errors import BadSetting
from pgherd.reshard import points
from pgherd.reshard.asking import Asking, asking, truth
from pgherd.reshard.estimate import show
from pgherd.reshard.model import Piece
from pgherd.reshard.recording import write_down
from pgherd.reshard.watching import watch
from pgherd.transaction.perform import borrowed

if TYPE_CHECKING:
    from pgherd.catalog.admin.arguments import Arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Shards before and after. `number`: the new shards get their numbers when it is recorded."""

    kind: str
    old: tuple[Piece, ...]
    new: tuple[Piece, ...]
    number: bool


SETTINGS: Final = ("max_pause", "keep_for", "verify", "dry_run", "offline", "wait")
SMALL_BYTES: Final = 256 * 1024
Plan = Callable[["Asking", "Arguments"], Awaitable["Wish | None"]]


async def move(asking: Asking, arguments: Arguments) -> Wish | None:
    """CALL pgherd.move(shard, group)."""
    shard = naming.shard(asking.cluster, arguments.number("shard"))
    group = naming.group(asking.cluster, arguments.number("group"))
    if shard.group == group:
        asking.work.notice(f"shard {shard.id} is in group {group} already")
        return None
    piece = await asking.piece(shard)
    return Wish(kind="move", old=(piece,), new=(replace(piece, group=group),), number=False)


async def split(asking: Asking, arguments: Arguments) -> Wish | None:
    """CALL pgherd.split(table), (table, point …), or for a hash keyspace (table, shard)."""
    table = await asking.table(arguments)
    keyspace = asking.cluster.keyspace_of(table)
    point = "point" in arguments.values
    if keyspace.strategy == "hash":
        shard = (
            naming.shard_of(asking.cluster, table, arguments.number("point"))
            if point
            else await points.largest(asking, table)
        )
        piece = await asking.piece(shard)
        return Wish(kind="split", old=(piece,), new=piece.halves(), number=True)
    if point:
        key = await naming.point(asking.ask, keyspace, [arguments.text("point"), *arguments.rest])
        shard, texts = naming.cut_by(keyspace, key), naming.texts_of(keyspace, key)
    else:
        shard = await points.largest(asking, table)
        texts = await points.middle(asking, table, shard)
        asking.work.notice(f"shard {shard.id} is cut at {', '.join(texts)}")
    piece = await asking.piece(shard)
    return Wish(kind="split", old=(piece,), new=piece.halves(texts), number=True)


async def merge(asking: Asking, arguments: Arguments) -> Wish | None:
    """CALL pgherd.merge(shard, shard): the first one's group gets both."""
    first, second = (naming.shard(asking.cluster, arguments.number(name)) for name in ("shard", "other"))
    if first.keyspace != second.keyspace or first.id == second.id:
        raise BadSetting("two different shards of one keyspace can be merged")
    one, two = await asking.piece(first), await asking.piece(second)
    new = merged(first, second, one, two)
    return Wish(kind="merge", old=(one, two), new=(new,), number=True)


def merged(first: Shard, second: Shard, one: Piece, two: Piece) -> Piece:
    """The shard that two neighbours make, in the first one's group. Raises BadSetting if they are none."""
    found = _merged_hash(one, two) if one.strategy == "hash" else _merged_range(first, second, one, two)
    return replace(found, group=one.group, id=ShardId(0))


def _merged_range(first: Shard, second: Shard, one: Piece, two: Piece) -> Piece:
    if first.upper is not None and first.upper == second.lower:
        return replace(one, range_end=two.range_end)
    if second.upper is not None and second.upper == first.lower:
        return replace(two, range_end=one.range_end)
    raise BadSetting(
        f"shards {one.id} and {two.id} are not neighbours",
        hint="SELECT * FROM pgherd.shards shows the bounds.",
    )


def _merged_hash(one: Piece, two: Piece) -> Piece:
    half = (one.modulus or 0) // 2
    fits = one.modulus == two.modulus and (one.modulus or 1) % 2 == 0
    if not fits or (one.remainder or 0) % half != (two.remainder or 0) % half:
        raise BadSetting(
            f"shards {one.id} and {two.id} are not the halves of one",
            hint="Of modulus m, the remainders r and r + m/2 can be merged.",
        )
    return replace(one, modulus=half, remainder=(one.remainder or 0) % half)


PLANS: Final[Mapping[str, Plan]] = {"move": move, "split": split, "merge": merge}


async def is_small(work: Work, arguments: Arguments, cluster: ClusterMap) -> bool:
    """Whether the shards that the arguments may mean hold next to nothing."""
    total = 0
    for keyspace in cluster.keyspaces.values():
        tables = [table for table in cluster.tables.values() if table.keyspace == keyspace.id]
        named = any(table.name in arguments.values.get("table", "") for table in tables)
        for shard in keyspace.shards:
            if named or arguments.values.get("shard") == str(shard.id):
                total = max(total, await _size(work, shard, tables))
    return total <= SMALL_BYTES


async def _size(work: Work, shard: Shard, tables: list[Table]) -> int:
    names = (qualified(physical_schema(f"shard_{shard.id}", table.schema), table.name) for table in tables)
    sizes = " + ".join(f"coalesce(pg_relation_size(to_regclass({literal(name)})), 0)" for name in names)
    async with borrowed(work.tx.lender, shard.group) as link:
        return int((await link.run(f"SELECT {sizes or '0'}"))[0][0] or 0)


async def request(
    work: Work, name: str, arguments: Arguments, cluster: ClusterMap, path: tuple[str, ...]
) -> None:
    """Record what was asked for and watch it until the new placement is in use. Raises WorkflowFailed, or why it cannot be."""
    async with asking(work, cluster, path, name) as session:
        wish = await PLANS[name](session, arguments)
        if wish is None:
            return
        settings = await session.settings(arguments)
        if truth(arguments, "dry_run"):
            new = tuple(replace(piece, id=ShardId(0)) for piece in wish.new) if wish.number else wish.new
            await show(session, wish.kind, wish.old, new, settings)
            return
        number = await write_down(session.home, wish.kind, wish.old, wish.new, settings)
        if "wait" in arguments.values and not truth(arguments, "wait"):
            work.notice(f"workflow {number} is recorded: SELECT * FROM pgherd.workflows shows how far it is")
            return
        await watch(session, number)
