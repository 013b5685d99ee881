"""Processes of this machine, as /proc shows them: start one, is it still the one we started, and end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

POLL_S = 0.02
LOG_BYTES_MAX = 20_000_000


def dying_with_parent(signal_name: str) -> list[str]:
    """What to put before a command so that the kernel sends it a signal when the *thread* that started it has ended.

    However that came; see prctl(2), PR_SET_PDEATHSIG.
    """
    return ["setpriv", "--pdeathsig", signal_name, "--"]


def started_at(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if it does not exist or has ended (a zombie).

    A pid together with this number names one process for ever, though pids are used again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def alive(pid: int, start: int | None = None) -> bool:
    """Is process `pid` running (and, if given, the one that started at `start`)?"""
    now = started_at(pid)
    return now is not None and start in (None, now)


def belongs(pid: int, directory: Path, program: str) -> bool:
    """Is process `pid` alive, running `program`, with `directory` as its working directory?"""
    entry = Path(f"/proc/{pid}")
    try:
        fits = (entry / "cwd").readlink() == directory.resolve() and (
            entry / "exe"
        ).readlink().name == program
    except OSError:
        return False
    return fits and alive(pid)


def with_directory(directory: Path, program: str) -> list[int]:
    """The pids of `program`'s processes whose working directory is `directory`: a server's whole family, orphans included."""
    wanted = directory.resolve()
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if belongs(pid, wanted, program)]


def launch(
    words: Sequence[str | os.PathLike[str]], log: Path, *, env: Mapping[str, str], dies: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in the background that says what it says in `log`. `dies`: the signal that ends it when this thread has ended."""
    prefix = dying_with_parent(dies) if dies is not None else []
    with log.open("ab") as said:
        return subprocess.Popen[bytes](
            [*prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            env=env,
            start_new_session=True,
        )


def put_aside(log: Path) -> int:
    """Let a log that has grown large begin anew; how long it is then."""
    size = log.stat().st_size if log.exists() else 0
    if size <= LOG_BYTES_MAX:
        return size
    log.replace(log.with_suffix(".log.1"))
    return 0


def end(pid: int | None, within_s: float) -> None:
    """End a process and wait: by SIGTERM, after `within_s` by SIGKILL. None, or gone already, is fine."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if pid is not None:
            send(pid, number)
            if wait_gone([pid], within_s):
                return


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is already gone is fine."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_gone(pids: Iterable[int], within_s: float) -> bool:
    """Wait until all `pids` have ended, at most `within_s` seconds. False if some still run."""
    left = [pid for pid in pids if _running(pid)]
    deadline = time.monotonic() + within_s
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = [pid for pid in left if _running(pid)]
    return not left


def _running(pid: int) -> bool:
    with suppress(ChildProcessError):  # reap it if it is a child of ours, else it stays a zombie
        os.waitpid(pid, os.WNOHANG)
    return alive(pid)


def write_pid(file: Path, pid: int) -> None:
    """Note in `file` which process runs: its pid and when it started."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{pid} {started_at(pid)}\n")
    fresh.replace(file)


def read_pid(file: Path) -> int | None:
    """The pid that `write_pid` noted, if that process still runs."""
    try:
        pid, start = map(int, file.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if alive(pid, start) else None
