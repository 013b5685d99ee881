"""A whole cluster on hosts of its own: three etcd members, the nodes of each group, a gateway; and everything that can happen to it.

It is started with the same commands as in production: `pgherd node --config`, `pgherd init --config`, `pgherd gateway --config`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from pgherd.backend.etcd import Etcd, EtcdAddress, Member, members
from pgherd.deploy import etcd as etcd_program
from pgherd.deploy import processes
from pgherd.deploy.members import Primaries
from pgherd.deploy.node_config import NodeConfig, dump, load
from pgherd.errors import PgherdError
from pgherd.testing.network import Host, Network

CLUSTER = "chaos"
ETCD_MEMBERS = 3
PG_PORT, REST_PORT, ETCD_PORT, PEER_PORT, GATEWAY_PORT = 5432, 8008, 2379, 2380, 6432
READY_S = 90.0
LOOK_S = 0.2


class NotHealthy(Exception):
    """The cluster did not come back to a state in which everything runs, within the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How many groups, how many nodes in each; `far_ms`: the last node of each group is so far away, each way."""

    groups: int = 2
    nodes: int = 2
    far_ms: float = 0.0


@dataclass(slots=True, eq=False)
class World:
    """See the module. `start` builds it, `close` removes it."""

    directory: Path
    layout: Layout
    network: Network
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    etcds: list[Host] = field(default_factory=list[Host])
    nodes: dict[tuple[int, int], Host] = field(default_factory=dict[tuple[int, int], Host])
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    @classmethod
    def start(cls, directory: Path, layout: Layout) -> World:
        """Build it all and wait until it answers. Raises NotHealthy."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
        world = cls(directory, layout, Network.open())
        world.etcds = [world.network.host(f"e{number}") for number in range(1, ETCD_MEMBERS + 1)]
        for group in range(layout.groups):
            for number in range(1, layout.nodes + 1):
                far = layout.far_ms if number == layout.nodes else 0.0
                name = f"g{group}-n{number}"
                world.nodes[group, number] = world.network.host(name, delay_ms=far)
        world.network.host("gw")
        for host in world.etcds:
            world.start_etcd(host)
        for host in world.nodes.values():
            world.start_node(host)
        world._await_leaders()
        world._initialise()
        world.start_gateway()
        asyncio.run(world.healthy())
        return world

    @property
    def gateway(self) -> Host:
        return self.network.hosts["gw"]

    @property
    def dsn(self) -> str:
        """The gateway's."""
        return f"postgresql://postgres:{self.password}@{self.gateway.address}:{GATEWAY_PORT}/pgherd"

    @property
    def client_dsn(self) -> str:
        """All nodes, as the client library takes them."""
        hosts = ",".join(f"{host.address}:{PG_PORT}" for host in self.nodes.values())
        return f"postgresql://postgres:{self.password}@{hosts}/pgherd"

    def region(self, host: Host) -> str:
        """The region of a node: `far` for those behind a long cable."""
        number = int(host.name.rsplit("n", 1)[1])
        return "far" if self.layout.far_ms and number == self.layout.nodes else "near"

    # ---- starting --------------------------------------------------------------------------------------

    def _spawn(self, host: Host, command: Sequence[str | Path]) -> None:
        with (self.directory / f"{host.name}.log").open("ab") as log:
            self._running.append(host.start([str(word) for word in command], stdout=log, stderr=log, cwd="/"))

    def start_etcd(self, host: Host) -> None:
        """Start (again) one member."""
        urls = {other.name: f"http://{other.address}:{PEER_PORT}" for other in self.etcds}
        here = f"http://{host.address}:{ETCD_PORT}"
        words = [f"--name={host.name}", f"--data-dir={self.directory / host.name}", "--unsafe-no-fsync"]
        words += [f"--listen-client-urls={here}", f"--advertise-client-urls={here}"]
        words += [
            f"--listen-peer-urls={urls[host.name]}",
            f"--initial-advertise-peer-urls={urls[host.name]}",
        ]
        words += [
            "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in urls.items()),
            "--log-level=error",
        ]
        self._spawn(host, [etcd_program.find().path, *words])

    @property
    def _etcd(self) -> tuple[str, ...]:
        return tuple(f"{host.address}:{ETCD_PORT}" for host in self.etcds)

    def config(self, host: Host) -> Path:
        """The settings file of a node."""
        path = self.directory / f"{host.name}.json"
        if not path.exists():
            group = int(host.name[1 : host.name.index("-")])
            node = NodeConfig(
                cluster=CLUSTER, group=group, name=host.name, host=host.address, etcd=self._etcd, port=PG_PORT,
                rest_port=REST_PORT, directory=self.directory / host.name, region=self.region(host),
                replicas=self.layout.nodes - 1, superuser_password=self.password, replication_password=self.password,
                rest_password=self.password, without_tls=True, durable=False,
            )  # fmt: skip
            path.write_text(dump(node))
        return path

    def start_node(self, host: Host) -> None:
        """Start (again) a node as the machine's service manager would."""
        self._spawn(host, [*_PGHERD, "node", "--config", self.config(host)])

    def start_gateway(self) -> None:
        """Start (again) the gateway."""
        path = self.directory / "gateway.json"
        seeds = [
            f"postgresql://{host.address}:{PG_PORT}/pgherd?group={group}"
            for (group, _), host in self.nodes.items()
        ]
        settings = {
            "listen": self.gateway.address, "port": GATEWAY_PORT, "auth": "scram", "seeds": seeds,
            "admin_user": "postgres", "admin_password": self.password, "region": "near",
        }  # fmt: skip
        path.write_text(json.dumps(settings))
        self._spawn(self.gateway, [sys.executable, "-m", "pgherd.gateway", "--config", path])

    def _await_leaders(self) -> None:
        deadline = time.monotonic() + READY_S
        while {member.group for member in self.members() if member.leader} != set(range(self.layout.groups)):
            if time.monotonic() > deadline:
                raise NotHealthy("not every group has a primary")
            time.sleep(LOOK_S)

    def _initialise(self) -> None:
        config = self.config(self.nodes[0, 1])
        done = subprocess.run(
            [*_PGHERD, "init", "--config", str(config)], capture_output=True, text=True, timeout=READY_S, check=False
        )  # fmt: skip
        if done.returncode:
            raise NotHealthy(f"pgherd init: {done.stderr.strip()}")

    # ---- looking ---------------------------------------------------------------------------------------

    def members(self) -> list[Member]:
        """What etcd knows now; nothing while it does not answer."""
        try:
            return members(Etcd(EtcdAddress(hosts=self._etcd)), CLUSTER)
        except PgherdError:
            return []

    def primary(self, group: int) -> Host:
        """The node of a group that etcd says is its leader; else its first."""
        names = [member.name for member in self.members() if member.group == group and member.leader]
        return self.network.hosts[names[0]] if names else self.nodes[group, 1]

    def of_group(self, group: int) -> list[Host]:
        """The nodes of a group."""
        return [host for (number, _), host in self.nodes.items() if number == group]

    def pids(self, host: Host, part: str) -> list[int]:
        """The processes of a part of a node: postgres, patroni or supervisor."""
        wanted = {"patroni": b"patroni_main", "supervisor": b"pgherd.deploy.supervise"}
        found: list[int] = []
        for pid in host.pids():
            try:
                if part == "postgres":
                    fits = Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
                else:
                    fits = wanted[part] in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if fits:
                found.append(pid)
        return found

    def send(self, pids: Iterable[int], number: signal.Signals) -> None:
        """A signal to some of a host's processes."""
        for pid in pids:
            processes.send(pid, number)

    async def healthy(self, within_s: float = READY_S) -> None:
        """Wait until every node is up and in step, and the gateway writes in every group. Raises NotHealthy."""
        deadline = time.monotonic() + within_s
        problem = ""
        while time.monotonic() < deadline:
            self.revive()
            problem = await self._problem()
            if not problem:
                return
            await asyncio.sleep(LOOK_S)
        raise NotHealthy(f"after {within_s:g} s: {problem}")

    def revive(self) -> None:
        """Start again what ended and nobody else starts, as a service manager would."""
        for host in self.etcds:
            if not host.pids():
                self.start_etcd(host)
        for host in self.nodes.values():
            if not self.pids(host, "supervisor"):
                self.start_node(host)
        if not self.gateway.pids():
            self.start_gateway()
        for process in self._running:
            process.poll()

    async def _problem(self) -> str:
        states = {member.name: member for member in self.members()}
        for host in self.nodes.values():
            member = states.get(host.name)
            if member is None or member.state not in ("running", "streaming"):
                return f"{host.name} is {member.state if member else 'not announced'}"
        try:
            for group in range(self.layout.groups):
                await self._synchronous(self.primary(group))
            connection = await asyncpg.connect(self.dsn, timeout=5)
            try:
                await connection.fetchval("SELECT count(*) FROM pgherd.nodes", timeout=5)
            finally:
                connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    async def _synchronous(self, host: Host) -> None:
        connection = await self.direct(host)
        try:
            row = await connection.fetchrow(
                "SELECT count(*) FILTER (WHERE state = 'streaming'),"
                " count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication"
                " WHERE application_name <> 'pg_basebackup'",
                timeout=5,
            )
            streaming, synchronous = (row[0], row[1]) if row is not None else (0, 0)
            if streaming < self.layout.nodes - 1 or not synchronous:
                raise OSError(f"{host.name} has {streaming} standbys, {synchronous} synchronous")
        finally:
            connection.terminate()

    async def direct(self, host: Host) -> asyncpg.Connection:
        """A connection straight to a node, past pgherd."""
        return await asyncpg.connect(
            host=host.address, port=PG_PORT, user="postgres", password=self.password, database="pgherd", timeout=3
        )  # fmt: skip

    def switch_over(self, group: int) -> None:
        """Ask Patroni for a switchover, without any announcement. It may refuse: there may be nobody fit to take over."""
        leader = next((m for m in self.members() if m.group == group and m.leader), None)
        if leader is None:
            return
        url = f"{leader.api}/switchover"
        request = urllib.request.Request(url, json.dumps({"leader": leader.name}).encode(), method="POST")
        told = base64.b64encode(f"pgherd:{self.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {told}")
        request.add_header("Content-Type", "application/json")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(request, timeout=30).close()

    def lender(self) -> Primaries:
        """Lends connections to the groups' primaries, past pgherd."""
        return Primaries(load(self.config(self.nodes[0, 1])))

    async def in_doubt(self) -> list[str]:
        """Prepared transactions that are left on the primaries."""
        left: list[str] = []
        for group in range(self.layout.groups):
            connection = await self.direct(self.primary(group))
            try:
                left += [str(row[0]) for row in await connection.fetch("SELECT gid FROM pg_prepared_xacts")]
            finally:
                connection.terminate()
        return left

    def close(self) -> None:
        """End everything and remove the hosts."""
        self.network.close()
        for process in self._running:
            process.wait(10)


_PGHERD = (sys.executable, "-m", "pgherd")
