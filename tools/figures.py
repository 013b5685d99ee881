"""Writes the README's figures from bench/results/reference.json: `python tools/figures.py`. A test checks that they agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "bench" / "results" / "reference.json"
_SECTION = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def rendered(readme: str) -> str:
    """The README's text with the figures of the reference run in their place."""
    body = (
        _table(json.loads(REFERENCE.read_text()))
        if REFERENCE.exists()
        else "No reference run is recorded yet.\n"
    )
    return _SECTION.sub(lambda found: found[1] + body + found[2], readme)


def _table(report: dict[str, Any]) -> str:
    lines = ["| what | pgherd | ratio to | aim |", "| --- | ---: | ---: | --- |"]
    for figure in report["figures"]:
        own, *others = figure["reached"].items()
        ratios = ", ".join(f"{ratio:.2f} × {name}" for name, ratio in figure["ratios"].items())
        if figure["unit"] == "s":  # there the worst round matters as much as the median
            ratios = ", ".join(f"{name} {_seconds(one)}" for name, one in others)
        aims = ", ".join(f"{aim} {name}{_mark(figure, name)}" for name, aim in figure["aims"].items())
        lines.append(f"| {figure['item']}: {figure['name']} | {_own(figure, own[1])} | {ratios} | {aims} |")
    return "\n".join(lines) + "\n"


def _own(figure: dict[str, Any], one: dict[str, Any]) -> str:
    return _seconds(one) if figure["unit"] == "s" else f"{_shown(one['median'])} {figure['unit']}"


def _seconds(one: dict[str, Any]) -> str:
    return f"{_shown(one['median'])} s ({_shown(min(one['rounds']))} to {_shown(max(one['rounds']))})"


def _mark(figure: dict[str, Any], name: str) -> str:
    return "" if figure["met"].get(name, True) else " (missed)"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
