"""A run for people: rows of blocks in the terminal, and an SVG drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from pgherd.balance.sentence import size
from pgherd.simulate.run import Hour, Report

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
COLUMNS: Final = 84
Series = tuple[str, str, list[float], float]  # title, unit, values, the value at the bottom


def series(report: Report) -> list[Series]:
    """What is drawn, hour by hour, from the start on."""
    start = Hour(
        -1, report.before["load_balance"], report.before["size_balance"], int(report.before["shards"])
    )
    hours = [start, *report.hours]
    return [
        ("load of the fullest group, times the mean", "", [hour.load_balance for hour in hours], 1.0),
        ("bytes of the fullest group, times the mean", "", [hour.size_balance for hour in hours], 1.0),
        ("moved per hour", "bytes", [hour.moved_bytes for hour in hours], 0.0),
        ("moves per hour", "", [float(hour.moves) for hour in hours], 0.0),
        ("splits per hour", "", [float(hour.splits) for hour in hours], 0.0),
        ("merges per hour", "", [float(hour.merges) for hour in hours], 0.0),
        ("shards", "", [float(hour.shards) for hour in hours], 0.0),
    ]


def blocks(values: Sequence[float], bottom: float, columns: int = COLUMNS) -> str:
    """The values as a row of blocks, the highest of each part; a value above the bottom always shows."""
    parts = min(columns, len(values))
    highest = [
        max(values[len(values) * part // parts : max(len(values) * (part + 1) // parts, 1)])
        for part in range(parts)
    ]
    top = max([*highest, bottom])
    if top <= bottom:
        return BLOCKS[0] * parts
    heights = (min(1.0, max(0.0, (value - bottom) / (top - bottom))) for value in highest)
    return "".join(BLOCKS[min(8, int(height * 8 + 0.999))] for height in heights)


def lines(report: Report) -> list[str]:
    """The whole answer as lines of text."""
    before, after = report.before, report.after
    found = [
        f"load     max/mean {before['load_balance']:.2f} before, {after['load_balance']:.2f} after",
        f"bytes    max/mean {before['size_balance']:.2f} before, {after['size_balance']:.2f} after",
        f"shards   {before['shards']:,.0f} before, {after['shards']:,.0f} after, {size(after['bytes'])} in them",
        f"moved    {size(after['moved_bytes'])}, {after['moved_bytes'] / max(after['bytes'], 1):.0%} of all bytes,"
        f" in {report.rounds:,} rounds",
        "",
    ]
    for title, unit, values, bottom in series(report):
        found += [f"{title}, up to {_shown(max(values, default=0.0), unit)}", f"  {blocks(values, bottom)}"]
    found += [f"  {_days(len(report.hours))}", "", "decisions, with the first of each kind:"]
    for name, count in sorted(report.reasons.items(), key=lambda item: (-item[1], item[0])):
        found += [f"{count:8,}  {name}", f"          {report.told[name]}"]
    return found


def _shown(value: float, unit: str) -> str:
    return size(value) if unit == "bytes" else f"{value:,.2f}".rstrip("0").rstrip(".")


def _days(hours: int) -> str:
    """An axis below the blocks: a number where a day begins."""
    columns = min(COLUMNS, hours)
    axis = [" "] * (columns + 4)
    for number in range(0, hours, 24):
        at = number * columns // max(hours, 1)
        axis[at : at + 2] = list(f"{number // 24}d"[:2])
    return "".join(axis).rstrip()


WIDTH, HEIGHT, LEFT, GAP = 860, 90, 70, 34


def svg(report: Report, title: str) -> str:
    """The same series as a drawing of its own: no script, no other files."""
    drawn = series(report)
    height = 50 + len(drawn) * (HEIGHT + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16">{escape(title)}</text>',
    ]
    for number, one in enumerate(drawn):
        parts += _panel(one, 50 + number * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _panel(one: Series, top: int) -> list[str]:
    title, unit, values, bottom = one
    highest = max([*values, bottom]) or 1.0
    span = highest - bottom or 1.0
    base = top + HEIGHT
    step = WIDTH / max(len(values), 1)
    found = [
        f'<text x="{LEFT}" y="{top - 6}" fill="#333333">{escape(title)}</text>',
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end" fill="#777777">{escape(_shown(highest, unit))}</text>',
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end" fill="#777777">{escape(_shown(bottom, unit))}</text>',
    ]
    for day in range(0, len(values), 24):
        x = LEFT + day * step
        found.append(f'<path d="M{x:.1f} {top}V{base}" stroke="#dddddd"/>')
        found.append(f'<text x="{x:.1f}" y="{base + 13}" fill="#777777">{day // 24} d</text>')
    line = [f"M{LEFT} {base}"]
    for at, value in enumerate(values):
        y = base - HEIGHT * min(1.0, max(0.0, (value - bottom) / span))
        line.append(f"L{LEFT + at * step:.1f} {y:.1f}H{LEFT + (at + 1) * step:.1f}")
    path = "".join([*line, f"V{base}Z"])
    return [*found, f'<path d="{path}" fill="#3b6ea5" fill-opacity="0.35" stroke="#3b6ea5"/>']
