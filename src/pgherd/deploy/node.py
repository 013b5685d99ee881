"""One node of a managed group on this machine, from outside: start its process, look at it, stop it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

from pgherd.deploy import node_config, private, processes
from pgherd.deploy.node_config import NodeConfig
from pgherd.deploy.supervise import STOP_S, NodeFiles, bury_orphans, stop_postgres

KILLED_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProcess:
    """A node's supervisor with Patroni and PostgreSQL below it. A value: what it knows is on disk.

    `mortal`: all of it ends in order when the thread that started it does.
    """

    config: NodeConfig
    mortal: bool = False

    @property
    def files(self) -> NodeFiles:
        return NodeFiles(self.config.directory)

    def pid(self) -> int | None:
        """The supervisor's pid, if it runs."""
        return self.files.pid()

    def pids(self) -> dict[str, int | None]:
        """Its three processes: supervisor, patroni, postgres (the postmaster)."""
        files = self.files
        return {"supervisor": files.pid(), "patroni": files.patroni_pid(), "postgres": files.postgres_pid()}

    def launch(self) -> subprocess.Popen[bytes] | None:
        """Start it without waiting. None if it runs already."""
        if self.pid() is not None:
            return None
        self._prepare()
        extra = {"PGHERD_MORTAL": "1"} if self.mortal else {}
        words = [sys.executable, "-m", "pgherd.deploy.supervise", self.files.settings]
        env = os.environ | extra | {"PYTHONUNBUFFERED": "1"}
        process = processes.launch(words, self.files.log, env=env, dies="TERM" if self.mortal else None)
        processes.write_pid(self.files.pid_file, process.pid)
        return process

    def _prepare(self) -> None:
        self.config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text, path = node_config.dump(self.config), self.files.settings
        if not path.exists() or path.read_text() != text:
            private.write(path, text)

    def stop(self) -> None:
        """Stop all of it in order, and wait: nothing is lost. It may be stopped already, or in parts."""
        pid = self.pid()
        if pid is not None:
            processes.send(pid, signal.SIGTERM)
            processes.wait_gone([pid], STOP_S + KILLED_S)
        self.kill(immediate=False)

    def kill(self, *, immediate: bool = True) -> None:
        """End whatever still runs: supervisor and Patroni by SIGKILL, PostgreSQL at once (or `immediate` False: fast)."""
        for pid in (self.files.pid(), self.files.patroni_pid()):
            if pid is not None:
                processes.send(pid, signal.SIGKILL)
                processes.wait_gone([pid], KILLED_S)
        stop_postgres(self.files, immediate=immediate)

    def burn(self) -> None:
        """Lose the machine: SIGKILL for every process of the node at the same moment."""
        pids = [pid for pid in (self.files.pid(), self.files.patroni_pid()) if pid is not None]
        pids += processes.with_directory(self.config.data, "postgres")
        for pid in pids:
            processes.send(pid, signal.SIGKILL)
        processes.wait_gone(pids, KILLED_S)
        bury_orphans(self.config.data)

    def last_words(self) -> str:
        """The last thing that its log says went wrong, for people."""
        try:
            lines = self.files.log.read_text(errors="replace").splitlines()[-200:]
        except OSError:
            return "it has no log"
        bad = [
            line for line in lines if any(word in line for word in ("FATAL", "CRITICAL", "ERROR", "pgherd:"))
        ]
        return (bad or lines or ["it said nothing"])[-1].strip()[:300]

    def remove(self) -> None:
        """Remove its files; it must have been stopped."""
        shutil.rmtree(self.config.directory, ignore_errors=True)
