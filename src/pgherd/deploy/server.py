"""One PostgreSQL server: make its data directory, start it, stop it, start it again after a crash."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgherd.deploy import processes
from pgherd.deploy.binaries import Binaries
from pgherd.deploy.configuration import Auth, hba_conf, postgresql_conf, socket_directory
from pgherd.deploy.identity import Identity
from pgherd.errors import DeployError

START_S = 300.0  # recovery after a crash may have much WAL to read
STOP_S = 60.0
ORPHANS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A PostgreSQL server whose data lies in `directory`/data. A value: it knows nothing that the disk does not.

    `durable` False is for tests (a power cut loses data). `mortal`: the server ends when the starting process does.
    """

    binaries: Binaries
    identity: Identity
    directory: Path
    port: int
    auth: Auth = "trust"
    durable: bool = True
    mortal: bool = False
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the server says before its own log is open (all of it if not durable)."""
        return self.directory / "start.log"

    @property
    def exists(self) -> bool:
        """Has its data directory been made, completely?"""
        return (self.data / "pgherd.conf").exists()

    def uri(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """A libpq URI of one of its databases."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, *, password: str | None = None, template: Path | None = None) -> None:
        """Make the data directory: by initdb, or as a copy of `template`. What an interrupted attempt left is removed."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.identity.own(self.directory)
            if self.data.exists():
                shutil.rmtree(self.data)
        except OSError as error:
            raise DeployError(
                f"{self.directory} cannot be used: {error.strerror}",
                hint="Look at its owner and permissions.",
            ) from error
        if template is None:
            self._initdb(password)
        else:
            self._run(["cp", "-a", template, self.data], "copy the data directory")
        own = self.data / "postgresql.conf"
        own.write_text("include 'pgherd.conf'\n# Your own settings go below this line.\n")
        self.identity.own(own)
        self._configure()  # last: `exists` looks for what this writes

    def _initdb(self, password: str | None) -> None:
        words: list[str | os.PathLike[str]] = [
            self.binaries.path("initdb"),
            "-D",
            self.data,
            "-U",
            "postgres",
            "-E",
            "UTF8",
        ]
        words += ["--no-sync", "--no-instructions", "--locale=C"]
        if self.binaries.version[0] >= 17:  # keys order by code point, on every system
            words += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        secret = self.directory / "password"
        if password is not None:
            secret.touch(mode=0o600)
            secret.write_text(password)
            self.identity.own(secret)
            words += ["--auth=scram-sha-256", f"--pwfile={secret}"]
        else:
            words += ["--auth=trust"]
        try:
            self._run(words, "make a data directory")
        finally:
            secret.unlink(missing_ok=True)
        if self.durable:
            os.sync()  # one sync of everything instead of initdb's file by file

    def _run(self, words: list[str | os.PathLike[str]], doing: str) -> None:
        done = subprocess.run(
            self.identity.command(words),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **self.identity.options(),
        )
        if done.returncode:
            said = done.stderr or done.stdout
            raise DeployError(
                f"cannot {doing} in {self.directory}: {_worst(said.splitlines())}", hint=_hint(said)
            )

    def _configure(self) -> None:
        sockets = socket_directory(self.directory, self.port)
        conf = postgresql_conf(
            port=self.port, socket_directory=sockets, durable=self.durable, extra=self.settings
        )
        for name, text in (("pg_hba.conf", hba_conf(self.auth)), ("pgherd.conf", conf)):
            path = self.data / name
            path.write_text(text)
            self.identity.own(path)

    def ask(self, sql: str, database: str = "postgres", *, password: str | None = None) -> str:
        """Run SQL through psql and answer its output, unaligned and without headers. Raises DeployError."""
        words = [self.binaries.path("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.uri(database)]
        environment = os.environ | {"PGPASSWORD": password or "", "PGCONNECT_TIMEOUT": "10"}
        done = subprocess.run(words, input=sql, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise DeployError(
                f"the server on port {self.port} refuses: {done.stderr.strip() or 'no reason given'}"
            )
        return done.stdout.strip()

    # ---- running ---------------------------------------------------------------------------------

    def pid(self) -> int | None:
        """The postmaster's pid if it runs."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        return pid if processes.belongs(pid, self.data, "postgres") else None

    def start(self) -> None:
        """Start it and wait until it takes connections. It may run already. Raises DeployError with the server's reason."""
        process = self.launch()
        self.wait_ready(process)
        if process is None and self.pid() is None:  # it was just being killed when we looked
            self.wait_ready(self.launch())

    def launch(self) -> subprocess.Popen[bytes] | None:
        """Start it without waiting; hand the answer to `wait_ready`. None if it runs already.

        If `mortal`, call this from the main thread: the server ends when the calling *thread* does.
        """
        if self.pid() is not None:
            return None
        self._check_version()
        self._bury()
        self._configure()
        words: list[str | os.PathLike[str]] = [self.binaries.path("postgres"), "-D", self.data]
        if self.mortal:
            words = [*processes.dying_with_parent("QUIT"), *words]  # an immediate shutdown
        options = self.identity.options()
        with self.log.open("wb") as log:
            return subprocess.Popen[bytes](
                self.identity.command(words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # a Ctrl-C at the terminal is ours to answer
                **options,
            )

    def _check_version(self) -> None:
        made = (self.data / "PG_VERSION").read_text().strip()
        if made != str(self.binaries.version[0]):
            raise DeployError(
                f"the data in {self.directory} is PostgreSQL {made}'s, but the programs are version {self.binaries.version[0]}",
                hint=f"Set PGHERD_PG_BIN to the bin directory of a PostgreSQL {made}, or upgrade the data with pg_upgrade.",
            )

    def wait_ready(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait until the server takes connections. Raises DeployError with the server's reason."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                raise self._start_error()
            if self._status() == "ready":
                if process is not None:
                    process.returncode = 0  # it lives on; Popen shall not warn about it
                return
            time.sleep(processes.POLL_S)
        raise DeployError(
            f"the server in {self.directory} is not ready after {START_S:.0f} s", hint=f"Read {self.log}."
        )

    def _status(self) -> str:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        return lines[7].strip() if len(lines) > 7 else ""

    def _start_error(self) -> DeployError:
        lines = self._log_lines()
        said = "\n".join(lines)
        reason = _worst(lines)
        if "Address already in use" in said:
            reason = f"port {self.port} is in use"
        return DeployError(
            f"the server in {self.directory} does not start: {reason}",
            hint=_hint(reason + said) or f"Read {self.log}.",
        )

    def _log_lines(self) -> list[str]:
        text = self.log.read_text(errors="replace")
        newest = max((self.data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            text += "\n".join(newest.read_text(errors="replace").splitlines()[-20:])
        return [line for line in text.splitlines() if line.strip()]

    def _bury(self) -> None:
        """After a kill -9 of the postmaster: end its orphans, which hold the shared memory, and drop a stale pid file.

        PostgreSQL takes the file's pid for alive if any process of the same user has it by now; we know better.
        """
        orphans = processes.with_directory(self.data, "postgres")
        if not processes.wait_gone(orphans, ORPHANS_S / 10):
            for number in (signal.SIGQUIT, signal.SIGKILL):
                for pid in orphans:
                    processes.send(pid, number)
                if processes.wait_gone(orphans, ORPHANS_S):
                    break
        for stale in (self.data / "postmaster.pid", *self.directory.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop it and wait: fast (nothing is lost), or `immediate` as in a crash. It may be stopped already."""
        pid = self.pid()
        family = processes.with_directory(self.data, "postgres")
        if pid is None and not family:
            return
        for number, within_s in (
            (signal.SIGQUIT if immediate else signal.SIGINT, STOP_S),
            (signal.SIGQUIT, ORPHANS_S),
        ):
            if pid is not None:
                processes.send(pid, number)
                if processes.wait_gone([pid], within_s):
                    break
        self._bury()


def _worst(lines: Sequence[str]) -> str:
    """The line that tells the reason, without its time stamp and level."""
    told = [line.strip() for line in lines if line.strip()] or ["no reason given"]
    worst = next((line for line in told if re.search(r"FATAL|PANIC|error:|ERROR", line)), told[-1])
    return re.split(r"(?:FATAL|PANIC|ERROR|error):\s*", worst)[-1]


_HINTS = (
    (r"No space left|wrote only|free disk space", "The disk is full: free some space, then try again."),
    (r"is in use|already in use", "Stop what uses it, then try again."),
    (r"[Pp]ermission", "Look at the directory's owner and permissions."),
)


def _hint(said: str) -> str | None:
    """What to do about what PostgreSQL said."""
    return next((hint for pattern, hint in _HINTS if re.search(pattern, said)), None)
