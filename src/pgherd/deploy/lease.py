"""The lease of a node, in the file `pgherd_lease` of its data directory: until when nobody else can be primary.

`pgherd.node_state()` reads it. What it means, and why it holds: docs/design/004-replicas.md.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE = "pgherd_lease"


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of the node whose PostgreSQL data lies in `data`. Times are seconds since 1970."""

    data: Path

    @property
    def path(self) -> Path:
        return self.data / FILE

    def until(self) -> float:
        """When it ends; 0 if there is none."""
        try:
            return int(self.path.read_text()) / 1000
        except (OSError, ValueError):
            return 0.0

    def extend(self, until: float) -> None:
        """Write a new end."""
        self._write(int(until * 1000))

    def end(self) -> None:
        """Write that there is none, if there was one (it may have come with a copy of the primary's files)."""
        if self.until():
            self._write(0)

    def _write(self, milliseconds: int) -> None:
        """Whole or not at all. A full disk must not end the lease: then in place, which needs no space."""
        if not (self.data / "PG_VERSION").exists():  # Patroni makes data only in an empty directory
            return
        text = f"{milliseconds:013d}\n".encode()
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_bytes(text)
            fresh.replace(self.path)
        except OSError:
            with suppress(OSError):
                handle = os.open(self.path, os.O_WRONLY)
                try:
                    os.pwrite(handle, text, 0)
                finally:
                    os.close(handle)
