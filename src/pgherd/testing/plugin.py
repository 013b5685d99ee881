"""The pytest plugin `pgherd.testing.plugin`: fixtures with real servers, one set for a test run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pgherd.catalog.model import Node
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.server import Server
from pgherd.testing import coverage
from pgherd.testing.servers import Yard

_YARD = pytest.StashKey[Yard]()


@pytest.fixture(scope="session")
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    """The run's directory of servers: `yard.server("name")` starts another one, which ends with its test module."""
    yard = request.config.stash[_YARD] = Yard.open()
    yield yard
    yard.close()


@pytest.fixture(scope="module", autouse=True)
def cleared(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test module its servers end, so that a long run does not drown in idle ones."""
    yield
    made = request.config.stash.get(_YARD, None)
    if made is not None:
        made.clear()


@pytest.fixture(scope="session")
def server(yard: Yard) -> Server:
    """One plain PostgreSQL, the cluster's dumb twin. `server.uri()` is its DSN; make databases of your own in it."""
    return yard.server("plain")


@pytest.fixture(scope="session")
def embedded_cluster(yard: Yard) -> LocalCluster:
    """Three groups as databases of one server, catalog installed, no gateway. `nodes(cluster)` says where they are."""
    return yard.cluster("embedded", embedded=True, groups=3, gateway=False)


@pytest.fixture(scope="session")
def grouped_cluster(yard: Yard) -> LocalCluster:
    """Two groups, each a server of its own, catalog installed, no gateway."""
    return yard.cluster("grouped", embedded=False, groups=2, gateway=False)


@pytest.fixture(scope="session")
def replicated_cluster(yard: Yard) -> LocalCluster:
    """Two groups of two nodes each under Patroni, with etcd, catalog installed, no gateway. Restore what you break, and stop
    a gateway that you start: `testing.nodes` has a node's faults and the waiting for health."""
    return yard.cluster("replicated", groups=2, replicas=1, gateway=False)


@pytest.fixture(scope="session")
def gateway(embedded_cluster: LocalCluster) -> str:
    """The DSN of a gateway (a process of its own) in front of `embedded_cluster`. Use tables of your own names."""
    return embedded_cluster.dsn(embedded_cluster.up())


@pytest.fixture(scope="session")
def grouped_gateway(grouped_cluster: LocalCluster) -> str:
    """The DSN of a gateway (a process of its own) in front of `grouped_cluster`."""
    return grouped_cluster.dsn(grouped_cluster.up())


@pytest.fixture
def fresh_groups(yard: Yard, server: Server) -> Callable[[int], list[Node]]:
    """Makes a new cluster of so many groups, as databases of the plain server, with the catalog and nothing else."""
    return lambda count: yard.groups(server, count)


def nodes(cluster: LocalCluster) -> list[Node]:
    """The primary of each group, in group order."""
    return cluster.nodes(cluster.existing())


def uris(cluster: LocalCluster) -> list[str]:
    """The libpq URI of each group's database, in group order."""
    return [f"postgresql://postgres@{node.host}:{node.port}/{node.database}" for node in nodes(cluster)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the run covered: a green run proves nothing unless it says how much it did."""
    if found := coverage.lines():
        terminalreporter.section("coverage of the guarantees")
        for line in found:
            terminalreporter.write_line(line)
