"""Bare PostgreSQL servers for tests: fast (no fsync, a data directory copied from a template), and never left behind."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import binaries, catalog, identity, ports, processes
from pgherd.deploy.configuration import Auth
from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.server import Server
from pgherd.deploy.wish import Wish

PORTS_FIRST = 21000  # below Linux's ephemeral ports (from 32768)
MEMORY_BYTES_MIN = 6_000_000_000
KEPT = frozenset({"plain", "embedded", "grouped", "replicated"})  # the fixtures for a whole run
_PREFIX = "pgherd-test-"


@dataclass(slots=True)
class Yard:
    """A directory of servers that belongs to this process. All of it goes when the process ends, also by kill -9:
    the servers then die with it, and the next Yard sweeps the directory away."""

    directory: Path
    binaries: binaries.Binaries
    identity: identity.Identity
    servers: list[Server] = field(default_factory=list[Server])
    clusters: list[LocalCluster] = field(default_factory=list[LocalCluster])
    kept: set[str] = field(default_factory=lambda: set(KEPT))  # names that `clear` leaves alone
    _template: Server | None = None
    _port: int = 0
    _made: int = 0

    @classmethod
    def open(cls) -> Yard:
        """A new yard under the directory for temporary files, in memory where there is plenty."""
        place = _place()
        _sweep(place)
        mine = f"{_PREFIX}{os.getpid()}-{processes.started_at(os.getpid())}-"
        directory = Path(tempfile.mkdtemp(prefix=mine, dir=place))
        directory.chmod(0o711)
        found = binaries.find()
        yard = cls(directory, found, identity.choose(found, directory))
        atexit.register(yard.close)
        return yard

    def server(
        self,
        name: str,
        *,
        settings: Mapping[str, str] | None = None,
        auth: Auth = "trust",
        password: str | None = None,
    ) -> Server:
        """Start a new server and answer when it takes connections. Under `scram`, `password` is that of postgres."""
        server = self.make(name, settings=settings, auth=auth)
        server.create(password=password, template=None if password else self.template())
        server.start()
        return server

    def make(self, name: str, *, settings: Mapping[str, str] | None = None, auth: Auth = "trust") -> Server:
        """A server of this yard, neither created nor started."""
        server = Server(
            binaries=self.binaries,
            identity=self.identity,
            directory=self.directory / name,
            port=self.port(),
            auth=auth,
            durable=False,
            mortal=True,
            settings=dict(settings or {}),
        )
        self.servers.append(server)
        return server

    def standby(self, primary: Server, name: str) -> Server:
        """Start a new streaming standby of `primary`, without Patroni and without a slot."""
        server = self.make(name)
        server.directory.mkdir(mode=0o700)
        server.identity.own(server.directory)
        words: list[str | os.PathLike[str]] = [
            self.binaries.path("pg_basebackup"),
            "-D",
            server.data,
            "-R",
            "-c",
            "fast",
        ]
        command = server.identity.command([*words, "-d", primary.uri()])
        subprocess.run(command, check=True, capture_output=True, cwd="/", **server.identity.options())
        server.start()
        return server

    def databases(self, server: Server, names: Sequence[str]) -> list[str]:
        """Make databases (dropping those of the same name) and answer their URIs."""
        for name in names:
            server.ask(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);\nCREATE DATABASE "{name}";')
        return [server.uri(name) for name in names]

    def groups(self, server: Server, count: int) -> list[Node]:
        """A new cluster without a gateway, as databases of `server`: the nodes of its groups, in order."""
        self._made += 1
        names = [f"c{self._made}_g{number}" for number in range(count)]
        self.databases(server, names)
        nodes = [
            Node(id=number, group=GroupId(number), host="127.0.0.1", port=server.port, database=name)
            for number, name in enumerate(names)
        ]
        catalog.install(nodes)
        return nodes

    def cluster(
        self,
        name: str,
        *,
        embedded: bool = False,
        groups: int = 2,
        replicas: int | None = None,
        auth: Auth = "trust",
        gateway: bool = True,
        regions: tuple[str, ...] = (),
    ) -> LocalCluster:
        """A running cluster; with `gateway` False only its servers, with the catalog installed.

        With `replicas` its groups are managed by Patroni, each with so many standbys; else they are plain servers.
        """
        directory = self.directory / name
        template = self.template() if auth == "trust" and replicas is None else None
        cluster = LocalCluster(directory, mortal=True, template=template)
        wish = Wish(
            embedded=embedded,
            groups=groups,
            auth=auth,
            port=self.port(),
            durable=False,
            managed=replicas is not None,
            replicas=replicas,
            regions=regions,
        )
        self.clusters.append(cluster)
        cluster.up(wish, gateway=gateway)
        return cluster

    def port(self) -> int:
        """A free port, never the same one twice, and other ones for runs side by side."""
        first = self._port or PORTS_FIRST + os.getpid() * 37 % 10000
        found = ports.first_free(range(first, first + 1000))[0]
        self._port = found + 1
        return found

    def template(self) -> Path:
        """A fresh data directory to copy: initdb takes most of a start's time."""
        if self._template is None:
            blank = Server(
                binaries=self.binaries,
                identity=self.identity,
                directory=self.directory / "template",
                port=1,
                durable=False,
            )
            blank.create()
            self._template = blank
        return self._template.data

    def clear(self) -> None:
        """Stop and remove everything but what several test modules use (`kept`): one of them is over."""
        servers = [server for server in self.servers if server.directory.name not in self.kept]
        clusters = [cluster for cluster in self.clusters if cluster.directory.name not in self.kept]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda server: server.stop(immediate=True), servers))
            list(pool.map(LocalCluster.kill, clusters))
        for made in (*servers, *clusters):
            shutil.rmtree(made.directory, ignore_errors=True)
        self.servers = [server for server in self.servers if server not in servers]
        self.clusters = [cluster for cluster in self.clusters if cluster not in clusters]

    def close(self) -> None:
        """Stop all servers and remove the directory. Again is fine."""
        atexit.unregister(self.close)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda server: server.stop(immediate=True), self.servers))
            list(pool.map(LocalCluster.kill, self.clusters))
        self.servers.clear()
        self.clusters.clear()
        shutil.rmtree(self.directory, ignore_errors=True)


def _place() -> Path:
    """The directory for yards: TMPDIR if it is set, else memory if there is plenty of it, else the usual one."""
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_BYTES_MIN:
        return memory
    return Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove the yards of processes that are gone."""
    for path in place.glob(f"{_PREFIX}*-*-*"):
        pid, start, _ = path.name.removeprefix(_PREFIX).split("-", 2)
        if pid.isdigit() and start.isdigit() and not processes.alive(int(pid), int(start)):
            for gateway in path.glob("**/gateway.pid"):
                GatewayProcess(directory=gateway.parent).stop()
            for pid_file in (
                *path.glob("*/*/node.pid"),
                *path.glob("*/*/patroni.pid"),
                *path.glob("*/etcd/etcd.pid"),
            ):
                if pid := processes.read_pid(pid_file):
                    processes.send(pid, signal.SIGKILL)
            for data in path.glob("**/data"):
                for orphan in processes.with_directory(data, "postgres"):
                    processes.send(orphan, signal.SIGKILL)
            shutil.rmtree(path, ignore_errors=True)
