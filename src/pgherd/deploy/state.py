"""The state directory of a local cluster: the file that describes it, and the lock that one command at a time holds."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pgherd.deploy.configuration import Auth
from pgherd.deploy.node_config import Profile, WhenAlone
from pgherd.errors import DeployError

LAYOUT = 1  # of the state directory; another number needs another pgherd
FILE = "cluster.json"
_LOCK = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A server: its directory below the state directory, and its port on 127.0.0.1."""

    directory: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """A group: its number, the server (by position) that holds it, and the database there."""

    id: int
    server: int
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A node of a managed group: its number and name in the cluster, its directory below the state directory, its ports.

    `stopped`: a command stopped it, so `up` without further words lets it be. `rest_port` is that of Patroni's REST API.
    """

    id: int
    name: str
    group: int
    directory: str
    port: int
    rest_port: int
    region: str = ""
    zone: str = ""
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdState:
    """The etcd that the nodes use: our own on `port`, or others' at `addresses`."""

    port: int = 0
    peer_port: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Is it ours to start and stop?"""
        return not self.addresses

    @property
    def members(self) -> tuple[str, ...]:
        """Where it answers, as host:port."""
        return self.addresses or (f"127.0.0.1:{self.port}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """Where the gateway listens, and with which certificate (paths), if any."""

    host: str = "127.0.0.1"
    port: int = 6432
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def reached_at(self) -> str:
        """The address to connect to: the loopback one if it listens everywhere."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A local cluster as its state file describes it. `installed`: the catalog is in place.

    `wanted` is what the last command asked for: a foreground `up` ends when it becomes "down". A cluster has plain
    `servers`, or Patroni's `nodes` with `etcd`; those know it by `name`. `replicas`: standbys planned for each group.
    """

    version: str
    embedded: bool
    auth: Auth
    servers: tuple[ServerState, ...]
    groups: tuple[GroupState, ...]
    gateway: GatewayState
    durable: bool = True
    installed: bool = False
    wanted: Literal["up", "down"] = "up"
    name: str = ""
    nodes: tuple[NodeState, ...] = ()
    etcd: EtcdState | None = None
    gone: tuple[str, ...] = ()  # names of removed nodes: neither names nor numbers are used again
    replicas: int = 0
    profile: Profile = "fast"
    when_alone: WhenAlone = "auto"
    layout: int = LAYOUT

    @property
    def managed(self) -> bool:
        """Does Patroni decide who is primary?"""
        return bool(self.nodes)

    def node(self, name: str) -> NodeState:
        """The node called `name`. Raises DeployError."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes) or "none"
        raise DeployError(f"there is no node {name}", hint=f"Nodes of this cluster: {known}.")

    def group_nodes(self, group: int) -> tuple[NodeState, ...]:
        """The nodes of a group. Raises DeployError if there is no such group."""
        found = tuple(node for node in self.nodes if node.group == group)
        if not found:
            known = ", ".join(str(each.id) for each in self.groups)
            raise DeployError(f"there is no group {group}", hint=f"Groups of this cluster: {known}.")
        return found


def default_directory() -> Path:
    """PGHERD_STATE, else /var/lib/pgherd/default for root, else the user's own state directory."""
    asked = os.environ.get("PGHERD_STATE")
    if asked:
        return Path(asked).absolute()
    if os.geteuid() == 0:  # servers do not run as root, and nobody else can look into root's home
        return Path("/var/lib/pgherd/default")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "pgherd" / "default"


def make_directory(directory: Path) -> None:
    """Make the state directory, or check that this user may write into it. Raises DeployError."""
    try:
        # root's servers run as somebody else, who has to pass through; secrets are in files of mode 0600
        directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise broken(directory, error) from error


def broken(directory: Path, error: OSError) -> DeployError:
    """An operating system's error about the state directory as one line and a hint."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = {
        errno.ENOSPC: "The disk is full: free some space, then try again.",
        errno.EDQUOT: "The disk quota is used up: free some space, then try again.",
        errno.EROFS: "Choose a directory on a writable file system with --state.",
    }.get(error.errno or 0, "Choose another directory with --state, or look at its owner and permissions.")
    return DeployError(f"the state directory {directory} cannot be used: {reason}", hint=hint)


def load(directory: Path) -> State | None:
    """The cluster in `directory`; None if there is none. Raises DeployError if it is another version's or user's."""
    path = directory / FILE
    try:
        _check_owner(directory, path)
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise broken(directory, error) from error
    try:
        return _parse(directory, json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise DeployError(
            f"{path} is damaged: {type(error).__name__}: {error}",
            hint="Restore the file from a backup, or start anew with another --state directory.",
        ) from error


def _check_owner(directory: Path, path: Path) -> None:
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = str(owner)
    raise DeployError(
        f"the state directory {directory} belongs to another user, {name}",
        hint=f"Run the command as {name}, or choose another directory with --state.",
    )


def _parse(directory: Path, raw: dict[str, Any]) -> State:
    if raw["layout"] != LAYOUT:
        raise DeployError(
            f"the state directory {directory} has layout {raw['layout']} (of pgherd {raw.get('version', '?')}), "
            f"but this pgherd knows layout {LAYOUT}",
            hint="Use the version of pgherd that made it, or choose another directory with --state.",
        )
    servers = tuple(ServerState(**server) for server in raw.pop("servers"))
    groups = tuple(GroupState(**group) for group in raw.pop("groups"))
    nodes = tuple(NodeState(**node) for node in raw.pop("nodes", ()))
    found: dict[str, Any] | None = raw.pop("etcd", None)
    etcd = None if found is None else EtcdState(addresses=tuple(found.pop("addresses")), **found)
    gateway = GatewayState(**raw.pop("gateway"))
    gone = tuple(raw.pop("gone", ()))
    return State(servers=servers, groups=groups, gateway=gateway, nodes=nodes, etcd=etcd, gone=gone, **raw)


def save(directory: Path, state: State) -> None:
    """Write the state file, whole or not at all."""
    path = directory / FILE
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("w") as file:
            json.dump(asdict(state), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise broken(directory, error) from error


def want(directory: Path, state: State, wanted: Literal["up", "down"]) -> State:
    """Record what the last command asked for."""
    changed = replace(state, wanted=wanted)
    if changed != state:
        save(directory, changed)
    return changed


@contextmanager
def locked(directory: Path) -> Generator[None]:
    """Hold the directory's lock; it goes with the process, whatever ends it. Raises DeployError if another holds it."""
    try:
        handle = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise broken(directory, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DeployError(
            f"another pgherd command is working on {directory}", hint="Wait until it is done, then try again."
        ) from error
    try:
        yield
    finally:
        os.close(handle)
