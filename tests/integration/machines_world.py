"""Three "machines" on loopback addresses, started with the commands of docs/operations.md: TLS and passwords between all parts."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from pgherd.deploy import binaries, etcd, identity, ports, processes
from pgherd.deploy.supervise import NodeFiles
from pgherd.testing.servers import Yard
from pgherd.testing.tls_postgres import TlsPostgres

T = TypeVar("T")

MACHINES = ("127.0.41.1", "127.0.41.2", "127.0.41.3")
PASSWORD = "opensesame-superuser"
SECRETS = {
    "superuser_password": PASSWORD,
    "replication_password": "opensesame-replication",
    "rest_password": "opensesame-rest",
}
WAIT_S = 120.0
SCRIPT = Path(__file__).parents[2] / "examples" / "several-machines" / "make-certificates.sh"


@dataclass(slots=True, eq=False)
class Machines:
    """`start_etcd`, `start_node`, `pgherd("init", …)`, `start_gateway`: what an operator does."""

    directory: Path
    postgres: TlsPostgres
    ports: list[int]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    # ---- what is there -----------------------------------------------------------------------------

    @property
    def etcd(self) -> list[str]:
        """Where etcd's members answer."""
        return [f"{host}:{self.ports[0]}" for host in MACHINES]

    @property
    def authority(self) -> Path:
        return self.directory / "tls" / "ca.crt"

    def certificate(self, machine: int) -> tuple[Path, Path]:
        """Certificate and key of a machine (0, 1, 2)."""
        tls = self.directory / "tls"
        return tls / f"m{machine}.crt", tls / f"m{machine}.key"

    def context(self) -> ssl.SSLContext:
        """A client that trusts our authority alone, and checks names."""
        return ssl.create_default_context(cafile=str(self.authority))

    def config(self, name: str) -> Path:
        """A node's settings file."""
        return self.directory / f"{name}.toml"

    # ---- starting ----------------------------------------------------------------------------------

    def make_certificates(self) -> None:
        """One for each machine, by the script that the documentation names."""
        for number, host in enumerate(MACHINES):
            # connections between loopback addresses come from 127.0.0.1, and etcd compares
            words = [SCRIPT, self.directory / "tls", f"m{number}", host, "127.0.0.1"]
            subprocess.run(words, check=True, capture_output=True)

    def _start(self, name: str, words: list[str | Path], **environment: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen[bytes](
                [*processes.dying_with_parent("TERM"), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=os.environ | self.postgres.environment | environment,
            )

    def start_etcd(self, machine: int) -> None:
        """One of its three members."""
        client, peer = self.ports[0], self.ports[1]
        host, (crt, key) = MACHINES[machine], self.certificate(machine)
        members = ",".join(f"m{number}=https://{other}:{peer}" for number, other in enumerate(MACHINES))
        words = [
            *("--name", f"m{machine}", "--data-dir", str(self.directory / f"etcd{machine}")),
            *("--listen-client-urls", f"https://{host}:{client}"),
            *("--advertise-client-urls", f"https://{host}:{client}"),
            *("--listen-peer-urls", f"https://{host}:{peer}"),
            *("--initial-advertise-peer-urls", f"https://{host}:{peer}"),
            *("--initial-cluster", members, "--initial-cluster-token", "machines"),
            *("--cert-file", str(crt), "--key-file", str(key), "--trusted-ca-file", str(self.authority)),
            *("--peer-cert-file", str(crt), "--peer-key-file", str(key)),
            *("--peer-trusted-ca-file", str(self.authority)),
            *("--client-cert-auth", "--peer-client-cert-auth", "--unsafe-no-fsync", "--log-level", "warn"),
        ]
        self._start(f"etcd{machine}", [etcd.find().path, *words])

    def start_node(self, name: str, machine: int, offset: int = 0) -> None:
        """The node `name` (g<group>-n<number>) on a machine, on its ports plus `offset`."""
        crt, key = self.certificate(machine)
        settings = {
            "cluster": "machines",
            "group": int(name[1]),
            "name": name,
            "host": MACHINES[machine],
            "port": self.ports[2] + offset,
            "rest_port": self.ports[3] + offset,
            "etcd": self.etcd,
            "etcd_ca": "tls/ca.crt",
            "etcd_cert": f"tls/{crt.name}",
            "etcd_key": f"tls/{key.name}",
            "directory": f"node-{name}",
            "pg_bin": str(self.postgres.directory),
            "tls_ca": "tls/ca.crt",
            "tls_cert": f"tls/{crt.name}",
            "tls_key": f"tls/{key.name}",
            "region": f"r{machine}",
            "durable": False,
            **{f"{name}_file": f"{name}.secret" for name in SECRETS},
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        self.config(name).write_text("\n".join([*lines, "[parameters]", "max_connections = 60", ""]))
        self._start(
            name, [sys.executable, "-m", "pgherd", "node", "--config", self.config(name)], PGHERD_MORTAL="1"
        )

    def start_gateway(self, machine: int) -> None:
        """A gateway that finds the nodes through etcd."""
        crt, key = self.certificate(machine)
        settings = {
            "listen": MACHINES[machine],
            "port": self.ports[4],
            "auth": "scram",
            "cluster": "machines",
            "etcd": self.etcd,
            "etcd_ca": "tls/ca.crt",
            "etcd_cert": f"tls/{crt.name}",
            "etcd_key": f"tls/{key.name}",
            "tls_cert": f"tls/{crt.name}",
            "tls_key": f"tls/{key.name}",
            "server_tls": "verify-full",
            "server_ca": "tls/ca.crt",
            "admin_password_file": "superuser_password.secret",
        }
        path = self.directory / "gateway.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        self._start("gateway", [sys.executable, "-m", "pgherd", "gateway", "--config", path])
        self.gateway_host = MACHINES[machine]

    gateway_host: str = ""

    def pgherd(self, *words: str) -> Any:
        """Run a command with --json, and answer what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "pgherd", *words, "--json"],
            capture_output=True,
            text=True,
            timeout=WAIT_S * 2,
            env=os.environ | self.postgres.environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # ---- looking -----------------------------------------------------------------------------------

    async def at_gateway(self, user: str = "postgres", password: str = PASSWORD) -> asyncpg.Connection:
        """A connection over TLS, checked."""
        return await asyncpg.connect(
            host=self.gateway_host, port=self.ports[4], user=user, password=password, database="pgherd",
            ssl=self.context(), timeout=10, command_timeout=60,
        )  # fmt: skip

    async def at_node(self, machine: int, offset: int = 0, *, tls: bool = True) -> asyncpg.Connection:
        """A connection to a node itself."""
        return await asyncpg.connect(
            host=MACHINES[machine], port=self.ports[2] + offset, user="postgres", password=PASSWORD,
            database="pgherd", ssl=self.context() if tls else False, timeout=10, command_timeout=30,
        )  # fmt: skip

    def log(self, name: str) -> str:
        """What a process said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    # ---- ending ------------------------------------------------------------------------------------

    def stop(self, name: str) -> None:
        """Stop a process in order, and wait."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)

    def reload(self, name: str) -> None:
        """As `systemctl reload`."""
        self.running[name].send_signal(signal.SIGHUP)

    def burn(self, name: str) -> None:
        """Lose a node: SIGKILL for everything of it at one moment."""
        files = NodeFiles(self.directory / f"node-{name}")
        pids = [self.running[name].pid, *filter(None, (files.pid(), files.patroni_pid()))]
        for pid in [*pids, *processes.with_directory(files.data, "postgres")]:
            processes.send(pid, signal.SIGKILL)
        self.running.pop(name).wait(WAIT_S)

    def close(self) -> None:
        """End everything."""
        for name in [name for name in self.running if name.startswith("g") and name != "gateway"]:
            self.burn(name)
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(WAIT_S)
        self.running.clear()


def until(look: Callable[[], T | None], what: str) -> T:
    """What `look` answers, as soon as it is something. Fails beyond the bound."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {WAIT_S:.0f} s")


@contextmanager
def machines(yard: Yard, postgres: TlsPostgres) -> Iterator[Machines]:
    """Three machines with etcd, nodes g0-n1, g0-n2 and g1-n1, the catalog, and a gateway on the third."""
    directory = yard.directory / "machines"
    directory.mkdir(mode=0o711)
    free = iter(range(22100, 22900, 20))
    first = next(first for first in free if _all_free(first))
    made = Machines(directory, postgres, [first, first + 1, first + 2, first + 6, first + 10])
    made.make_certificates()
    for name, secret in SECRETS.items():
        (directory / f"{name}.secret").write_text(secret + "\n")
    _give_away(directory, postgres)
    try:
        for machine in range(3):
            made.start_etcd(machine)
        for machine, name in enumerate(("g0-n1", "g0-n2", "g1-n1")):
            made.start_node(name, machine)
        made.pgherd("init", "--config", str(made.config("g0-n1")), "--groups", "2")
        made.start_gateway(2)
        until(lambda: "ready" in made.log("gateway"), "the gateway is ready")
        yield made
    finally:
        made.close()


def _all_free(first: int) -> bool:
    return all(ports.is_free(port, host) for host in MACHINES for port in range(first, first + 11))


def _give_away(directory: Path, postgres: TlsPostgres) -> None:
    """As root: let the user that servers run as read keys and passwords, as an operator would."""
    if os.geteuid() == 0:
        who = identity.choose(binaries.find(postgres.directory), directory, python=True)
        for path in (directory, *directory.rglob("*")):
            who.own(path)
