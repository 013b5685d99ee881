"""A cluster on this machine, from its state directory: servers, databases, catalog and gateway, up and down."""

from __future__ import annotations

import secrets
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import binaries, identity, ports, state
from pgherd.deploy.configuration import Auth
from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.server import Server
from pgherd.deploy.state import GatewayState, GroupState, ServerState, State
from pgherd.errors import DeployError

GATEWAY_PORT = 6432
GROUPS_MAX = 64

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What `up` is asked for; None: as it was, or the default for a new cluster."""

    embedded: bool | None = None
    groups: int | None = None
    auth: Auth | None = None
    listen: str | None = None
    port: int | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    durable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """A process of the cluster: its name, port, directory and pid (None: it does not run)."""

    name: str
    port: int
    directory: str
    pid: int | None


class LocalCluster:
    """The cluster whose state is in `directory`. What it knows is on disk; any number of these may look at it.

    `mortal` (tests): its processes end with the thread that called `up`. `template`: a data directory to copy.
    """

    def __init__(
        self,
        directory: Path,
        *,
        report: Report = lambda _: None,
        mortal: bool = False,
        template: Path | None = None,
    ) -> None:
        self.directory = directory
        self._report = report
        self._mortal = mortal
        self._template = template

    # ---- looking ---------------------------------------------------------------------------------

    def state(self) -> State | None:
        """The state file's content; None if there is no cluster here."""
        return state.load(self.directory)

    def existing(self) -> State:
        """The state file's content. Raises DeployError if there is no cluster here."""
        found = self.state()
        if found is None:
            raise DeployError(
                f"there is no cluster in {self.directory}",
                hint="Start one with: pgherd up --detach (or name its directory with --state).",
            )
        return found

    @property
    def gateway(self) -> GatewayProcess:
        """The gateway's process."""
        return GatewayProcess(directory=self.directory, mortal=self._mortal)

    def servers(self, current: State) -> list[Server]:
        """The cluster's servers."""
        found = self._binaries()
        found, who = _settle(found, self.directory)
        return [
            Server(
                binaries=found,
                identity=identity.of_existing(self.directory / server.directory / "data") or who,
                directory=self.directory / server.directory,
                port=server.port,
                auth=current.auth,
                durable=current.durable,
                mortal=self._mortal,
            )
            for server in current.servers
        ]

    def _binaries(self) -> binaries.Binaries:
        return binaries.find()

    def nodes(self, current: State) -> list[Node]:
        """The primary of each group, in group order."""
        return [
            Node(
                id=group.id,
                group=GroupId(group.id),
                host="127.0.0.1",
                port=current.servers[group.server].port,
                database=group.database,
            )
            for group in current.groups
        ]

    def password(self) -> str | None:
        """The password of role postgres under `scram`, None under `trust`."""
        try:
            return (self.directory / "admin_password").read_text().strip()
        except FileNotFoundError:
            return None

    def dsn(self, current: State, *, secret: bool = False) -> str:
        """The gateway's libpq URI; with `secret`, including the password if there is one."""
        password = self.password() if secret else None
        host = f"[{current.gateway.host}]" if ":" in current.gateway.host else current.gateway.host
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        return (
            f"postgresql://postgres{f':{password}' if password else ''}@{host}:{current.gateway.port}/pgherd"
        )

    def parts(self, current: State) -> list[PartStatus]:
        """All processes of the cluster, the servers first."""
        parts = [
            PartStatus(
                name=stored.directory, port=stored.port, directory=str(server.directory), pid=server.pid()
            )
            for stored, server in zip(current.servers, self.servers(current), strict=True)
        ]
        gateway = PartStatus(
            name="gateway", port=current.gateway.port, directory=str(self.directory), pid=self.gateway.pid()
        )
        return [*parts, gateway]

    def running(self, current: State) -> bool:
        """Do all its processes run?"""
        return all(part.pid is not None for part in self.parts(current))

    # ---- up --------------------------------------------------------------------------------------

    def up(self, wish: Wish = Wish(), *, gateway: bool = True) -> State:
        """Start whatever does not run, making it first if it is new. Raises DeployError."""
        state.make_directory(self.directory)
        with state.locked(self.directory):
            current = self.state()
            current = self._settings(current, wish) if current else self._new(wish)
            current = state.want(self.directory, current, "up")
            try:
                self._start_servers(current)
                if not current.installed:
                    current = self._install(current)
                if gateway:
                    self._start_gateway(current)
            except OSError as error:
                raise state.broken(self.directory, error) from error
        return current

    def _new(self, wish: Wish) -> State:
        count = 2 if wish.groups is None else wish.groups
        if not 1 <= count <= GROUPS_MAX:
            raise DeployError(f"{count} groups are not possible", hint=f"Ask for 1 to {GROUPS_MAX} groups.")
        self._report("choosing ports")
        embedded = bool(wish.embedded)
        gateway = _gateway_state(GatewayState(port=_gateway_port(wish.port)), wish)
        free = ports.first_free(_server_ports(self.directory, gateway.port), 1 if embedded else count)
        current = State(
            version=version("pgherd"),
            embedded=embedded,
            auth=wish.auth or "trust",
            servers=tuple(
                ServerState(directory=f"server_{number}", port=port) for number, port in enumerate(free)
            ),
            groups=tuple(_group(number, embedded) for number in range(count)),
            gateway=gateway,
            durable=wish.durable,
        )
        if current.auth == "scram":
            self._make_password()
        state.save(self.directory, current)
        return current

    def _settings(self, current: State, wish: Wish) -> State:
        """The existing cluster with the wished gateway address. Raises DeployError for what cannot be changed."""
        asked = {
            "groups": (wish.groups, len(current.groups)),
            "auth": (wish.auth, current.auth),
            "embedded": (wish.embedded, current.embedded),
        }
        for name, (want, have) in asked.items():
            if want is not None and want != have:
                raise DeployError(
                    f"the cluster in {self.directory} exists already, with {name} = {_word(have)}",
                    hint=f"Leave out that option, or choose another directory with --state. (Asked for: {_word(want)}.)",
                )
        moved = _gateway_state(current.gateway, wish)
        if moved == current.gateway:
            return current
        if self.gateway.pid() is not None:
            raise DeployError(
                f"the gateway runs already, on {current.gateway.host}:{current.gateway.port}",
                hint="Stop the cluster first: pgherd down.",
            )
        changed = replace(current, gateway=moved)
        state.save(self.directory, changed)
        return changed

    def _make_password(self) -> None:
        path = self.directory / "admin_password"
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24) + "\n")

    def _start_servers(self, current: State) -> None:
        servers = self.servers(current)
        blank = [server for server in servers if not server.exists]
        if blank and current.installed:
            raise DeployError(
                f"the data of {blank[0].directory} is gone",
                hint="Restore it from a backup, or start anew in another --state directory.",
            )
        if blank:
            self._report(f"making {len(blank)} data director{'y' if len(blank) == 1 else 'ies'}")
            with ThreadPoolExecutor(4) as pool:
                list(
                    pool.map(
                        lambda server: server.create(password=self.password(), template=self._template), blank
                    )
                )
        down = [server for server in servers if server.pid() is None]
        for server in down:
            _check_port(server.port, "a PostgreSQL server of this cluster")
        if down:
            self._report(f"starting {len(down)} PostgreSQL server{'' if len(down) == 1 else 's'}")
        launched = [(server, server.launch()) for server in servers]
        for server, process in launched:
            server.wait_ready(process)

    def _install(self, current: State) -> State:
        self._report("installing the catalog")
        servers = self.servers(current)
        if self.password():
            _share_verifier(servers, self.password())
        for group in current.groups:
            server = servers[group.server]
            if not server.ask(
                f"SELECT 1 FROM pg_database WHERE datname = '{group.database}'", password=self.password()
            ):
                server.ask(f'CREATE DATABASE "{group.database}"', password=self.password())
        from importlib.util import find_spec

        if find_spec("pgherd.catalog.store") is None:
            return current
        from pgherd.deploy import catalog

        catalog.install(self.nodes(current), password=self.password())
        installed = replace(current, installed=True)
        state.save(self.directory, installed)
        return installed

    def _start_gateway(self, current: State) -> None:
        if self.gateway.pid() is not None:
            return
        _check_port(current.gateway.port, "the gateway", current.gateway.host)
        self._report("starting the gateway")
        self.gateway.start(self.gateway_settings(current))

    def gateway_settings(self, current: State) -> dict[str, Any]:
        """The gateway's settings, as its configuration file takes them."""
        servers = self.servers(current)
        return {
            "listen": current.gateway.host,
            "port": current.gateway.port,
            "seeds": [servers[group.server].uri(group.database) for group in current.groups],
            "auth": current.auth,
            "tls_cert": current.gateway.tls_cert,
            "tls_key": current.gateway.tls_key,
            "admin_user": "postgres",
            "admin_password": self.password(),
        }

    # ---- down ------------------------------------------------------------------------------------

    def down(self) -> bool:
        """Stop everything in order, losing nothing. False if nothing ran. Raises DeployError if there is no cluster."""
        current = self.existing()
        with state.locked(self.directory):
            state.want(self.directory, current, "down")
            if all(part.pid is None for part in self.parts(current)):
                return False
            self._report("stopping the gateway")
            self.gateway.stop()
            self._report("stopping PostgreSQL")
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(Server.stop, self.servers(current)))
        return True

    def kill(self) -> None:
        """Stop everything at once, as a crash would."""
        current = self.state()
        self.gateway.stop()
        for server in self.servers(current) if current else []:
            server.stop(immediate=True)


