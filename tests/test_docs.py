"""The documentation keeps what it says: its SQL and Python run, and every name on the way of a query is there."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import re
import subprocess
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import pgherd
from pgherd.deploy import binaries
from pgherd.testing.servers import Yard

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LIFE = DOCS / "life-of-a-query.md"
DSN = "postgresql://postgres@127.0.0.1:6432/pgherd"  # as the pages have it


# ---- examples ----------------------------------------------------------------------------------------


@pytest.fixture(params=["README.md", "docs/sql.md", "docs/client.md"])
def page(request: pytest.FixtureRequest) -> Path:
    return ROOT / request.param


@pytest.fixture
def dsn(yard: Yard, page: Path) -> Iterator[str]:
    """A gateway in front of a new cluster, so that shard numbers are as on the page."""
    cluster = yard.cluster(f"docs-{page.stem.lower()}", embedded=True, groups=2, gateway=True)
    yield cluster.dsn(cluster.existing())
    cluster.down()


def blocks(page: Path) -> list[tuple[str, str]]:
    """The page's blocks of SQL and Python, in order."""
    return re.findall(r"^```(sql|python)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_examples_run(page: Path, dsn: str) -> None:
    found = blocks(page)
    assert found
    for language, code in found:
        if language == "sql":
            run_sql(code, dsn)
        elif "asyncio.run" in code:
            exec(compile(code.replace(DSN, dsn), page.name, "exec"), {"__name__": "example"})
        else:
            asyncio.run(run_fragment(code, dsn))


def run_sql(code: str, dsn: str) -> None:
    words = [str(binaries.find().path("psql")), "-X", "-v", "ON_ERROR_STOP=1", "-d", dsn]
    done = subprocess.run(words, input=code, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{code}\n{done.stderr}"


async def run_fragment(code: str, dsn: str) -> None:
    """Lines as they stand inside a coroutine that has a `db`."""
    names: dict[str, Any] = {}
    exec(f"async def fragment(db):\n{textwrap.indent(code, '    ')}", names)
    async with pgherd.connect(dsn) as db:
        await names["fragment"](db)


# ---- names -------------------------------------------------------------------------------------------

_NAMED = re.compile(r"\[`([\w.]+)`\]\(\.\./(src/[\w/]+\.py)\)")


@cache
def defined(path: Path) -> frozenset[str]:
    """The module's own name, and the functions, classes and methods that it defines or imports."""
    names = {path.stem}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
            names.update(f"{node.name}.{part.name}" for part in inner)
    return frozenset(names)


def test_the_life_of_a_query_names_what_is_there() -> None:
    named = _NAMED.findall(LIFE.read_text())
    assert len(named) > 30
    assert [(name, path) for name, path in named if name not in defined(ROOT / path)] == []


def test_the_life_of_a_query_passes_every_stage() -> None:
    text = LIFE.read_text()
    stages = ("gateway", "sql", "plan", "topology", "engine", "backend", "catalog", "transaction", "client")
    assert [stage for stage in stages if f"../src/pgherd/{stage}/" not in text] == []


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - {"index.md"}
    assert sorted(page for page in pages if f"({page})" not in index) == []


def test_the_readme_has_the_figures_of_the_reference_run() -> None:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
    assert spec is not None and spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    readme = (ROOT / "README.md").read_text()
    assert readme.count("<!-- figures -->") == 1
    assert figures.rendered(readme) == readme, "run: python tools/figures.py"
