"""The gateway's memory with many idle connections."""

from __future__ import annotations

import asyncpg

from bench import pgbouncer
from bench.figures import Figure, Reached
from bench.ground import Ground, close
from bench.watch import resident_bytes

PLACE = "embedded"
NOTE = "resident memory (RSS); each connection has run a statement with a parameter and is idle"
AT_ONCE = 50


async def run(ground: Ground) -> list[Figure]:
    """KiB for each connection beyond the first few, and in all."""
    place, count = ground.embedded, ground.effort.idle
    with pgbouncer.running(ground.directory / "pgbouncer", ground.yard.port(), place.straight_port) as peer:
        targets = {"pgherd gateway": (place.dsn, place.gateway_pid)}
        if peer is not None:
            targets["pgbouncer"] = (peer.uri("straight"), peer.pid)
        measured = {name: await _measure(uri, pid, count) for name, (uri, pid) in targets.items()}
    each = {name: Reached(median=one, rounds=(one,)) for name, (one, _) in measured.items()}
    total = {name: Reached(median=all_, rounds=(all_,)) for name, (_, all_) in measured.items()}
    return [
        Figure(item="memory", name="per idle connection", unit="KiB", reached=each, note=NOTE),
        Figure(
            item="memory", name=f"process, {count:,} idle connections", unit="MiB", reached=total, note=NOTE
        ),
    ]


async def _measure(uri: str, pid: int, count: int) -> tuple[float, float]:
    warm = [await _used(uri) for _ in range(8)]  # the first ones pay for what all share
    before = resident_bytes(pid)
    held: list[asyncpg.Connection] = []
    for _ in range(0, count, AT_ONCE):
        held += [await _used(uri) for _ in range(min(AT_ONCE, count - len(held)))]
    after = resident_bytes(pid)
    await close([*warm, *held])
    return (after - before) / count / 1024, after / 1024**2


async def _used(uri: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(uri, statement_cache_size=0)
    if await connection.fetchval("SELECT $1::int + 1", 1) != 2:
        raise RuntimeError("wrong answer")
    return connection
