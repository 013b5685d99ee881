"""Where the demonstration runs: a cluster of two servers in a state directory of its own."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pgherd.demo.screen import Screen
from pgherd.deploy import ports, state
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.wish import GATEWAY_PORT, Wish
from pgherd.errors import DeployError

GROUPS = 2
COMMAND_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running cluster: its DSN, its directory, the words that start `pgherd` on it; `old`: it was there before."""

    dsn: str
    directory: Path
    servers: int
    old: bool

    def command(self, name: str) -> str:
        """`pgherd NAME` for this cluster, as one types it."""
        return f"{_program()} {name} --state {shlex.quote(str(self.directory))}"


async def run_command(place: Place, screen: Screen, name: str, *words: str) -> float:
    """Run a pgherd command on the cluster, show it and what it prints; answers the seconds. Raises DeployError if it fails."""
    screen.sql(f"$ {place.command(name)} {' '.join(words)}".rstrip())
    started = time.monotonic()
    told = await ask_command(place, name, *words)
    screen.lines(told.rstrip().splitlines())
    return time.monotonic() - started


async def ask_command(place: Place, name: str, *words: str) -> str:
    """Run a pgherd command on the cluster and answer what it prints. Raises DeployError if it fails or does not end."""
    program = [sys.executable, "-c", "from pgherd.cli import main; main()"]
    given = [name, *words, "--state", str(place.directory)]
    process = await asyncio.create_subprocess_exec(
        *program, *given, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(COMMAND_S):
            told, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise DeployError(f"pgherd {name} did not end within {COMMAND_S:.0f} s") from None
    if process.returncode:
        raise DeployError(f"pgherd {name} failed: {errors.decode().strip()}")
    return told.decode()


def default_directory() -> Path:
    """Beside the default state directory."""
    return state.default_directory().with_name("demo")


def open_place(directory: Path, wish: Wish, report: Callable[[str], None]) -> Place:
    """Start the cluster, making it if it is new. Raises DeployError."""
    local = LocalCluster(directory, report=report)
    before = local.state()
    old = before is not None and before.installed
    if before is not None:
        wish = replace(wish, groups=None)  # it may have grown
    if before is not None and wish.port is None and local.gateway.pid() is None:
        wish = replace(wish, port=_free(before.gateway.port))
    current = local.up(wish)
    return Place(dsn=local.dsn(current), directory=directory, servers=len(current.servers), old=old)


def _free(port: int) -> int:
    """`port` if it is still free, else another."""
    return ports.first_free([port, *range(GATEWAY_PORT, GATEWAY_PORT + 100)])[0]


def _program() -> str:
    """How this environment's `pgherd` is called from here."""
    own = Path(sys.executable).with_name("pgherd")
    found = shutil.which("pgherd")
    if not own.exists() or (found is not None and Path(found).absolute() == own.absolute()):
        return "pgherd"
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))
