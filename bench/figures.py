"""What a benchmark found: figures with ratios and aims, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What the ratio to `against` should be: `least` or `most` so much."""

    against: str
    least: float | None = None
    most: float | None = None

    def met(self, ratio: float) -> bool:
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One contestant's rounds in the figure's unit, their median, and CPU microseconds per statement by part."""

    median: float
    rounds: tuple[float, ...]
    cpu_us: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`reached`: by contestant, pgherd first. `ratios`: pgherd's to each other's."""

    item: str
    name: str
    unit: str
    reached: Mapping[str, Reached]
    ratios: Mapping[str, float] = field(default_factory=dict[str, float])
    aims: tuple[Aim, ...] = ()
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to what they are worth."""
        return {
            "item": self.item,
            "name": self.name,
            "unit": self.unit,
            "reached": {
                name: {
                    "median": _round(one.median),
                    "rounds": [_round(value) for value in one.rounds],
                    "cpu_us": {part: _round(value) for part, value in one.cpu_us.items()},
                }
                for name, one in self.reached.items()
            },
            "ratios": {name: round(value, 3) for name, value in self.ratios.items()},
            "aims": {aim.against: str(aim) for aim in self.aims},
            "met": {aim.against: aim.met(self.ratios[aim.against]) for aim in self.aims},
            "note": self.note,
        }


def show(figures: list[Figure], console: Console) -> None:
    """One table for each item."""
    for item in dict.fromkeys(figure.item for figure in figures):
        table = Table(title=item, title_justify="left", title_style="bold", expand=False)
        for heading in ("figure", "by"):
            table.add_column(heading)
        for heading in ("median", "ratio", "aim", "CPU µs per statement"):
            table.add_column(heading, justify="right")
        for figure in figures:
            if figure.item == item:
                _rows(table, figure)
        console.print(table)
        for note in dict.fromkeys(figure.note for figure in figures if figure.item == item and figure.note):
            console.print(f"  {note}", style="dim")


def _rows(table: Table, figure: Figure) -> None:
    aims = {aim.against: aim for aim in figure.aims}
    for number, (name, reached) in enumerate(figure.reached.items()):
        ratio = figure.ratios.get(name)
        aim = aims.get(name)
        style = "" if aim is None or ratio is None else "green" if aim.met(ratio) else "yellow"
        total = sum(reached.cpu_us.values())
        parts = " ".join(f"{part} {_us(value)}" for part, value in reached.cpu_us.items())
        table.add_row(
            figure.name if number == 0 else "",
            name,
            f"{_shown(reached.median)} {figure.unit}{_span(figure, reached)}",
            "" if ratio is None else f"[{style}]{ratio:.2f}[/]" if style else f"{ratio:.2f}",
            str(aim or ""),
            f"{_us(total)} ({parts})" if parts else "",
        )
    table.add_section()


def _span(figure: Figure, reached: Reached) -> str:
    """The least and the most, for what is counted in seconds: there the worst round matters as much as the median."""
    if figure.unit != "s":
        return ""
    return f" ({_shown(min(reached.rounds))} to {_shown(max(reached.rounds))})"


def _us(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _round(value: float) -> float:
    return float(f"{value:.4g}")
