"""What one node of a managed group is told: its settings file, validated, as one frozen value.

The file is TOML (or JSON), one line for each field of `NodeConfig`. A password may stand in the file, in a file of its own
(`…_file`), or in the environment (`PGHERD_` and the setting's name in capitals); it is in no message and no command line.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from pgherd.deploy.configuration import Auth
from pgherd.errors import BadSetting

Profile = Literal["fast", "conservative"]
WhenAlone = Literal["auto", "go-on", "stop"]
Watchdog = Literal["off", "automatic", "required"]

GROUP_MAX: Final = 511
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,61}")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "auth": ("trust", "scram"),
    "profile": ("fast", "conservative"),
    "when_alone": ("auto", "go-on", "stop"),
    "watchdog": ("off", "automatic", "required"),
}
_SECRETS: Final = ("superuser_password", "replication_password", "rest_password", "etcd_password")
_PATHS: Final = ("directory", "pg_bin", "etcd_ca", "etcd_cert", "etcd_key", "tls_cert", "tls_key", "tls_ca")
_NUMBERS: Final = ("group", "port", "rest_port", "replicas")
_FLAGS: Final = ("durable", "without_tls")
# what pgherd depends on, or what is derived from other settings
_NOT_PARAMETERS: Final = frozenset(
    (
        "listen_addresses",
        "port",
        "cluster_name",
        "wal_level",
        "hot_standby",
        "synchronous_commit",
        "synchronous_standby_names",
        "primary_conninfo",
        "primary_slot_name",
        "ssl",
        "ssl_cert_file",
        "ssl_key_file",
        "ssl_ca_file",
        "unix_socket_directories",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node: who it is, where it answers, which etcd it joins, how everything is protected.

    `cluster`: the name under which etcd keeps it. `group`: 0 to 511. `name`: Patroni's member name, unique in the cluster.
    `host`: the address at which other machines reach this node; `listen`: what it binds (as `host`, if empty).
    `port`: PostgreSQL's; `rest_port`: that of Patroni's REST API. `etcd`: host:port of its members.
    `directory`: everything of this node lies there, the database in data/. `pg_bin`: another PostgreSQL than the usual one.
    `auth`: 'trust' for loopback alone, else 'scram'. `tls_cert`, `tls_key`: of PostgreSQL and the REST API; `tls_ca`: who
    signed all nodes' certificates. `without_tls`: allow plain text off loopback. `etcd_ca`, `etcd_cert`, `etcd_key`: TLS to etcd.
    `replicas`: how many standbys the group is planned to have. `when_alone`: what a primary does when no standby is left.
    `durable` False is for tests. `parameters`: further PostgreSQL settings.
    """

    cluster: str
    group: int
    name: str
    host: str
    etcd: tuple[str, ...]
    directory: Path
    listen: str = ""
    port: int = 5432
    rest_port: int = 8008
    database: str = "pgherd"
    region: str = ""
    zone: str = ""
    replicas: int = 1
    pg_bin: Path | None = None
    auth: Auth = "scram"
    superuser_password: str | None = field(default=None, repr=False)
    replication_password: str | None = field(default=None, repr=False)
    rest_user: str = "pgherd"
    rest_password: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    without_tls: bool = False
    etcd_ca: Path | None = None
    etcd_cert: Path | None = None
    etcd_key: Path | None = None
    etcd_user: str = ""
    etcd_password: str | None = field(default=None, repr=False)
    profile: Profile = "fast"
    when_alone: WhenAlone = "auto"
    watchdog: Watchdog = "off"
    durable: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        _check_names(self)
        _check_addresses(self)
        _check_protection(self)
        refused = sorted(_NOT_PARAMETERS & {name.lower() for name in self.parameters})
        if refused:
            raise BadSetting(
                f"parameters cannot set {', '.join(refused)}",
                hint="pgherd sets these itself, from the node's other settings.",
            )

    @property
    def bind(self) -> str:
        """The address that it listens on."""
        return self.listen or self.host

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.directory / "data"

    @property
    def scope(self) -> str:
        """Patroni's name for the group."""
        return scope_of(self.group)

    @property
    def namespace(self) -> str:
        """Where etcd keeps the cluster."""
        return namespace_of(self.cluster)

    @property
    def strict(self) -> bool:
        """Does a primary without any standby refuse to acknowledge writes?"""
        return self.replicas >= 2 if self.when_alone == "auto" else self.when_alone == "stop"


