"""Managed groups without Patroni: a primary and a standby each, and leases that the test itself keeps, so that every step of a
failover happens when the test says so."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import catalog, processes
from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.server import Server
from pgherd.testing.servers import Yard

LEASE_S = 3.0
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(slots=True)
class Herd:
    """`groups[g]` are the servers of group g by name; `primary[g]` is the name of the one that has the lease (None: nobody)."""

    yard: Yard
    name: str
    groups: list[dict[str, Server]]
    primary: list[str | None]
    nodes: list[Node] = field(default_factory=list[Node])
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def names(self) -> list[list[str]]:
        """The servers' names, by group."""
        return [list(group) for group in self.groups]

    def server(self, name: str) -> Server:
        return next(group[name] for group in self.groups if name in group)

    def ask(self, name: str, sql: str) -> str:
        with psycopg.connect(self.server(name).uri("pgherd"), autocommit=True) as link:
            row = link.execute(sql).fetchone()  # type: ignore[arg-type]
        return "" if row is None else str(row[0])

    def run(self, name: str, *sql: str) -> None:
        with psycopg.connect(self.server(name).uri("pgherd"), autocommit=True) as link:
            for text in sql:
                link.execute(text)  # type: ignore[arg-type]

    # ---- leases ----------------------------------------------------------------------------------------

    def keep_leases(self) -> None:
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(0.3):
            for group, primary in zip(self.groups, self.primary, strict=True):
                for name, server in group.items():
                    if name == primary:
                        lease(server, time.time() + LEASE_S)

    def end_lease(self, group: int, *, at_once: bool = False) -> str:
        """Renew no more; `at_once`: and give it up now. Answers who had it."""
        had = self.primary[group]
        assert had is not None
        self.primary[group] = None
        if at_once:
            lease(self.server(had), 0)
        return had

    def promote(self, group: int, name: str) -> None:
        """Let a standby be the primary, with the lease."""
        self.ask(name, "SELECT pg_promote(true, 30)")
        self.run(name, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
        self.primary[group] = name
        lease(self.server(name), time.time() + LEASE_S)

    # ---- pieces of standbys ----------------------------------------------------------------------------

    def make_standby(self, of: Server, name: str) -> Server:
        server = self.yard.make(name)
        server.directory.mkdir(mode=0o700, parents=True)
        server.identity.own(server.directory)
        words = [of.binaries.path("pg_basebackup"), "-D", server.data, "-R", "-X", "stream", "-c", "fast"]
        words += ["-d", f"host=127.0.0.1 port={of.port} user=postgres application_name={name}"]
        done = subprocess.run(
            server.identity.command(words),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **server.identity.options(),
        )
        assert done.returncode == 0, done.stderr
        server.start()
        return server

    def synchronous(self, group: int, standby: str) -> None:
        """From now on commits of the group's primary wait for `standby`."""
        primary = self.primary[group]
        assert primary is not None
        self.run(
            primary,
            f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'",
            "SELECT pg_reload_conf()",
        )
        wait_until(lambda: self.ask(primary, "SELECT max(sync_state) FROM pg_stat_replication") == "sync")

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """All processes of a server are stopped (SIGSTOP), as on a machine that hangs."""
        pids = family(self.server(name))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                if processes_alive(pid):
                    os.kill(pid, signal.SIGCONT)

    def caught_up(self, group: int) -> None:
        """Wait until the standby of a group shows all that its primary has."""
        first, second = self.names[group]
        target = self.ask(first, "SELECT pg_current_wal_lsn()")
        wait_until(lambda: self.ask(second, f"SELECT pg_last_wal_replay_lsn() >= '{target}'") == "True")

    @contextmanager
    def paused(self, group: int) -> Iterator[None]:
        """The standby of a group receives, but shows nothing new."""
        name = self.names[group][1]
        self.ask(name, "SELECT pg_wal_replay_pause()")
        wait_until(lambda: self.ask(name, "SELECT pg_get_wal_replay_pause_state()") == "paused")
        try:
            yield
        finally:
            self.ask(name, "SELECT pg_wal_replay_resume()")

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


def lease(server: Server, until: float) -> None:
    """Write a node's lease file, as `pgherd node` does."""
    path = server.data / "pgherd_lease"
    fresh = server.data / "pgherd_lease.new"
    fresh.write_text(f"{int(until * 1000)}\n")
    server.identity.own(fresh)
    fresh.replace(path)


def family(server: Server) -> list[int]:
    """The postmaster and its children."""
    return processes.with_directory(server.data, "postgres")


def processes_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill(server: Server) -> None:
    """kill -9 of a server's whole family."""
    for pid in {*family(server)}:
        if processes_alive(pid):
            os.kill(pid, signal.SIGKILL)


class Later(threading.Thread):
    """Runs something on a connection of its own; `result` has what it answered or raised."""

    def __init__(self, job: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.job = job
        self.outcome: Any = "still running"
        self.took = 0.0
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self.outcome = self.job()
        except psycopg.Error as error:
            self.outcome = error
        self.took = time.monotonic() - begun

    def ended_within(self, seconds: float) -> bool:
        self.join(seconds)
        return not self.is_alive()

    def result(self) -> Any:
        self.join(40)
        assert not self.is_alive(), "it still runs"
        return self.outcome

    def sqlstate(self) -> str | None:
        """The SQLSTATE of what it raised."""
        outcome = self.result()
        return outcome.sqlstate if isinstance(outcome, psycopg.Error) else None


def one_in(db: Connection, group: int) -> int:
    """An id of table t that lies in a group."""
    for number in range(1, 100):
        rows = db.execute(f"EXPLAIN SELECT * FROM t WHERE id = {number}").fetchall()  # type: ignore[arg-type]
        if any(f"on group {group}" in row[0] for row in rows):
            return number
    raise AssertionError


def wait_until(what: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def make_herd(yard: Yard, prefix: str, *, groups: int = 2, sync: bool = True) -> Herd:
    """Groups of a primary `<prefix>a<g>` and a standby `<prefix>b<g>`, catalog installed, leases kept."""
    herd = Herd(yard=yard, name=prefix, groups=[], primary=[])
    nodes: list[Node] = []
    for group in range(groups):
        first, second = f"{prefix}a{group}", f"{prefix}b{group}"
        primary = yard.server(first)
        yard.databases(primary, ["pgherd"])
        herd.groups.append({first: primary})
        herd.primary.append(first)
        herd.groups[group][second] = herd.make_standby(primary, second)
        nodes += [
            Node(
                id=0, group=GroupId(group), host="127.0.0.1", port=server.port, database="pgherd",
                region="here", zone=name[-2], name=name,
            )
            for name, server in herd.groups[group].items()
        ]  # fmt: skip
    herd.nodes = nodes
    catalog.install(nodes, managed={GroupId(group) for group in range(groups)})
    if sync:
        for group in range(groups):
            herd.synchronous(group, f"{prefix}b{group}")
    herd.keep_leases()
    return herd


@contextmanager
def gateway(herd: Herd, name: str, **settings: Any) -> Iterator[tuple[str, GatewayProcess]]:
    """A gateway process in front of the herd: its DSN, and the process."""
    directory = herd.yard.directory / name
    directory.mkdir()
    process = GatewayProcess(directory=directory, mortal=True)
    seeds = [f"postgresql://127.0.0.1:{node.port}/{node.database}" for node in herd.nodes]
    wanted = {
        "listen": "127.0.0.1",
        "port": herd.yard.port(),
        "database": "pgherd",
        "seeds": seeds,
        **settings,
    }
    process.start(wanted)
    try:
        yield f"postgresql://postgres@127.0.0.1:{wanted['port']}/pgherd", process
    finally:
        process.stop()


@contextmanager
def table_behind(herd: Herd, name: str, **settings: Any) -> Iterator[str]:
    """The DSN of a gateway, and through it the table t: ids from 1 to 100 in all groups."""
    with gateway(herd, name, **settings) as (uri, _):
        with psycopg.connect(uri, autocommit=True) as db:
            db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v int) PARTITION BY HASH (id)")
            db.execute("INSERT INTO t SELECT n, 0 FROM generate_series(1, 100) n")
        yield uri
