"""Every statement of the data files is planned as written there. Rewrite them by `python -m tests.plans --write`."""

from __future__ import annotations

import pytest
from plan_files import HERE, REFUSED_PAGE, Block, files, is_refusal, outcome, read_blocks, refused_page

_BLOCKS = [
    (path.stem, block) for path in files() for block in read_blocks(path) if not block.sql.startswith("# ")
]


@pytest.mark.parametrize(
    ("file", "block"), _BLOCKS, ids=[f"{file}: {block.sql[:60]}" for file, block in _BLOCKS]
)
def test_the_plan_is_as_written(file: str, block: Block) -> None:
    assert outcome(block.sql) == block.expected, file


def test_the_data_is_there() -> None:
    assert len(_BLOCKS) >= 150


def test_what_is_listed_as_refused_is_refused_with_a_hint() -> None:
    for block in read_blocks(HERE / "refused.sql"):
        if not block.sql.startswith("# "):
            assert is_refusal(block), block.sql
            assert any("hint: " in line for line in block.expected), block.sql


def test_the_page_of_refusals_is_current() -> None:
    assert REFUSED_PAGE.read_text() == refused_page()
