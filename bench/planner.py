"""Microseconds of the planner for one statement: parsed and planned, found again, and recognised by its shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pgherd
from bench import points
from bench.contest import Contestant, Terms, Turn, contest
from bench.figures import Figure
from bench.ground import Ground
from pgherd.catalog.model import ClusterMap
from pgherd.plan import planner
from pgherd.plan.plans import Param, Single
from pgherd.plan.template import Skeleton, template
from pgherd.sql.parse import parse
from pgherd.sql.statement import Statement

PLACE = "embedded"
NOTE = (
    "in this process, one core. uncached: libpg_query and planning; cached: the same text again; "
    "shape: other literals, from text to the shard's text"
)
AGGREGATE = (
    "SELECT name, count(*), avg(hits) FROM people WHERE hits > 5 GROUP BY name ORDER BY 2 DESC LIMIT 10"
)
JOIN = (
    "SELECT a.name, b.hits FROM people a JOIN people b ON a.id = b.id WHERE a.id = $1 AND b.hits IN (1, 2, 3)"
)
BATCH = 200  # calls between two looks at the clock
PATH = ("public",)
_numbers = count(1)


async def run(ground: Ground) -> list[Figure]:
    """The first contestant of each figure is the point read; others put it in proportion."""
    await points.people(ground)
    place, effort = ground.embedded, ground.effort
    async with pgherd.connect(place.dsn) as db:
        cluster, plans = db.map, db.plans
        terms = Terms(rounds=effort.rounds, seconds=effort.seconds / 3, watch=place.watch, unit="µs")
        texts = {
            "point read": points.READ,
            "point update": points.UPDATE,
            "join": JOIN,
            "aggregate": AGGREGATE,
        }
        uncached = [_contestant(name, lambda sql=sql: _plan(sql, cluster)) for name, sql in texts.items()]
        parsing = [_contestant(name, lambda sql=sql: _parse(sql)) for name, sql in texts.items()]
        cached = [_contestant(name, lambda sql=sql: plans.get(sql, PATH)) for name, sql in texts.items()]
        shape = [_contestant("point read", _shape(cluster))]
        return [
            replace(await contest("planner", name, contestants, terms, note=NOTE), ratios={})
            for name, contestants in (
                ("parse alone", parsing),
                ("uncached", uncached),
                ("cached", cached),
                ("shape", shape),
            )
        ]


def _parse(sql: str) -> Statement:
    """Parsed texts are remembered: make it another text each time."""
    return parse(f"{sql} -- {next(_numbers)}")[0]


def _plan(sql: str, cluster: ClusterMap) -> object:
    return planner.plan(_parse(sql), cluster)


def _shape(cluster: ClusterMap) -> Callable[[], object]:
    sql = points.READ.replace("$1", "4711")
    found = template(sql)
    assert found is not None
    plan = planner.plan(parse(found[0])[0], cluster)
    assert isinstance(plan, Single)
    skeleton = Skeleton(plan.text)
    keyspace = cluster.keyspaces[plan.keyspace]
    source = plan.key[0]
    assert isinstance(source, Param)

    def call() -> object:
        shape = template(sql)
        assert shape is not None
        shard = keyspace.locate((int(shape[1][source.number - 1].text),))
        assert shard is not None
        return skeleton.render(shard.id, shape[1])

    return call


def _contestant(name: str, call: Callable[[], object]) -> Contestant:
    async def turn(seconds: float) -> Turn:
        count, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < seconds:
            for _ in range(BATCH):
                call()
            count += BATCH
        return Turn(count=count, seconds=passed)

    return Contestant(name, turn, ())
