"""The steps of a workflow by name, in order, and what people are told while each is done. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PHASES: Final[Mapping[str, str]] = {
    "preflight": "looking for obstacles",
    "stage": "making tables",
    "publish": "publishing changes",
    "copy": "copying rows",
    "index": "making indexes",
    "catch_up": "catching up",
    "verify": "comparing rows",
    "prepare_back": "preparing the way back",
    "announce": "telling everybody",
    "cutover": "switching over",
    "keep": "keeping the old tables in step",
    "clean": "cleaning up",
}
NAMES: Final = tuple(PHASES)
CUTOVER: Final = NAMES.index("cutover")


def reached(step: str) -> int:
    """How many steps are done when `step` is the last of them; "": none."""
    return NAMES.index(step) + 1 if step in NAMES else 0
