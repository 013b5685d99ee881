"""Linux's way to let a child end together with its parent, however that one ends (prctl(2), PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dies_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `number` to the child when the thread that started it has ended."""
    prctl = ctypes.CDLL(None).prctl  # looked up here: after fork there should be as little to do as possible

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return arrange
