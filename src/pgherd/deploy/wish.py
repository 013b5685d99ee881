"""What `up` is asked for, and what becomes of it: a new cluster's state, or an existing one's with another gateway."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from pgherd.deploy import ports
from pgherd.deploy.configuration import Auth
from pgherd.deploy.node_config import Profile, WhenAlone
from pgherd.deploy.state import EtcdState, GatewayState, GroupState, NodeState, ServerState, State
from pgherd.errors import DeployError

GATEWAY_PORT = 6432
GROUPS_MAX = 64
REPLICAS_MAX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What `up` is asked for; None: as it was, or the default for a new cluster (two groups, each with one replica, trust).

    `regions` are given to the nodes of each group in turn. `etcd`: addresses (host:port) of one that runs already.
    `managed` False: plain servers without Patroni, one for each group. Not `durable` is for tests: a power cut loses data.
    """

    embedded: bool | None = None
    groups: int | None = None
    auth: Auth | None = None
    listen: str | None = None
    port: int | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    durable: bool = True
    managed: bool | None = None
    replicas: int | None = None
    regions: tuple[str, ...] = ()
    etcd: tuple[str, ...] = ()
    profile: Profile | None = None
    when_alone: WhenAlone | None = None


def new_state(directory: Path, wish: Wish) -> State:
    """A new cluster in `directory`, with ports that are free now. Raises DeployError."""
    count = 2 if wish.groups is None else wish.groups
    if not 1 <= count <= GROUPS_MAX:
        raise DeployError(f"{count} groups are not possible", hint=f"Ask for 1 to {GROUPS_MAX} groups.")
    embedded = bool(wish.embedded)
    managed = not embedded if wish.managed is None else wish.managed
    gateway = _gateway(GatewayState(port=_gateway_port(wish)), wish)
    _check_listen(gateway, wish.auth or "trust")
    candidates = iter(server_ports(directory, gateway.port))
    blank = State(
        version=version("pgherd"),
        embedded=embedded,
        auth=wish.auth or "trust",
        servers=(),
        groups=tuple(group_state(number, embedded=embedded) for number in range(count)),
        gateway=gateway,
        durable=wish.durable,
    )
    return _with_nodes(blank, wish, candidates) if managed else _with_servers(blank, candidates)


def _with_servers(blank: State, candidates: Iterator[int]) -> State:
    free = ports.first_free(candidates, 1 if blank.embedded else len(blank.groups))
    servers = tuple(ServerState(directory=f"server_{number}", port=port) for number, port in enumerate(free))
    return replace(blank, servers=servers)


def _with_nodes(blank: State, wish: Wish, candidates: Iterator[int]) -> State:
    replicas = 1 if wish.replicas is None else wish.replicas
    if not 0 <= replicas <= REPLICAS_MAX:
        raise DeployError(f"{replicas} replicas are not possible", hint=f"Ask for 0 to {REPLICAS_MAX}.")
    etcd = EtcdState(addresses=wish.etcd)
    if etcd.own:
        port, peer_port = ports.first_free(candidates, 2)
        etcd = EtcdState(port=port, peer_port=peer_port)
    made = replace(
        blank,
        name=f"local-{secrets.token_hex(4)}",
        replicas=replicas,
        etcd=etcd,
        profile=wish.profile or "fast",
        when_alone=wish.when_alone or "auto",
    )
    for group in blank.groups:
        for number in range(replicas + 1):
            region = wish.regions[number % len(wish.regions)] if wish.regions else ""
            made = with_node(made, group.id, ports.first_free(candidates, 2), region=region)
    return made


def with_node(current: State, group: int, found: Sequence[int], *, region: str = "", zone: str = "") -> State:
    """The cluster with one more node in `group`, on two free ports (`found`). Numbers and names are never used again."""
    made = [node.name for node in current.nodes] + list(current.gone)
    order = max((int(name.rpartition("n")[2]) for name in made if name.startswith(f"g{group}-")), default=0)
    name = f"g{group}-n{order + 1}"
    node = NodeState(
        id=len(made),
        name=name,
        group=group,
        directory=name,
        port=found[0],
        rest_port=found[1],
        region=region,
        zone=zone,
    )
    return replace(current, nodes=(*current.nodes, node))


def conflict(current: State, wish: Wish) -> DeployError | None:
    """What of the wish an existing cluster cannot fulfil, if anything."""
    asked = {
        "groups": (wish.groups, len(current.groups)),
        "auth": (wish.auth, current.auth),
        "embedded": (wish.embedded, current.embedded),
        "managed": (wish.managed, current.managed),
        "replicas": (wish.replicas, current.replicas),
        "etcd": (wish.etcd or None, current.etcd.addresses if current.etcd else ()),
        "profile": (wish.profile, current.profile),
        "when_alone": (wish.when_alone, current.when_alone),
    }
    for name, (wanted, have) in asked.items():
        if wanted is not None and wanted != have:
            return DeployError(
                f"the cluster exists already, with {name} {_word(have)} instead of {_word(wanted)}",
                hint="Leave out that option, or choose another directory with --state.",
            )
    return None


def changed(current: State, wish: Wish) -> State:
    """An existing cluster whose gateway listens where the wish says. Raises DeployError."""
    gateway = _gateway(current.gateway, wish)
    if gateway != current.gateway:
        _check_listen(gateway, current.auth)
    return replace(current, gateway=gateway)


def group_state(number: int, *, embedded: bool) -> GroupState:
    """A group, in a server of its own or as a database of the only one."""
    if not embedded:
        return GroupState(id=number, server=number, database="pgherd")
    return GroupState(id=number, server=0, database=f"pgherd_{number}" if number else "pgherd")


def _gateway(have: GatewayState, wish: Wish) -> GatewayState:
    wished = {"host": wish.listen, "port": wish.port}
    wished |= {"tls_cert": _absolute(wish.tls_cert), "tls_key": _absolute(wish.tls_key)}
    return replace(have, **{name: value for name, value in wished.items() if value is not None})


def _absolute(path: str | None) -> str | None:
    if path is None:
        return None
    if not Path(path).is_file():
        raise DeployError(f"{path} is not a file", hint="--tls-cert and --tls-key name PEM files.")
    return str(Path(path).absolute())


def _gateway_port(wish: Wish) -> int:
    """The port that was asked for, or the next free one from 6432."""
    if wish.port is not None:
        return wish.port
    return ports.first_free(range(GATEWAY_PORT, GATEWAY_PORT + 100), host=wish.listen or "127.0.0.1")[0]


def _check_listen(gateway: GatewayState, auth: Auth) -> None:
    if (gateway.tls_cert is None) != (gateway.tls_key is None):
        raise DeployError("--tls-cert and --tls-key go together", hint="Name both files, or neither.")
    if auth == "trust" and gateway.host not in ("localhost", "::1") and not gateway.host.startswith("127."):
        raise DeployError(
            f"refusing to listen on {gateway.host} without authentication",
            hint="Make the cluster with --auth scram, or listen on 127.0.0.1.",
        )


def server_ports(directory: Path, gateway: int) -> list[int]:
    """Candidates below the ephemeral ports, beginning at a place of this directory's own."""
    start = 15000 + zlib.crc32(bytes(directory)) % 5000
    return [port for port in range(start, start + 1000) if port != gateway]


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "of its own"  # pyright: ignore[reportUnknownArgumentType]
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
