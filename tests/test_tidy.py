"""How the project keeps its shape: sizes, names, words and links. What is listed as too large may only shrink."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

# Larger than the bound for a reason, with the size it may have at most. Shrink a number when the code shrinks.
LARGE_FILES: dict[str, int] = {}
LARGE_FUNCTIONS: dict[str, int] = {}

BAD_MODULE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

# Left-overs of work in progress, and paths that only exist on one machine.
BAD_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|(?<![\w.])/(work|root)/|/home/\w+/")

# Other products' or older words for things that docs/vocabulary.md names.
BAD_SYNONYMS = re.compile(
    r"\b(vshards?|vnodes?|tablets?|worker nodes?|shard maps?|routing tables?)\b", re.IGNORECASE
)


@cache
def _files(*suffixes: str) -> tuple[Path, ...]:
    """The repository's files with these suffixes: what git knows or would add."""
    words = [
        "git",
        "-c",
        "safe.directory=*",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(ROOT / name for name in listed if name.endswith(suffixes) and (ROOT / name).is_file())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _python() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in _files(".py"):
        text = path.read_text()
        yield path, text, ast.parse(text)


def test_files_stay_small() -> None:
    sizes = {_name(path): text.count("\n") for path, text, _ in _python()}
    assert {name: size for name, size in sizes.items() if size > LARGE_FILES.get(name, FILE_LINES_MAX)} == {}
    small = {name for name in LARGE_FILES if sizes.get(name, 0) <= FILE_LINES_MAX}
    assert not small, "these are small by now: take them off LARGE_FILES"


def test_functions_stay_small() -> None:
    sizes: dict[str, int] = {}
    for path, _, tree in _python():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                sizes[f"{_name(path)}:{node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    assert {
        name: size for name, size in sizes.items() if size > LARGE_FUNCTIONS.get(name, FUNCTION_LINES_MAX)
    } == {}
    small = {name for name in LARGE_FUNCTIONS if sizes.get(name, 0) <= FUNCTION_LINES_MAX}
    assert not small, "these are small by now: take them off LARGE_FUNCTIONS"


def test_modules_say_what_they_are() -> None:
    silent = [_name(path) for path, text, tree in _python() if text.strip() and not ast.get_docstring(tree)]
    silent = [name for name in silent if name.startswith("src/")]
    assert silent == [], "a module opens by saying its part"
    vague = [_name(path) for path in _files(".py") if {path.stem, path.parent.name} & BAD_MODULE_NAMES]
    assert vague == [], "name a module after what it does"


@pytest.mark.parametrize("pattern", [BAD_WORDS, BAD_SYNONYMS], ids=["left-overs", "synonyms"])
def test_words(pattern: re.Pattern[str]) -> None:
    found: list[str] = []
    for path in _files(".py", ".md", ".sql", ".toml", ".sh", ".yaml", ".json", "Makefile", "run"):
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{_name(path)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_the_lock_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert "--hash=sha256:" in text


_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


def test_links_lead_somewhere() -> None:
    broken: list[str] = []
    for page in _files(".md"):
        for target in _LINK.findall(_without_code(page.read_text())):
            if "://" in target or target.startswith("mailto:"):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in _anchors(path)):
                broken.append(f"{_name(page)}: {target}")
    assert broken == []


def test_paths_in_the_docs_exist() -> None:
    pattern = re.compile(r"`((?:src|tests|docs|bench|tools)/[\w./-]+)`")
    named = [(page, name) for page in _files(".md") for name in pattern.findall(page.read_text())]
    missing = [f"{_name(page)}: {name}" for page, name in named if not (ROOT / name).exists()]
    assert missing == []


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as the usual renderers do."""
    plain = (
        re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in _HEADING.findall(page.read_text())
    )
    return {heading.replace(" ", "-") for heading in plain}
