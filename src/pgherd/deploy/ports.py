"""Ports of this machine: which are free."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterable

from pgherd.errors import DeployError

CLOSING_S = 2.0


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Could a server listen there now? Raises DeployError if `host` is not an address of this machine."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return False
        raise DeployError(
            f"cannot listen on {host}: {error.strerror}",
            hint="Name an address of this machine with --listen.",
        ) from error
    return True


def first_free(candidates: Iterable[int], count: int = 1, host: str = "127.0.0.1") -> list[int]:
    """The first `count` free ports among `candidates`. Raises DeployError if there are too few."""
    found: list[int] = []
    for port in candidates:
        if is_free(port, host):
            found.append(port)
            if len(found) == count:
                return found
    raise DeployError(
        "too few free ports on this machine", hint="Stop other clusters, or name a port with --port."
    )


def require_free(port: int, what: str, host: str = "127.0.0.1") -> None:
    """Raise DeployError if `port`, which `what` needs, is in use (and stays so: a killed process may still be closing it)."""
    deadline = time.monotonic() + CLOSING_S
    while not is_free(port, host):
        if time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        raise DeployError(
            f"port {port}, which {what} needs, is in use (or not allowed)",
            hint=f"See who uses it: ss -ltnp 'sport = :{port}'. Stop that, or choose another gateway port with --port.",
        )
