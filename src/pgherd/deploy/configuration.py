"""What pgherd's servers are told: postgresql.conf and pg_hba.conf as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Auth = Literal["trust", "scram"]

SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path, with its closing zero

_ALWAYS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    # a large pool also bounds the loss of finished serializable transactions (see docs/operations.md)
    "max_prepared_transactions": "1000",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "50",
    "max_worker_processes": "24",
    "max_logical_replication_workers": "12",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    # short statements are what most traffic is: compiling them costs more than running them
    "jit": "off",
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "2s",
    "idle_in_transaction_session_timeout": "1h",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
}

_ROTATED_LOG: Mapping[str, str] = {
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",  # a week of files, each used again after seven days
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}

# a killed process still loses nothing, only a power cut does
_FORGETFUL: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


def server_settings(*, durable: bool) -> dict[str, str]:
    """The PostgreSQL settings that every server of pgherd has. Not `durable` is for tests: a power cut loses data."""
    return {**_ALWAYS, **(_ROTATED_LOG if durable else _FORGETFUL)}


def postgresql_conf(
    *, port: int, socket_directory: Path | None, durable: bool, extra: Mapping[str, str]
) -> str:
    """The text of pgherd.conf, which postgresql.conf includes. Not `durable` is for tests: a power cut loses data."""
    settings = server_settings(durable=durable)
    settings["port"] = str(port)
    settings["unix_socket_directories"] = str(socket_directory or "")
    settings.update(extra)
    lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    return (
        "# Written by pgherd at each start. Your own settings belong into postgresql.conf, below its include.\n"
        + "\n".join(lines)
        + "\n"
    )


def hba_conf(auth: Auth) -> str:
    """The text of pg_hba.conf. The unix socket lies in a directory that only the servers' user can enter."""
    method = "scram-sha-256" if auth == "scram" else "trust"
    rules = [
        f"local all all {method}",
        f"host all all 127.0.0.1/32 {method}",
        f"host all all ::1/128 {method}",
    ]
    rules += [f"host replication all 127.0.0.1/32 {method}"]
    return "# Written by pgherd at each start.\n" + "\n".join(rules) + "\n"


def socket_directory(directory: Path, port: int) -> Path | None:
    """`directory` if a unix socket's path fits into it, else None: then there is TCP alone."""
    path = directory.resolve() / f".s.PGSQL.{port}.lock"
    return directory.resolve() if len(bytes(path)) <= SOCKET_PATH_BYTES_MAX else None


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
