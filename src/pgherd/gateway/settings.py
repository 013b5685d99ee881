"""What a gateway is told at its start: one validated, frozen object, passed explicitly."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pgherd.errors import BadSetting

_SECRETS = ("admin_password", "etcd_password")
_FILES = (
    "tls_cert",
    "tls_key",
    "server_ca",
    "etcd_ca",
    "etcd_cert",
    "etcd_key",
)  # relative ones: to the settings' file


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """`seeds`: libpq URIs of nodes, in group order; one that answers is enough. Times in seconds, sizes in bytes.

    Instead of seeds, `etcd` (host:port of its members) and `cluster` (its name there) find the nodes.
    `sockets`: directories of Unix sockets of nodes on this machine (they cost less than TCP on loopback).
    `auth`: 'trust' believes every role name (loopback only), 'scram' asks for the password that the servers know.
    `admin_user` and `admin_password`: how the gateway itself logs in to the servers. Passwords may also lie in a file
    (`admin_password_file`, `etcd_password_file`) or in the environment (PGHERD_ADMIN_PASSWORD, PGHERD_ETCD_PASSWORD).
    `server_tls`: how the servers are talked to, 'off', 'require' (encrypted) or 'verify-full' (against `server_ca`).
    `pool_size`: server connections to one group for one role. `region` and `zone`: where this gateway is, for reads on near
    replicas. `failover_wait`: how long a statement waits for its group to have a primary. `load_every`: one of so many statements
    of one shard is timed, to know how busy each shard is (0: none).
    """

    listen: str = "127.0.0.1"
    port: int = 6432
    database: str = "pgherd"
    seeds: tuple[str, ...] = ()
    cluster: str = ""
    etcd: tuple[str, ...] = ()
    etcd_ca: str | None = None
    etcd_cert: str | None = None
    etcd_key: str | None = None
    etcd_user: str = ""
    etcd_password: str | None = field(default=None, repr=False)
    sockets: tuple[str, ...] = ()
    auth: Literal["trust", "scram"] = "trust"
    tls_cert: str | None = None
    tls_key: str | None = None
    server_tls: Literal["off", "require", "verify-full"] = "off"
    server_ca: str | None = None
    admin_user: str = "postgres"
    admin_password: str | None = field(default=None, repr=False)
    pool_size: int = 20
    pool_wait: float = 30.0
    connect_timeout: float = 5.0
    login_timeout: float = 30.0
    message_max: int = 1_000_000_000
    client_max: int = 5_000
    epoch_poll: float = 1.0
    ready_file: str | None = None
    region: str = ""
    zone: str = ""
    failover_wait: float = 20.0
    load_every: int = 8

    def __post_init__(self) -> None:
        if not self.seeds and not self.etcd:
            raise BadSetting("the gateway needs at least one node in `seeds`, or `etcd` and `cluster`")
        if self.etcd and not self.cluster:
            raise BadSetting("`etcd` needs `cluster`, the cluster's name there")
        if self.server_tls not in ("off", "require", "verify-full"):
            raise BadSetting(f"server_tls must be off, require or verify-full, not {self.server_tls!r}")
        if not 0 <= self.port <= 65535:
            raise BadSetting(f"port {self.port} is not a port number")
        if self.load_every < 0:
            raise BadSetting("load_every must be 0 (count no load) or more")
        if self.auth not in ("trust", "scram"):
            raise BadSetting(f"auth must be trust or scram, not {self.auth!r}")
        if self.auth == "trust" and not is_loopback(self.listen):
            raise BadSetting(
                f"refusing to listen on {self.listen} without authentication",
                hint="Set auth to scram (pgherd up --auth scram), or listen on 127.0.0.1.",
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadSetting("tls_cert and tls_key go together")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(path: Path) -> GatewaySettings:
    """Settings from a JSON or TOML file. Raises BadSetting, naming the file and what is wrong."""
    try:
        text = path.read_text()
    except OSError as error:
        raise BadSetting(f"cannot read {path}: {error.strerror}") from error
    return parse(text, name=str(path), toml=path.suffix == ".toml")


def parse(text: str, *, name: str, toml: bool = False) -> GatewaySettings:
    """Settings from a file's text. Raises BadSetting."""
    import tomllib

    try:
        raw: Any = tomllib.loads(text) if toml else json.loads(text)
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"{name}: {error}") from error
    known = {item.name for item in fields(GatewaySettings)}
    if not isinstance(raw, dict):
        raise BadSetting(f"{name}: not a table of settings")
    _with_passwords(raw, name)
    unknown = set(raw) - known
    if unknown:
        wrong = ", ".join(sorted(unknown))
        allowed = sorted(known | {f"{secret}_file" for secret in _SECRETS})
        raise BadSetting(f"{name}: unknown settings: {wrong}", hint=f"Known: {', '.join(allowed)}.")
    for setting in {"seeds", "sockets", "etcd"} & raw.keys():
        if not isinstance(raw[setting], list):
            raise BadSetting(f"{name}: {setting} must be a list")
        raw[setting] = tuple(map(str, raw[setting]))
    for setting in {*_FILES} & {key for key, value in raw.items() if value is not None}:
        raw[setting] = str(Path(name).absolute().parent / raw[setting])
    try:
        return GatewaySettings(**raw)
    except TypeError as error:
        raise BadSetting(f"{name}: {error}") from error
    except BadSetting as error:
        raise BadSetting(f"{name}: {error.message}", hint=error.hint) from None


def _with_passwords(raw: dict[str, Any], name: str) -> None:
    """Put passwords from files of their own and from the environment into the settings. Raises BadSetting."""
    for secret in _SECRETS:
        file = raw.pop(f"{secret}_file", None)
        if file is None:
            found = os.environ.get(f"PGHERD_{secret.upper()}")
            if found and raw.get(secret) is None:
                raw[secret] = found
            continue
        if raw.get(secret) is not None:
            raise BadSetting(f"{name}: {secret} and {secret}_file exclude each other")
        path = Path(name).absolute().parent / str(file)
        try:
            raw[secret] = path.read_text().strip()
        except OSError as error:
            raise BadSetting(f"{name}: {secret}_file: cannot read {path}: {error.strerror}") from error
