"""A node's own process, `pgherd node`: it keeps Patroni running, which keeps PostgreSQL running.

The same on a laptop and in production. Killed without warning, it leaves both to the next one, which takes them over; so
its death alone disturbs nobody. Imports are few: it lives beside every server.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pgherd.deploy import binaries, identity, node_config, processes
from pgherd.deploy import patroni as patroni_config
from pgherd.deploy.lease import Lease
from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import DeployError, PgherdError

LOOK_EVERY_S = 0.25
ASK_EVERY_S = 1.0
STOP_S = 60.0
ORPHANS_S = 10.0
PAUSE_S_MAX = 5.0  # between starts of a Patroni that ends again and again
LOG_BYTES_MAX = 20_000_000


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """The files of a node in its directory, and the processes that they name. Nothing but the disk is asked."""

    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "node.log"

    @property
    def settings(self) -> Path:
        """The node's NodeConfig, where pgherd made it."""
        return self.directory / "node.json"

    @property
    def patroni_settings(self) -> Path:
        return self.directory / "patroni.json"

    @property
    def pid_file(self) -> Path:
        return self.directory / "node.pid"

    @property
    def patroni_pid_file(self) -> Path:
        return self.directory / "patroni.pid"

    def pid(self) -> int | None:
        """The supervisor's pid, if it runs."""
        return processes.read_pid(self.pid_file)

    def patroni_pid(self) -> int | None:
        """Patroni's pid, if it runs."""
        return processes.read_pid(self.patroni_pid_file)

    def postgres_pid(self) -> int | None:
        """The postmaster's pid, if it runs."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        return pid if processes.belongs(pid, self.data, "postgres") else None


def main() -> int:
    """Run the node whose settings file the command line names, until told to stop. Answers the exit code."""
    try:
        config = node_config.load(Path(sys.argv[1]).absolute())
        found = binaries.find(config.pg_bin)
        _become(config, found)
        Supervisor(config, found, announces="--announce" in sys.argv[2:]).run()
    except PgherdError as error:
        print(f"pgherd: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


def _become(config: NodeConfig, found: binaries.Binaries) -> None:
    """As root: start anew as somebody whom PostgreSQL accepts. What a killed one left is cleared while we still may."""
    if os.geteuid() != 0:
        return
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    bury_orphans(config.data)
    who = identity.of_existing(config.data) or identity.choose(found, config.directory, python=True)
    if who.kind == "account":
        for path in (config.directory, *config.directory.glob("*.*")):
            who.own(path)
        os.setgroups([])
        os.setgid(who.gid)
        os.setuid(who.uid)
    # becoming somebody else cancels the signal at the parent's death
    words = who.command([*_prefix(), sys.executable, "-m", "pgherd.deploy.supervise", *sys.argv[1:]])
    os.execvp(words[0], words)


@dataclass(slots=True)
class Supervisor:
    """Starts Patroni, starts it again when it has ended or hangs, and stops it with PostgreSQL at the end.

    `announces`: it also lets the catalog know where the node answers, see `deploy.announce`.
    """

    config: NodeConfig
    binaries: binaries.Binaries
    announces: bool = False
    _announced: bool = False
    _announcer: subprocess.Popen[bytes] | None = None
    _child: subprocess.Popen[bytes] | None = None
    _patroni: int | None = None
    _started: float = 0.0
    _pause_s: float = 0.0
    _asked: float = 0.0
    _answered: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Event = field(default_factory=threading.Event)

    @property
    def files(self) -> NodeFiles:
        return NodeFiles(self.config.directory)

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises DeployError if the node runs already."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._changed.set())
        self.config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock()
        processes.write_pid(self.files.pid_file, os.getpid())
        try:
            while not self._stop.is_set():
                self._look()
                if self._changed.is_set():
                    self._reload()
                self._stop.wait(LOOK_EVERY_S)
        finally:
            self._end()
            self.files.pid_file.unlink(missing_ok=True)
            os.close(lock)

    def _lock(self) -> int:
        handle = os.open(self.config.directory / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise DeployError(
                f"the node in {self.config.directory} runs already", hint="Stop that one first."
            ) from error
        return handle

    # ---- Patroni -----------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._patroni is None or not self._alive():
            self._start()
        elif time.monotonic() - self._asked >= ASK_EVERY_S:
            self._ask()
        if self.files.postgres_pid() is None:
            bury_orphans(self.config.data)
        elif self.announces and not self._announced:
            self._announce()

    def _announce(self) -> None:
        """Run the process that registers this node, until it has done so."""
        if self._announcer is None:
            words = [sys.executable, "-m", "pgherd.deploy.announce", sys.argv[1]]
            prefix = processes.dying_with_parent("TERM")
            self._announcer = subprocess.Popen[bytes]([*prefix, *words], stdin=subprocess.DEVNULL, cwd="/")
        elif (code := self._announcer.poll()) is not None:
            self._announcer, self._announced = None, code == 0

    def _alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self.files.patroni_pid() == self._patroni

    def _start(self) -> None:
        """Take over the Patroni that a killed supervisor left, or start one; not too often if it ends at once."""
        now = time.monotonic()
        self._answered, self._asked = None, now
        adopted = self.files.patroni_pid()
        if adopted is not None:
            _say(f"taking over Patroni, process {adopted}")
            self._child, self._patroni = None, adopted
            return
        if self._patroni is not None:
            _say(f"Patroni has ended{self._code()}")
            self._pause_s = 0.2 if now - self._started > 10 else min(PAUSE_S_MAX, self._pause_s * 2 + 0.2)
            if self._stop.wait(self._pause_s):
                return
        self._write_settings()
        self._rotate()
        self._started = time.monotonic()
        self._child = subprocess.Popen[bytes](
            [sys.executable, "-m", "pgherd.deploy.patroni_main", self.files.patroni_settings],
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=self._environment(),
            start_new_session=True,  # a Ctrl-C at the terminal is ours to answer
        )
        self._patroni = self._child.pid
        processes.write_pid(self.files.patroni_pid_file, self._child.pid)

    def _code(self) -> str:
        return "" if self._child is None else f" with code {self._child.returncode}"

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PATRONI_")}
        return kept | patroni_config.environment(self.config)

    def _write_settings(self) -> None:
        path = self.files.patroni_settings
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)  # it holds passwords
        fresh.write_text(patroni_config.text(self.config, self.binaries))
        fresh.replace(path)

    def _rotate(self) -> None:
        """Keep the log, where it is a file, from filling the disk."""
        log = self.files.log
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX and os.fstat(2).st_ino == log.stat().st_ino:
            log.with_suffix(".log.1").write_bytes(log.read_bytes()[-LOG_BYTES_MAX // 4 :])
            os.truncate(log, 0)

    def _ask(self) -> None:
        """Does Patroni's REST API answer? If it did once and has not for nearly a ttl: it hangs, and is killed."""
        if answers(self.config):
            self._answered = time.monotonic()
        self._asked = time.monotonic()
        patience = patroni_config.dynamic(self.config)["ttl"] - 1
        if self._answered is not None and self._asked - self._answered > patience and self._patroni:
            _say(f"Patroni does not answer for {patience} s: killed")
            processes.send(self._patroni, signal.SIGKILL)
            if self._child is not None:
                self._child.wait(10)

    def _stop_announcing(self) -> None:
        announcer, self._announcer = self._announcer, None
        if announcer is None:
            return
        announcer.terminate()
        try:
            announcer.wait(ORPHANS_S)
        except subprocess.TimeoutExpired:  # whatever holds it up must not end the node
            announcer.kill()

    def _reload(self) -> None:
        """Take up changed settings and renewed certificates, here, in Patroni and in PostgreSQL."""
        self._changed.clear()
        try:
            config = node_config.load(Path(sys.argv[1]).absolute())
            patroni_config.check(config, self.binaries)
        except PgherdError as error:
            _say(f"the settings stay as they were: {error.message}")
            return
        if _place(config) != _place(self.config):
            _say("the node's name, addresses and directory change at its next start")
            return
        self._stop_announcing()  # it goes by the settings that it was started with
        self.config, self._announced = config, False  # region and zone may be others
        self._write_settings()
        for pid in (self._patroni, self.files.postgres_pid()):
            if pid is not None:
                processes.send(pid, signal.SIGHUP)

    # ---- the end -----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Patroni stops PostgreSQL and gives the leader's key back; if it cannot, PostgreSQL is stopped by us."""
        self._stop_announcing()
        pid = self._patroni if self._patroni and self._alive() else None
        if pid is not None:
            processes.send(pid, signal.SIGTERM)
            if not processes.wait_gone([pid], STOP_S):
                _say("Patroni does not stop: killed")
                processes.send(pid, signal.SIGKILL)
                processes.wait_gone([pid], ORPHANS_S)
        Lease(self.config.data).end()
        stop_postgres(self.files)
        self.files.patroni_pid_file.unlink(missing_ok=True)