def scope_of(group: int) -> str:
    """Patroni's scope of a group."""
    return f"group-{group}"


def namespace_of(cluster: str) -> str:
    """Patroni's namespace of a cluster, a prefix of etcd's keys."""
    return f"/pgherd/{cluster}/"


def address(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---- what does not fit together ------------------------------------------------------------------------


def _check_names(config: NodeConfig) -> None:
    for setting, text in (("cluster", config.cluster), ("name", config.name)):
        if not NAME.fullmatch(text):
            raise BadSetting(
                f"{setting} {text!r} is not allowed",
                hint="Use small letters, digits and hyphens, at most 62, beginning with a letter or digit.",
            )
    if not 0 <= config.group <= GROUP_MAX:
        raise BadSetting(
            f"group {config.group} is not a group's number", hint=f"Groups are 0 to {GROUP_MAX}."
        )
    for setting, choices in _CHOICES.items():
        if getattr(config, setting) not in choices:
            raise BadSetting(f"{setting} must be {' or '.join(choices)}, not {getattr(config, setting)!r}")


def _check_addresses(config: NodeConfig) -> None:
    for setting in ("port", "rest_port"):
        if not 1 <= getattr(config, setting) <= 65535:
            raise BadSetting(f"{setting} {getattr(config, setting)} is not a port number")
    if config.port == config.rest_port:
        raise BadSetting(f"port and rest_port are both {config.port}")
    if not config.etcd:
        raise BadSetting(
            "etcd needs at least one address", hint='For example: etcd = ["10.0.0.1:2379", "10.0.0.2:2379"].'
        )
    for member in config.etcd:
        if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}", member):
            raise BadSetting(f"etcd: {member!r} is not host:port")
    if config.host in ("0.0.0.0", "::", "") or re.search(r"[\s/,]", config.host):
        raise BadSetting(
            f"host {config.host!r} is not an address that others can reach",
            hint="Name this machine's address in `host`; `listen` may be 0.0.0.0.",
        )
    if config.replicas < 0:
        raise BadSetting("replicas cannot be negative")


def _check_protection(config: NodeConfig) -> None:
    for names in (("tls_cert", "tls_key"), ("etcd_cert", "etcd_key")):
        if len({getattr(config, name) is None for name in names}) == 2:
            raise BadSetting(f"{names[0]} and {names[1]} go together")
    local = is_loopback(config.host) and is_loopback(config.bind)
    if config.auth == "trust":
        if not local:
            raise BadSetting(
                f"refusing to listen on {config.bind} without authentication",
                hint="Set auth to scram, with passwords.",
            )
        return
    missing = [name for name in _SECRETS[:3] if not getattr(config, name)]
    if missing:
        raise BadSetting(
            f"auth scram needs {', '.join(missing)}",
            hint="Give each as a setting, in a file (…_file), or in the environment (PGHERD_…).",
        )
    if config.tls_cert is None and not local and not config.without_tls:
        raise BadSetting(
            f"refusing to listen on {config.bind} without TLS",
            hint="Set tls_cert, tls_key and tls_ca (docs/operations.md makes them), or without_tls = true in a network that you trust.",
        )


# ---- files ---------------------------------------------------------------------------------------------


