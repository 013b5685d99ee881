"""What a gateway is told at its start: one validated, frozen object, passed explicitly."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pgherd.errors import BadSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """`seeds`: libpq URIs of nodes, in group order; one that answers is enough. Times in seconds, sizes in bytes.

    `sockets`: directories of Unix sockets of nodes on this machine (they cost less than TCP on loopback).
    `auth`: 'trust' believes every role name (loopback only), 'scram' asks for the password that the servers know.
    `admin_user` and `admin_password`: how the gateway itself logs in to the servers.
    `pool_size`: server connections to one group for one role.
    """

    listen: str = "127.0.0.1"
    port: int = 6432
    database: str = "pgherd"
    seeds: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    auth: Literal["trust", "scram"] = "trust"
    tls_cert: str | None = None
    tls_key: str | None = None
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

    def __post_init__(self) -> None:
        if not self.seeds:
            raise BadSetting("the gateway needs at least one node in `seeds`")
        if not 0 <= self.port <= 65535:
            raise BadSetting(f"port {self.port} is not a port number")
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
    unknown = set(raw) - known
    if unknown:
        wrong = ", ".join(sorted(unknown))
        raise BadSetting(f"{name}: unknown settings: {wrong}", hint=f"Known: {', '.join(sorted(known))}.")
    for name in {"seeds", "sockets"} & raw.keys():
        raw[name] = tuple(raw[name])
    try:
        return GatewaySettings(**raw)
    except TypeError as error:
        raise BadSetting(f"{name}: {error}") from error