def _settle(found: binaries.Binaries, directory: Path) -> tuple[binaries.Binaries, identity.Identity]:
    """Programs and identity that fit together: if need be, the programs are copied to where an unprivileged user reads."""
    try:
        who = identity.choose(found, directory)
    except DeployError:
        copied = binaries.Binaries(directory / "postgresql" / "bin", found.version)
        if not copied.directory.exists() and found.directory.parent.name == "pginstall":
            shutil.copytree(found.root, copied.root, symlinks=True)
        who = identity.choose(copied, directory)
        found = copied
    return found, who


def _group(number: int, embedded: bool) -> GroupState:
    if not embedded:
        return GroupState(id=number, server=number, database="pgherd")
    return GroupState(id=number, server=0, database=f"pgherd_{number}" if number else "pgherd")


def _gateway_state(have: GatewayState, wish: Wish) -> GatewayState:
    wished = {"host": wish.listen, "port": wish.port, "tls_cert": wish.tls_cert, "tls_key": wish.tls_key}
    return replace(have, **{name: value for name, value in wished.items() if value is not None})


def _gateway_port(asked: int | None) -> int:
    """The port that was asked for, or the next free one from 6432."""
    if asked is None:
        return ports.first_free(range(GATEWAY_PORT, GATEWAY_PORT + 100))[0]
    if not 1 <= asked <= 65535:
        raise DeployError(f"{asked} is not a port number", hint="Ports go from 1 to 65535.")
    _check_port(asked, "the gateway")
    return asked


def _check_port(port: int, what: str, host: str = "127.0.0.1") -> None:
    if not ports.is_free(port, host):
        raise DeployError(
            f"port {port}, which {what} needs, is in use",
            hint=f"See who uses it: ss -ltnp 'sport = :{port}'. Stop that, or choose another gateway port with --port.",
        )


def _server_ports(directory: Path, gateway: int) -> list[int]:
    """Candidates below the ephemeral ports, beginning at a place of this directory's own."""
    start = 15000 + zlib.crc32(bytes(directory)) % 5000
    return [port for port in range(start, start + 1000) if port != gateway]


def _share_verifier(servers: list[Server], password: str | None) -> None:
    """Give role postgres the same SCRAM verifier on every server: logins are passed through with it."""
    verifier = servers[0].ask(
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'", password=password
    )
    for server in servers[1:]:
        server.ask(f"ALTER ROLE postgres PASSWORD '{verifier}'", password=password)


def _word(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
