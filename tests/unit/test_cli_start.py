"""Commands start without what only some of them need."""

from __future__ import annotations

import subprocess
import sys

LATER = (
    "asyncpg",
    "patroni",
    "postgast",
    "psycopg",
    "pgherd.backend.connection",
    "pgherd.gateway.server",
    "pgherd.client",
    "pgherd.plan",
)
_LOADED = "import sys; from pgherd.cli.app import build; build(); print(*sys.modules)"


def test_the_commands_are_there_before_the_drivers_are() -> None:
    words = [sys.executable, "-c", _LOADED]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert "pgherd.cli.workflows" in loaded
    assert [name for name in LATER if name in loaded] == []
