"""What the demonstration prints: headings, SQL, answers with their times, and bars; coloured on a terminal, plain elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 30
WIDTH_MAX = 100
_INDENT = 4
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Screen:
    """The place to print to."""

    def __init__(self) -> None:
        self.console = Console(width=WIDTH_MAX if not sys.stdout.isatty() else None, highlight=False)
        self.console.width = min(self.console.width, WIDTH_MAX)

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self.console.print()
        self.console.print(Rule(f"[bold]{escape(title)}[/]", align="left", characters="─"))

    def say(self, text: str) -> None:
        """Tell something, in lines as wide as fits; rich markup is understood."""
        self.console.print()
        self.console.print(" ".join(text.split()))

    def sql(self, text: str) -> None:
        """Show statements as they are sent."""
        self.console.print()
        if not self.console.is_terminal:
            self.lines(text.strip().splitlines())
            return
        code = Syntax(
            text.strip(), "postgresql", theme="ansi_dark", background_color="default", word_wrap=True
        )
        self.console.print(Padding(code, (0, 0, 0, _INDENT)))

    def lines(self, lines: Sequence[str]) -> None:
        """Show text that PostgreSQL or pgherd answered, as it is."""
        for line in lines:
            self.console.print(Text(" " * _INDENT + line, style="cyan"), soft_wrap=True)

    def note(self, text: str) -> None:
        """A short remark below an answer: a time, a count."""
        self.console.print(Padding(Text(text, style="dim"), (0, 0, 0, _INDENT), expand=False))

    def rows(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show rows; numbers stand right."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for position, column in enumerate(columns):
            number = any(isinstance(row[position], int | Decimal) for row in rows)
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*(escape(figure(value)) for value in row))
        self.console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))

    def bars(self, bars: Sequence[tuple[str, int, str]]) -> None:
        """A bar for each of (label, value, remark), to one scale."""
        self.console.print()
        self.console.print(_bars(bars))

    @contextmanager
    def live(self) -> Generator[Callable[[Sequence[tuple[str, int, str]], str], None]]:
        """Bars that change in place, with a line below them, where somebody looks; what is said meanwhile stands above."""
        if not self.console.is_terminal:
            yield lambda _, __: None
            return
        with Live(console=self.console, transient=True, auto_refresh=False) as shown:

            def show(bars: Sequence[tuple[str, int, str]], line: str) -> None:
                below = Padding(Text(line, style="dim"), (0, 0, 0, _INDENT), expand=False)
                shown.update(Group(Text(), _bars(bars), below), refresh=True)

            yield show

    @contextmanager
    def working(self, what: str) -> Generator[Callable[[str], None]]:
        """A spinner while something starts, where somebody looks; the function shows the present step."""
        if not self.console.is_terminal:
            yield lambda _: None
            return
        with self.console.status(what) as status:
            yield lambda step: status.update(f"{what}: {step} …")

    @contextmanager
    def progress(self, what: str, total: int) -> Generator[Callable[[int], None]]:
        """A progress bar over `total` rows, where somebody looks; the function adds rows that are done."""
        if not self.console.is_terminal:
            yield lambda _: None
            return
        columns = (
            TextColumn("    {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda rows: progress.advance(task, rows)


def _bars(bars: Sequence[tuple[str, int, str]]) -> Padding:
    most = max((value for _, value, _ in bars), default=0) or 1
    table = Table(box=None, show_header=False, pad_edge=False)
    for justify in ("left", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for label, value, remark in bars:
        shown = Text(bar(value / most), style="green")
        table.add_row(Text(label), shown, f"{value:,}", Text(remark, style="dim"))
    return Padding(table, (0, 0, 0, _INDENT), expand=False)


def bar(part: float) -> str:
    """A bar as long as `part` (0 to 1) of the full width."""
    eighths = round(part * BAR_WIDTH * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def figure(value: Any) -> str:
    """A value for people: integers with commas, nothing for NULL, a key's columns beside each other."""
    match value:
        case None:
            return ""
        case int():
            return f"{value:,}"
        case list():
            return ", ".join(map(str, cast("list[object]", value)))
        case _:
            return str(value)


def duration(seconds: float) -> str:
    """A time for people."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
