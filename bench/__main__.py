"""`make bench`, or `python -m bench`: run the items, print the ratios, write JSON."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from bench import machine
from bench.effort import FULL, QUICK, Effort
from bench.figures import Figure, show
from bench.ground import Ground
from pgherd.testing.servers import Yard

ITEMS = (
    "client",
    "gateway",
    "planner",
    "federated",
    "copying",
    "memory",
    "transfer",
    "snapshots",
    "replicas",
    "far",
    "resharding",
    "balance",
    "failover",
)
RESULTS = Path(__file__).parent / "results"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this item (again for more): {', '.join(ITEMS)}.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Seconds in all, to see that everything runs; figures mean nothing.")
    ] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns for each contestant.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.05, help="Length of a turn.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
) -> None:
    """Measure pgherd beside what one would use without it, each pair in turns in one run."""
    chosen = tuple(only or ITEMS)
    if unknown := set(chosen) - set(ITEMS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}", param_hint="--only")
    effort = QUICK if quick else FULL
    if rounds is not None:
        effort = replace(effort, rounds=rounds, copy_rounds=rounds)
    if seconds is not None:
        effort = replace(effort, seconds=seconds)
    begun = time.perf_counter()
    console = Console(stderr=True)
    figures = _run(chosen, effort, console)
    out = Console()
    show(figures, out if out.is_terminal else Console(width=120))
    target = output or RESULTS / ("quick.local.json" if quick else "latest.local.json")
    target.write_text(json.dumps(_report(figures, effort, time.perf_counter() - begun), indent=1) + "\n")
    console.print(f"written to {target}", style="dim")


def _run(chosen: tuple[str, ...], effort: Effort, console: Console) -> list[Figure]:
    yard = Yard.open()
    try:
        ground = Ground(effort, yard)
        figures: list[Figure] = []
        for item in chosen:
            with console.status(f"measuring: {item}"):
                module = import_module(f"bench.{item}")
                getattr(
                    ground, module.PLACE
                )  # started here: its processes end with the thread that starts them
                figures += uvloop.run(module.run(ground))
        return figures
    finally:
        yard.close()


def _report(figures: list[Figure], effort: Effort, seconds: float) -> dict[str, Any]:
    return {
        "machine": machine.describe(),
        "effort": {name: getattr(effort, name) for name in effort.__slots__},
        "took_s": round(seconds),
        "figures": [figure.as_json() for figure in figures],
    }


if __name__ == "__main__":
    app()
