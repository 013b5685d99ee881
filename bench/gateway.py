"""Point reads and updates through the gateway, by pgbench, against the server alone and against pgbouncer."""

from __future__ import annotations

from pathlib import Path

from bench import pgbouncer, points
from bench.contest import Contestant, Terms, contest
from bench.figures import Aim, Figure
from bench.ground import Ground, Place
from bench.pgbench import Mode, Script
from bench.pgbouncer import Pgbouncer

PLACE = "embedded"
NOTE = "pgbench -c 8 -j 2; one process of pgherd and of pgbouncer; pgbouncer before 1.21 has no prepared statements"
MODES: tuple[Mode, ...] = ("simple", "extended", "prepared")


async def run(ground: Ground) -> list[Figure]:
    """Six figures: read and update in each protocol mode."""
    await points.people(ground)
    place, effort = ground.embedded, ground.effort
    figures: list[Figure] = []
    with pgbouncer.running(ground.directory / "pgbouncer", ground.yard.port(), place.straight_port) as peer:
        terms = Terms(
            rounds=effort.rounds,
            seconds=effort.seconds,
            watch=pgbouncer.watched(place.watch, peer),
            warm_up=1.0,
        )
        for name, sql in (("point read", points.READ), ("point update", points.UPDATE)):
            path = _script(ground.directory / f"{name.replace(' ', '_')}.sql", sql)
            script = Script(path=path, rows=effort.points, clients=effort.clients)
            for mode in MODES:
                contestants = _contestants(place, peer, script, mode)
                aims = [Aim(against="pgbouncer", least=0.8)]
                figures.append(await contest("gateway", f"{name}, {mode}", contestants, terms, aims, NOTE))
    return figures


def _contestants(place: Place, peer: Pgbouncer | None, script: Script, mode: Mode) -> list[Contestant]:
    found = [
        Contestant("pgherd gateway", script.at(place.dsn, mode), ("client", "gateway", "server")),
        Contestant("server alone", script.at(place.straight, mode)),
    ]
    if peer is not None and mode != "prepared":
        found.append(
            Contestant("pgbouncer", script.at(peer.uri("straight"), mode), ("client", "pgbouncer", "server"))
        )
    return found


def _script(path: Path, sql: str) -> Path:
    path.write_text(f"\\set id random(1, :rows)\n{sql.replace('$1', ':id')};\n")
    return path
