"""Reads from replicas beside reads from primaries, and what waiting for a standby costs a write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import asyncpg

import pgherd
from bench.contest import Contestant, Step, Terms, Turn, contest, side_by_side
from bench.figures import Figure
from bench.ground import Ground, close, connections
from bench.points import READ, UPDATE
from bench.watch import Watch
from pgherd.deploy import processes
from pgherd.deploy.local import LocalCluster

PLACE = "replicated"
NOTE = "all nodes, gateway and clients share one machine: replicas add no processors here, so 1.0 is as good as it gets"


async def run(ground: Ground) -> list[Figure]:
    """Point reads by freshness, through client and gateway; updates with and without a standby's acknowledgement."""
    cluster = ground.replicated
    dsn = cluster.dsn(cluster.existing())
    await _fill(dsn, ground.effort.points)
    terms = Terms(rounds=ground.effort.rounds, seconds=ground.effort.seconds, watch=_watch(cluster))
    return [
        await _client_reads(ground, dsn, terms),
        await _gateway_reads(ground, dsn, terms),
        await _synchronous(ground, cluster, terms),
    ]


async def _fill(dsn: str, rows: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL, hits integer NOT NULL) PARTITION BY HASH (id)"
    )
    await connection.execute(
        f"INSERT INTO people SELECT g, 'name of ' || g, 0 FROM generate_series(1, {rows}) g"
    )
    await connection.close()


def _watch(cluster: LocalCluster) -> Watch:
    replicated = cluster.replicated(cluster.existing())
    servers = [
        pid for node in replicated.nodes() for pid in processes.with_directory(node.config.data, "postgres")
    ]
    gateway = cluster.gateway.pid()
    return Watch({"gateway": (gateway,) if gateway else (), "server": tuple(servers)})


async def _client_reads(ground: Ground, dsn: str, terms: Terms) -> Figure:
    effort = ground.effort
    dbs = {read: await pgherd.connect(dsn, read=read, max_size=effort.clients) for read in _LEVELS}

    def contestant(read: str) -> Contestant:
        async def turn(seconds: float) -> Turn:
            return await side_by_side(_reads([dbs[read]] * effort.clients, effort.points), seconds)

        return Contestant(f"client, {read}", turn)

    try:
        return await contest(
            "replicas", "point read, client", [contestant(read) for read in _LEVELS], terms, note=NOTE
        )
    finally:
        for db in dbs.values():
            await db.close()


_LEVELS = ("eventual", "strong", "session", "bounded 5s")


async def _gateway_reads(ground: Ground, dsn: str, terms: Terms) -> Figure:
    effort = ground.effort
    held: dict[str, list[asyncpg.Connection]] = {}
    for read in _LEVELS:
        held[read] = await connections(dsn, effort.clients)
        for connection in held[read]:
            await connection.execute(f"SET pgherd.read = '{read}'")

    def contestant(read: str) -> Contestant:
        async def turn(seconds: float) -> Turn:
            return await side_by_side(_reads(held[read], effort.points), seconds)

        return Contestant(f"gateway, {read}", turn, ("client", "gateway", "server"))

    try:
        return await contest(
            "replicas", "point read, gateway", [contestant(read) for read in _LEVELS], terms, note=NOTE
        )
    finally:
        for links in held.values():
            await close(links)


def _reads(faces: Sequence[Any], points: int) -> list[Step]:
    def step(face: Any, seed: int) -> Step:
        chance = random.Random(seed)
        return lambda: face.fetchrow(READ, chance.randint(1, points))

    return [step(face, seed) for seed, face in enumerate(faces)]


async def _synchronous(ground: Ground, cluster: LocalCluster, terms: Terms) -> Figure:
    """Straight to one primary: only what a commit waits for differs."""
    node = next(iter(cluster.nodes(cluster.existing())))
    uri = f"postgresql://postgres@{node.host}:{node.port}/{node.database}"
    maker = await asyncpg.connect(uri)
    await maker.execute("CREATE TABLE straight (id bigint PRIMARY KEY, name text, hits integer NOT NULL)")
    await maker.execute("INSERT INTO straight SELECT g, '', 0 FROM generate_series(1, 10000) g")
    await maker.close()
    held = {level: await connections(uri, ground.effort.clients) for level in ("on", "local")}
    names = {"on": "waits for the standby", "local": "waits for its own disk"}

    def contestant(level: str) -> Contestant:
        async def turn(seconds: float) -> Turn:
            return await side_by_side(_updates(held[level]), seconds)

        return Contestant(names[level], turn)

    for level, links in held.items():
        for link in links:
            await link.execute(f"SET synchronous_commit = {level}")
    try:
        return await contest(
            "replicas",
            "point update, synchronous replication",
            [contestant("on"), contestant("local")],
            terms,
        )
    finally:
        for links in held.values():
            await close(links)


def _updates(links: Sequence[asyncpg.Connection]) -> list[Step]:
    sql = UPDATE.replace("people", "straight")
    rows = itertools.cycle(range(1, 10_001, 7))
    return [lambda link=link: link.execute(sql, next(rows)) for link in links]
