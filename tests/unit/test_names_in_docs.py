"""What the pages name is there: targets of make, modules to run, functions, procedures and settings. (test_guarantees: tests.)"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

import pgherd
from pgherd.balance.settings import NAMES
from pgherd.catalog.admin import PROCEDURES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])


def named(pattern: str) -> list[tuple[str, str]]:
    """Where a pattern occurs, and what its group is there."""
    found = [(page, name) for page in PAGES for name in re.findall(pattern, page.read_text())]
    assert found, "the pattern finds nothing: it tests nothing"
    return [(page.relative_to(ROOT).as_posix(), name) for page, name in found]


@cache
def in_catalog() -> frozenset[str]:
    """Everything that the catalog makes in the schema pgherd, what the gateway answers itself, and settings of that name."""
    texts = "\n".join(path.read_text() for path in (ROOT / "src" / "pgherd").rglob("*.sql"))
    made = re.findall(r"\bpgherd\.(\w+)", texts)
    code = "\n".join(path.read_text() for path in (ROOT / "src" / "pgherd").rglob("*.py"))
    return frozenset(made) | frozenset(PROCEDURES) | frozenset(re.findall(r"[\"']pgherd\.(\w+)[\"']", code))


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    missing = [
        pair for pair in named(r"(?m)(?:`|^|\b[A-Z]+=\S+ )make (\w+)(?=`|\s)") if pair[1] not in targets
    ]
    assert missing == []


def test_modules_that_are_run_exist() -> None:
    missing = [
        (page, name)
        for page, name in named(r"python -m ([\w.]+)")
        if importlib.util.find_spec(name) is None and not (ROOT / name.replace(".", "/")).exists()
    ]
    assert missing == []


def test_what_is_called_exists() -> None:
    """`pgherd.name(...)` in SQL or in Python."""
    called = named(r"\bpgherd\.(\w+)\(")
    assert [pair for pair in called if pair[1] not in in_catalog() and not hasattr(pgherd, pair[1])] == []


def test_settings_that_are_shown_exist() -> None:
    shown = named(r"\b(?:SET|SHOW|RESET)(?: LOCAL)? pgherd\.(\w+)")
    assert [pair for pair in shown if pair[1] not in in_catalog() | set(NAMES)] == []
