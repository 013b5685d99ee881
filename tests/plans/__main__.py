"""`python -m tests.plans` shows what differs from the data files; `--write` rewrites them and docs/refused.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from plan_files import REFUSED_PAGE, Block, files, outcome, read_blocks, refused_page, write_blocks


def main() -> None:
    write = "--write" in sys.argv
    for path in files():
        blocks = read_blocks(path)
        found = [Block(block.sql, outcome(block.sql)) for block in blocks]
        for old, new in zip(blocks, found, strict=True):
            if old.expected != new.expected:
                print(f"{path.name}: {new.sql}", *old.expected, "   now:", *new.expected, "", sep="\n")
        if write:
            write_blocks(path, found)
    if write:
        REFUSED_PAGE.write_text(refused_page())


main()
