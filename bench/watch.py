"""CPU time and memory of processes, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Watch:
    """The processes whose CPU time is looked at: for each part ("server", "gateway") the pids of its first processes."""

    parts: Mapping[str, tuple[int, ...]]

    def read(self) -> dict[str, float]:
        """CPU seconds of each part so far, its children (also ended ones) included. "client" is this process."""
        found = {name: sum(_family_s(pid) for pid in pids) for name, pids in self.parts.items()}
        found["client"] = time.process_time()
        return found


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds of each part between two readings."""
    return {name: max(0.0, after[name] - before[name]) for name in after}


def resident_bytes(pid: int) -> int:
    """The memory that a process holds (RSS)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _family_s(pid: int) -> float:
    return sum(_process_s(member) for member in (pid, *_children(pid)))


def _children(pid: int) -> Iterable[int]:
    try:
        listed = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return
    for child in listed:
        yield child
        yield from _children(child)


def _process_s(pid: int) -> float:
    """Nanosecond counters of the living threads, ticks for what has ended and was waited for."""
    try:
        ended = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[13:15]
        tasks = [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        return 0.0
    return sum(map(int, tasks)) / 1e9 + sum(map(int, ended)) / _TICKS
