"""`pgherd simulate`: the decisions about shards over made-up or recorded load, in simulated time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgherd.cli.console import errors, output, print_json, steps
from pgherd.cli.place import JsonOption
from pgherd.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from pgherd.balance.memory import Memory, Round
    from pgherd.balance.picture import Picture
    from pgherd.balance.settings import KeyspaceSettings
    from pgherd.simulate.workloads import Workload


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    groups: Annotated[int, typer.Option(min=1, max=5000, help="How many groups.")] = 20,
    shards: Annotated[int, typer.Option(min=1, max=200_000, help="How many shards at first.")] = 400,
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How long, in simulated time.")] = 7.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 1,
    workload: Annotated[
        str, typer.Option(metavar="NAME", help="zipf, hotspot, growing, surnames or recorded.")
    ] = "zipf",
    recording: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The recording, for --workload recorded.")
    ] = None,
    load: Annotated[
        float, typer.Option(min=0.0, help="Busy seconds per second of each group at the peak, on average.")
    ] = 4.0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A keyspace's setting, such as size_max=2GB."),
    ] = None,
    every: Annotated[
        float,
        typer.Option(
            "--round",
            min=1.0,
            metavar="SECONDS",
            help="How often it looks while changes are under way; else every 10 minutes.",
        ),
    ] = 60.0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into an SVG file.")] = None,
    json: JsonOption = False,
) -> None:
    """Simulate splits, moves and merges by the very code that decides in a cluster; show balance and bytes moved over time."""
    from random import Random  # here: the other commands start faster without all this

    from pgherd.simulate import charts
    from pgherd.simulate.run import Pace, run
    from pgherd.simulate.world import World

    made = _workload(workload, recording, shards, days, load * groups, Random(f"{seed} workload"))
    world = World(made, groups=groups, shards=shards, seed=seed, settings=_settings(settings or []))
    spent: list[float] = []
    with steps() as report:
        done = run(
            world,
            days=days,
            pace=Pace(round_s=max(600.0, every), busy_s=every),
            decider=_timed(spent),
            progress=lambda part: report(f"simulated {part:.0%}"),
        )
    if plot is not None:
        title = f"{groups} groups, {shards} shards, {workload}, {days:g} days, seed {seed}"
        plot.write_text(charts.svg(done, title), encoding="utf-8")
    if json:
        print_json(done.document())
    else:
        for line in charts.lines(done):
            output.print(line, highlight=False, markup=False)
    errors.print(_told(spent), highlight=False)


def _timed(spent: list[float]) -> Callable[[Picture, Memory], Round]:
    """The decisions; what each round takes of CPU time is added to `spent`, in seconds."""
    from pgherd.balance.decide import decide

    def timed(picture: Picture, memory: Memory) -> Round:
        started = time.process_time()
        answer = decide(picture, memory)
        spent.append(time.process_time() - started)
        return answer

    return timed


def _told(spent: list[float]) -> str:
    """What the rounds took, for people."""
    middle, most = sorted(spent)[len(spent) // 2] * 1000, max(spent) * 1000
    return f"a round of decisions took {middle:.0f} ms of CPU (median), {most:.0f} at most"


def _workload(
    name: str, recording: Path | None, shards: int, days: float, load: float, chance: Random
) -> Workload:
    from pgherd.simulate import workloads
    from pgherd.simulate.recorded import Recorded

    if (name == "recorded") != (recording is not None):
        raise BadSetting(
            "a recording goes with --workload recorded", hint="pgherd simulate --workload recorded FILE"
        )
    if recording is not None:
        return Recorded(recording.read_text(encoding="utf-8").splitlines())
    if name not in workloads.NAMES:
        known = ", ".join((*workloads.NAMES, "recorded"))
        raise BadSetting(f"there is no workload {name!r}", hint=f"There are: {known}.")
    return workloads.make(name, shards=shards, days=days, load=load, chance=chance)


def _settings(texts: list[str]) -> KeyspaceSettings:
    from pgherd.balance.settings import KeyspaceSettings, changed

    found = KeyspaceSettings()
    for text in texts:
        name, _, value = text.partition("=")
        found = changed(found, name.strip(), value)
    return found
