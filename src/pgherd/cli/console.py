"""What commands print: people's tables and programs' JSON to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

# into a file or a pipe nothing is cut short
output = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 240)
errors = Console(stderr=True)


def print_json(value: Any) -> None:
    """Pure JSON, one document, to stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in `right` are aligned to the right."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


@contextmanager
def steps() -> Generator[Callable[[str], None]]:
    """Show the present step of long work as a spinner, where somebody looks."""
    if not errors.is_terminal:
        yield lambda _: None
        return
    with errors.status("") as status:
        yield lambda step: status.update(f"{step} …")
