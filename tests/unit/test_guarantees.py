"""Every promise in docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guarantees.md"


def _tests(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_promise_is_held_by_tests_that_exist() -> None:
    rows = [
        line
        for line in PAGE.read_text().split("## Promises")[1].split("##")[0].splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 15
    for row in rows[2:]:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test holds: {row}"
        for file, name in named:
            assert name in _tests(ROOT / file), f"{file} has no {name}"