def _place(config: NodeConfig) -> tuple[object, ...]:
    """Who and where a node is."""
    who = (config.cluster, config.group, config.name, config.directory)
    return (*who, config.host, config.bind, config.port, config.rest_port, config.pg_bin)


def answers(config: NodeConfig, timeout_s: float = 1.0) -> bool:
    """Does Patroni's REST API on this machine answer anything at all within `timeout_s`?"""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.bind, config.bind)
    try:
        with socket.create_connection((host, config.rest_port), timeout_s) as plain:
            if config.tls_cert is None:
                return _exchange(plain)
            import ssl

            context = ssl.create_default_context()
            context.check_hostname = False  # it is this machine, and nothing secret is said
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(plain) as wrapped:
                return _exchange(wrapped)
    except OSError:
        return False


def _exchange(connection: socket.socket) -> bool:
    connection.sendall(b"GET /liveness HTTP/1.0\r\n\r\n")
    return connection.recv(16).startswith(b"HTTP/")


def stop_postgres(files: NodeFiles, *, immediate: bool = False) -> None:
    """Stop a PostgreSQL that no Patroni looks after, and wait: fast, or `immediate` as in a crash."""
    steps = (
        ((signal.SIGQUIT, ORPHANS_S),)
        if immediate
        else ((signal.SIGINT, STOP_S), (signal.SIGQUIT, ORPHANS_S))
    )
    for number, within_s in steps:
        pid = files.postgres_pid()
        if pid is None:
            break
        processes.send(pid, number)
        processes.wait_gone([pid], within_s)
    bury_orphans(files.data)


def bury_orphans(data: Path) -> None:
    """End the backends of a postmaster that was killed: they hold the shared memory, and block the next start."""
    orphans = [pid for pid in processes.with_directory(data, "postgres") if _orphaned(pid)]
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for pid in orphans:
            processes.send(pid, number)
        if processes.wait_gone(orphans, 1.0):
            return


def _orphaned(pid: int) -> bool:
    """A backend (its title begins with `postgres: `) whose parent is no PostgreSQL."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        status = Path(f"/proc/{pid}/stat").read_text()
        parent = int(status[status.rindex(")") + 2 :].split()[1])
        above = Path(f"/proc/{parent}/comm").read_text().strip()
    except (OSError, ValueError):
        return False
    return title.startswith(b"postgres: ") and above != "postgres"


def _prefix() -> list[str]:
    return processes.dying_with_parent("TERM") if os.environ.get("PGHERD_MORTAL") else []


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{now} pgherd node: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
