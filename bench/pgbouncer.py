"""pgbouncer in transaction mode, where it is installed: the peer that a gateway is measured against."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.watch import Watch

NOBODY = 65534

_CONFIG = """\
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 2000
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


@dataclass(frozen=True, slots=True)
class Pgbouncer:
    """A running pgbouncer: its port and pid."""

    port: int
    pid: int

    def uri(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


def program() -> str | None:
    """pgbouncer's path, if it is installed."""
    return shutil.which("pgbouncer") or next(
        (path for path in ("/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer") if Path(path).exists()), None
    )


@contextmanager
def running(directory: Path, port: int, server_port: int) -> Iterator[Pgbouncer | None]:
    """Start pgbouncer in front of a server; None if there is none. It refuses to be root, so root runs it as nobody."""
    path = program()
    if path is None:
        yield None
        return
    directory.mkdir(mode=0o755, exist_ok=True)
    config = directory / "pgbouncer.ini"
    config.write_text(_CONFIG.format(port=port, server=server_port))
    config.chmod(0o644)
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen(
        [path, "-q", str(config)], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        _wait(port, process)
        yield Pgbouncer(port, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("pgbouncer does not start")


def watched(watch: Watch, pgbouncer: Pgbouncer | None) -> Watch:
    """The same processes, and pgbouncer's."""
    return watch if pgbouncer is None else Watch({**watch.parts, "pgbouncer": (pgbouncer.pid,)})
