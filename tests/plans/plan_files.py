"""Plan tests are data: a file holds statements, each followed by the plan or the refusal as readable text.

A block is the statement, then lines that begin with `-- `; blocks are separated by blank lines. `# ` begins a heading.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plan_map import MAP

from pgherd.errors import PgherdError, Refused
from pgherd.plan.explain import explain
from pgherd.plan.planner import plan
from pgherd.sql.parse import parse

HERE = Path(__file__).parent
REFUSED_PAGE = HERE.parent.parent / "docs" / "refused.md"


@dataclass(frozen=True, slots=True)
class Block:
    """One statement (or heading, `sql` beginning with "# ") and what is expected of it."""

    sql: str
    expected: tuple[str, ...]


def read_blocks(path: Path) -> list[Block]:
    blocks: list[Block] = []
    for text in path.read_text().split("\n\n"):
        lines = [line for line in text.strip().split("\n") if line]
        sql = "\n".join(line for line in lines if not line.startswith("-- "))
        if sql:
            blocks.append(Block(sql, tuple(line for line in lines if line.startswith("-- "))))
    return blocks


def write_blocks(path: Path, blocks: list[Block]) -> None:
    path.write_text("\n\n".join("\n".join((block.sql, *block.expected)) for block in blocks) + "\n")


def outcome(sql: str) -> tuple[str, ...]:
    """The plan, or the error, as lines."""
    if sql.startswith("# "):
        return ()
    try:
        found = explain(plan(parse(sql)[0], MAP), MAP)
    except PgherdError as error:
        lines = [f"-- {type(error).__name__} {error.sqlstate}: {error.message}"]
        lines += [f"--   detail: {error.detail}"] if error.detail else []
        return (*lines, *([f"--   hint: {error.hint}"] if error.hint else []))
    return tuple(line.rstrip() for line in _lines(found, ""))


def _lines(found: dict[str, Any], indent: str) -> list[str]:
    lines = [f"-- {indent}{found.pop('route')}: {found.pop('why', '')}".rstrip(" :")]
    for name, value in found.items():
        if isinstance(value, dict):
            lines.append(f"-- {indent}  {name}:")
            lines += _lines(value, indent + "    ")
        elif isinstance(value, list) and value and isinstance(value[0], dict | list):
            lines += [f"-- {indent}  {name}: {one}" for one in value]
        else:
            lines.append(f"-- {indent}  {name}: {value}".replace("\n", "\n-- "))
    return lines


def files() -> list[Path]:
    return sorted(HERE.glob("*.sql"))


def refused_page() -> str:
    """docs/refused.md, from refused.sql."""
    lines = [
        "# What pgherd refuses",
        "",
        "Each of these ends in SQLSTATE 0A000 with the hint shown. The page is written from `tests/plans/refused.sql` and, for",
        "definitions, `tests/plans/definitions/refused.sql`, which the tests check, by `python -m tests.plans --write`.",
        "The tables in the first are those of `tests/plans/plan_map.py`; in the second `hashed` is distributed, `codes` a reference",
        "table, `single` a single one. What a server refuses by itself is PostgreSQL's own message, and not listed here.",
    ]
    for block in [*read_blocks(HERE / "refused.sql"), *read_blocks(HERE / "definitions" / "refused.sql")]:
        if block.sql.startswith("# "):
            lines += ["", f"## {block.sql[2:]}", ""]
            continue
        message = block.expected[0].split(": ", 1)[1]
        hint = next((line.split("hint: ", 1)[1] for line in block.expected if "hint: " in line), "")
        lines.append(f"* `{' '.join(block.sql.split())}`: {message}. {hint}")
    return "\n".join(lines) + "\n"


def is_refusal(block: Block) -> bool:
    return bool(block.expected) and block.expected[0].startswith(
        f"-- {Refused.__name__} {Refused.sqlstate}: "
    )
