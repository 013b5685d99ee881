"""The gateway's process: start it in the background, wait until it listens, stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgherd.deploy import private, processes
from pgherd.errors import DeployError

READY_S = 30.0
STOP_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """The gateway of the cluster in `directory`, as its files there describe it. `mortal`: it ends with its parent."""

    directory: Path
    mortal: bool = False

    @property
    def log(self) -> Path:
        return self.directory / "gateway.log"

    @property
    def config(self) -> Path:
        return self.directory / "gateway.json"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "gateway.pid"

    @property
    def _ready_file(self) -> Path:
        return self.directory / "gateway.ready"

    def pid(self) -> int | None:
        """The gateway's pid if it runs."""
        return processes.read_pid(self._pid_file)

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start it with `settings` and wait until it listens; it may run already. Raises DeployError with its reason."""
        if self.pid() is not None:
            return
        self._ready_file.unlink(missing_ok=True)
        told = {**settings, "ready_file": str(self._ready_file)}
        private.write(self.config, json.dumps(told, indent=2) + "\n")
        before = processes.put_aside(self.log)
        words = [sys.executable, "-m", "pgherd.gateway", "--config", self.config]
        env = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = processes.launch(words, self.log, env=env, dies="KILL" if self.mortal else None)
        processes.write_pid(self._pid_file, process.pid)
        self._wait_ready(process, before)
        process.returncode = 0  # it lives on; Popen shall not warn about it

    def _wait_ready(self, process: subprocess.Popen[bytes], before: int) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            said = self._said(before)
            if "ready" in said or self._ready_file.exists():
                return
            if ended:
                raise DeployError(
                    f"the gateway does not start: {said[-1].removeprefix('pgherd: ') if said else 'it said nothing'}",
                    hint=f"Read {self.log}.",
                )
            time.sleep(processes.POLL_S)
        self.stop()
        raise DeployError(f"the gateway is not ready after {READY_S:.0f} s", hint=f"Read {self.log}.")

    def _said(self, since: int) -> list[str]:
        with self.log.open("rb") as log:
            log.seek(since)
            return [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]

    def stop(self) -> None:
        """Stop it and wait. It may be stopped already."""
        processes.end(self.pid(), STOP_S)
        self._pid_file.unlink(missing_ok=True)
