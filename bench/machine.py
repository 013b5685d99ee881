"""The machine and the versions a run was made with; nothing that names the machine itself."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pgherd.deploy import binaries


def describe() -> dict[str, Any]:
    """Processors, memory, kernel and versions."""
    found = binaries.find()
    packages = ("pgherd", "asyncpg", "uvloop", "postgast")
    return {
        "processor": _first("/proc/cpuinfo", r"model name\s*:\s*(.+)"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_first("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) / 1024**2, 1),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "postgresql": ".".join(map(str, found.version)),
        "pgbouncer": _pgbouncer(),
        **{name: version(name) for name in packages},
    }


def _first(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _pgbouncer() -> str | None:
    from bench.pgbouncer import program

    path = program()
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"PgBouncer (\S+)", said)
    return found[1] if found else "unknown"
