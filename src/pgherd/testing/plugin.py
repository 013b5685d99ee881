"""The pytest plugin `pgherd.testing.plugin`: fixtures with real servers, one set for a test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgherd.deploy.server import Server
from pgherd.testing.servers import Yard


@pytest.fixture(scope="session")
def yard() -> Iterator[Yard]:
    """The run's directory of servers: `yard.server("name")` starts another one."""
    yard = Yard.open()
    yield yard
    yard.close()


@pytest.fixture(scope="session")
def server(yard: Yard) -> Server:
    """One plain PostgreSQL, the cluster's dumb twin. `server.uri()` is its DSN; make databases of your own in it."""
    return yard.server("plain")
