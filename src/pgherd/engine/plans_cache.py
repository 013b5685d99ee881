"""From text to plans, remembered: parsing and planning happen once for a text, a search path and an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgherd.catalog.model import ClusterMap
from pgherd.plan.plans import AnyPlan
from pgherd.sql.statement import Statement

Planned = tuple[Statement, AnyPlan]
Planner = Callable[[str, tuple[str, ...], ClusterMap], tuple[Planned, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Bounds of a cache: entries, and the longest text (characters) worth remembering."""

    entries: int = 4_096
    text: int = 20_000


class PlanCache:
    """A bounded cache, oldest use out first. Belongs to one event loop; a new map empties it.

    Single texts of one statement are what `get` is for; `get_all` answers every statement of a text.
    """

    __slots__ = ("_map", "_plan", "_plans", "_size", "hits", "misses")

    def __init__(self, map_: ClusterMap, plan: Planner, size: CacheSize | None = None) -> None:
        self._map = map_
        self._plan = plan
        self._plans: dict[tuple[str, tuple[str, ...]], tuple[Planned, ...]] = {}
        self._size = size or CacheSize()
        self.hits = 0
        self.misses = 0

    @property
    def map(self) -> ClusterMap:
        """The map that the plans were made for."""
        return self._map

    def renew(self, map_: ClusterMap) -> None:
        """Plan for another map from now on; forgets everything if its epoch differs."""
        if map_.epoch != self._map.epoch:
            self._plans.clear()
        self._map = map_

    def forget(self) -> None:
        """Drop all plans (the map's epoch may be the same, but something else that planning reads changed)."""
        self._plans.clear()

    def get_all(self, sql: str, path: tuple[str, ...]) -> tuple[Planned, ...]:
        """All statements of `sql` with their plans. Raises SyntaxRefused, Refused, and whatever planning raises."""
        key = (sql, path)
        found = self._plans.pop(key, None)
        if found is not None:
            self.hits += 1
            self._plans[key] = found  # youngest again
            return found
        self.misses += 1
        found = self._plan(sql, path, self._map)
        if len(sql) <= self._size.text:
            if len(self._plans) >= self._size.entries:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = found
        return found

    def get(self, sql: str, path: tuple[str, ...]) -> Planned:
        """The one statement of `sql` with its plan. ValueError if there are several."""
        found = self.get_all(sql, path)
        if len(found) != 1:
            raise ValueError("cannot insert multiple commands into a prepared statement")
        return found[0]
