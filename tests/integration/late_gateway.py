"""A further gateway of a cluster, which never looks at the epoch by itself: it learns of changes from errors alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.local import LocalCluster
from pgherd.testing.servers import Yard


@contextmanager
def late(yard: Yard, cluster: LocalCluster) -> Iterator[str]:
    """Its DSN, while it runs."""
    settings = {
        **cluster.gateway_settings(cluster.existing()),
        "port": yard.port(),
        "epoch_poll": 3600,
    }
    directory = yard.directory / f"late_gateway_{settings['port']}"
    directory.mkdir()
    process = GatewayProcess(directory=directory, mortal=True)
    process.start(settings)
    try:
        yield f"postgresql://postgres@127.0.0.1:{settings['port']}/pgherd"
    finally:
        process.stop()
