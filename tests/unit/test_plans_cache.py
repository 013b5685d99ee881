"""The plan cache: bounded, emptied by another epoch, oldest use out first."""

from __future__ import annotations

import pytest

from pgherd.catalog.model import ClusterMap
from pgherd.engine.plans_cache import CacheSize, PlanCache, Planned
from pgherd.plan.plans import Empty
from pgherd.sql.statement import Statement

PATH = ("public",)


class Counting:
    """A planner that counts; a text has one statement for each letter."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, sql: str, path: tuple[str, ...], map_: ClusterMap) -> tuple[Planned, ...]:
        self.texts.append(sql)
        return tuple(
            (Statement(text=letter, kind="", tree=None), Empty(why=str(map_.epoch))) for letter in sql
        )


def test_plans_once_for_each_text_and_epoch() -> None:
    planner = Counting()
    cache = PlanCache(ClusterMap(epoch=1, groups={}), planner)
    assert cache.get("a", PATH) is cache.get("a", PATH)
    cache.renew(ClusterMap(epoch=1, groups={}))
    cache.get("a", PATH)
    assert (planner.texts, cache.hits, cache.misses) == (["a"], 2, 1)
    cache.renew(ClusterMap(epoch=2, groups={}))
    assert cache.get("a", PATH)[1].why == "2"
    cache.get("a", ("other",))
    assert planner.texts == ["a", "a", "a"]


def test_the_longest_unused_goes_first() -> None:
    planner = Counting()
    cache = PlanCache(ClusterMap(epoch=1, groups={}), planner, CacheSize(entries=2, text=3))
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.get(text, PATH)
    assert planner.texts == ["a", "b", "c", "b"]
    for _ in range(2):
        cache.get_all("long", PATH)  # longer than the bound: never kept
    assert planner.texts[-2:] == ["long", "long"]


def test_one_statement_only() -> None:
    cache = PlanCache(ClusterMap(epoch=1, groups={}), Counting())
    with pytest.raises(ValueError, match="multiple commands"):
        cache.get("ab", PATH)
    assert len(cache.get_all("ab", PATH)) == 2
