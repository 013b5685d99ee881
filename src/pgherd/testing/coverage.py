"""What a test run really covered: a green run proves nothing unless it says how much it did.

`covered` adds figures; the pytest plugin prints them at the end. A figure that stays empty fails its own test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

FIGURES: dict[str, Counter[str]] = {}


def covered(what: str, counts: Mapping[str, int]) -> None:
    """Add `counts` to the figures under the heading `what`. Raises AssertionError if they are empty."""
    assert any(counts.values()), f"the run covered nothing of: {what}"
    FIGURES.setdefault(what, Counter()).update(counts)


def lines() -> list[str]:
    """The figures, one line for each heading."""
    return [
        f"{what}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        for what, counts in sorted(FIGURES.items())
    ]
