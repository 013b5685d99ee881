"""The short way: statements of one shard, whose key is among the arguments, once their text is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asyncpg.prepared_stmt import PreparedStatement

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId, Key, Shard, ShardId
from pgherd.client.held import Held, Timing
from pgherd.client.pool import GroupPool
from pgherd.engine.metering import Meter
from pgherd.plan.plans import AnyPlan, Param, Single

# Key types whose Python values are canonical as they are, and remembered. What is equal to such a value (1 and True) goes to the same shard, or is refused
# by asyncpg wherever it goes.
_SAME: Mapping[str, type] = {
    "smallint": int,
    "integer": int,
    "bigint": int,
    "text": str,
    "character varying": str,
}
REMEMBERED = 10_000  # values whose target a route remembers
Target = tuple[GroupPool, str]
Lent = tuple[GroupPool, Held, PreparedStatement, "Route"]


class Route:
    """Where a statement's text goes for given arguments. Made for one map; a new map drops all routes.

    Targets are remembered by the value of the key's argument, for keys of one column.
    """

    __slots__ = ("_known", "_locate", "_number", "_same", "_sources", "_targets", "write")

    def __init__(self, plan: Single, map_: ClusterMap, pools: Mapping[GroupId, GroupPool]) -> None:
        keyspace = map_.keyspaces[plan.keyspace]
        self.write = plan.write
        self._known: dict[Any, Target] = {}
        self._locate: Callable[[Key], Shard | None] = keyspace.locate
        self._sources = [
            (source.number - 1, kind)
            for source, kind in zip(plan.key, keyspace.key_types, strict=True)
            if isinstance(source, Param)
        ]
        one = len(self._sources) == 1
        self._number = self._sources[0][0] if one else 0
        self._same = _SAME.get(self._sources[0][1]) if one else None
        self._targets: dict[ShardId, Target] = {
            shard.id: (pools[shard.group], plan.text.for_shard(shard.id)) for shard in keyspace.shards
        }

    def due(self, args: Sequence[Any], meter: Meter) -> Timing | None:
        """What to time the statement by."""
        meter.skip()
        key = tuple([keys.decode_python(kind, args[at]) for at, kind in self._sources])
        shard = self._locate(key)
        return None if shard is None else (meter, shard.id, key, self.write)

    def target(self, args: Sequence[Any]) -> Target | None:
        """The pool and the shard's text, or None: take the long way (NULL, odd values, too few arguments)."""
        try:
            value = args[self._number]
            known = self._known.get(value)
            if known is not None:
                return known
            plain = type(value) is self._same
            key: Key = (
                (value,)
                if plain
                else tuple([keys.decode_python(kind, args[at]) for at, kind in self._sources])
            )
            shard = self._locate(key)
            if shard is None:
                return None
            found = self._targets[shard.id]
        except Exception:  # whatever is wrong with it, the long way says so properly
            return None
        if plain and len(self._known) < REMEMBERED:
            self._known[value] = found
        return found


def route_for(plan: AnyPlan, map_: ClusterMap, pools: Mapping[GroupId, GroupPool]) -> Route | None:
    """A route, if the plan can take the short way: one shard, every key column an argument, no session state."""
    if not isinstance(plan, Single) or plan.pin or not all(isinstance(source, Param) for source in plan.key):
        return None
    return Route(plan, map_, pools)
