"""Ports of the loopback address: which are free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from pgherd.errors import DeployError


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Could a server listen there now?"""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def first_free(candidates: Iterable[int], count: int = 1) -> list[int]:
    """The first `count` free ports among `candidates`. Raises DeployError if there are too few."""
    found: list[int] = []
    for port in candidates:
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise DeployError(
        "too few free ports on this machine", hint="Stop other clusters, or name a port with --port."
    )