def load(path: Path, *, environment: Mapping[str, str] = os.environ) -> NodeConfig:
    """The settings in a TOML or JSON file; relative paths count from its directory. Raises BadSetting, naming the file."""
    try:
        text = path.read_text()
    except OSError as error:
        raise BadSetting(f"cannot read {path}: {error.strerror}") from error
    return parse(
        text,
        name=str(path),
        base=path.absolute().parent,
        toml=path.suffix != ".json",
        environment=environment,
    )


def parse(
    text: str, *, name: str, base: Path, toml: bool = True, environment: Mapping[str, str] = os.environ
) -> NodeConfig:
    """Settings from a file's text. Raises BadSetting; no message quotes a value that might be a password."""
    import tomllib

    try:
        raw: Any = tomllib.loads(text) if toml else json.loads(text)
    except ValueError as error:  # both decoders' errors are; they name the place, not the line's content
        raise BadSetting(f"{name}: {error}") from None
    if not isinstance(raw, dict):
        raise BadSetting(f"{name}: not a table of settings")
    try:
        return NodeConfig(**_settings(dict(raw), base, environment))
    except BadSetting as error:
        raise BadSetting(f"{name}: {error.message}", hint=error.hint) from None


def dump(config: NodeConfig) -> str:
    """The settings as JSON, passwords included, as `load` takes them."""
    kept = {name: value for name, value in asdict(config).items() if value is not None}
    return json.dumps(kept, indent=2, default=str) + "\n"


def _settings(raw: dict[str, Any], base: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    known = {item.name for item in fields(NodeConfig)} | {f"{name}_file" for name in _SECRETS}
    unknown = sorted(raw.keys() - known)
    if unknown:
        raise BadSetting(
            f"unknown settings: {', '.join(unknown)}", hint=f"Known: {', '.join(sorted(known))}."
        )
    for secret in _SECRETS:
        found = _secret(secret, raw, base, environment)
        if found is not None:
            raw[secret] = found
    needed = [item.name for item in fields(NodeConfig) if item.default is item.default_factory is MISSING]
    missing = [name for name in needed if name not in raw]
    if missing:
        raise BadSetting(f"missing settings: {', '.join(missing)}")
    return {name: _value(name, value, base) for name, value in raw.items()}


def _secret(name: str, raw: dict[str, Any], base: Path, environment: Mapping[str, str]) -> str | None:
    """The password `name`: from the settings, from the file that they name, or from the environment."""
    file = raw.pop(f"{name}_file", None)
    if file is None:
        return raw[name] if name in raw else environment.get(f"PGHERD_{name.upper()}")
    if name in raw:
        raise BadSetting(f"{name} and {name}_file exclude each other")
    if not isinstance(file, str):
        raise BadSetting(f"{name}_file must be a text")
    try:
        found = (base / file).read_text().strip()
    except OSError as error:
        raise BadSetting(f"{name}_file: cannot read {base / file}: {error.strerror}") from error
    if not found:
        raise BadSetting(f"{name}_file: {base / file} is empty")
    return found


def _value(name: str, value: Any, base: Path) -> Any:
    """A setting's value as its field wants it. Raises BadSetting that names the setting, not the value."""
    if name in _NUMBERS:
        return _typed(name, value, int, "a whole number")
    if name in _FLAGS:
        return _typed(name, value, bool, "true or false")
    if name == "etcd":
        members = _typed(name, value, list, "a list of addresses")
        return tuple(_typed(name, member, str, "a list of addresses") for member in members)
    if name == "parameters":
        table: dict[str, Any] = _typed(name, value, dict, "a table of PostgreSQL settings")
        return {key: _parameter(key, found) for key, found in table.items()}
    text: str = _typed(name, value, str, "a text")
    return Path(os.path.normpath(base / Path(text).expanduser())) if name in _PATHS else text


def _parameter(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, (str, int, float)):
        raise BadSetting(f"parameters: {name} must be a text or a number")
    return str(value)


def _typed(name: str, value: Any, kind: type[Any], words: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadSetting(f"{name} must be {words}")
    return value
