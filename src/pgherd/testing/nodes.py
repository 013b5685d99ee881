"""Faults of the nodes of a managed group on this machine, and waiting until all is well again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from pgherd.deploy import processes
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.node import NodeProcess

HEALTHY_S = 90.0
GONE_S = 10.0

T = TypeVar("T")
Part = Literal["supervisor", "patroni", "postgres"]


@dataclass(frozen=True, slots=True)
class NodeFaults:
    """What can happen to one node of `cluster`."""

    cluster: LocalCluster
    name: str

    @property
    def process(self) -> NodeProcess:
        """The node from outside."""
        current = self.cluster.existing()
        return self.cluster.replicated(current).node(current.node(self.name))

    def pids(self, part: Part) -> list[int]:
        """A part's processes; PostgreSQL's are the postmaster and all its backends."""
        if part == "postgres":
            return processes.with_directory(self.process.config.data, "postgres")
        pid = self.process.pids()[part]
        return [] if pid is None else [pid]

    def all_pids(self) -> list[int]:
        """All processes of the node."""
        return [*self.pids("supervisor"), *self.pids("patroni"), *self.pids("postgres")]

    def kill(self, part: Part) -> None:
        """SIGKILL for a part, all its processes at once."""
        _send(self.pids(part), signal.SIGKILL)

    def burn(self) -> None:
        """Lose the host: SIGKILL for everything at once. It stays away until `start`."""
        self.process.burn()

    def freeze(self, part: Part | None = None) -> None:
        """SIGSTOP for a part, or for the whole node."""
        for pid in self.all_pids() if part is None else self.pids(part):
            processes.send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT for everything."""
        for pid in self.all_pids():
            processes.send(pid, signal.SIGCONT)

    def start(self) -> None:
        """Start the node's supervisor again, if it does not run, without waiting for more."""
        process = self.process.launch()
        if process is not None:
            process.returncode = 0  # it lives on; Popen shall not warn about it


def primary(cluster: LocalCluster, group: int, within_s: float = HEALTHY_S) -> str:
    """The name of a group's primary; waits until there is one."""
    current = cluster.existing()
    replicated = cluster.replicated(current)
    found = wait_for(lambda: replicated.primary(group), within_s, f"a primary of group {group}")
    assert found is not None
    return found.name


def standby(cluster: LocalCluster, group: int) -> str:
    """The name of one standby of a group."""
    leader = primary(cluster, group)
    return next(node.name for node in cluster.existing().group_nodes(group) if node.name != leader)


def wait_healthy(cluster: LocalCluster, within_s: float = HEALTHY_S) -> None:
    """Start what does not run, also what `stop_node` stopped, and wait until every group has its primary and all its
    standbys stream from it in step."""
    for node in cluster.existing().nodes:
        faults = NodeFaults(cluster, node.name)
        faults.thaw()
        if node.stopped:
            cluster.start_node(node.name)
        faults.start()
    current = cluster.existing()
    replicated = cluster.replicated(current)
    for group in current.groups:
        wait_for(lambda group=group: replicated.is_ready(group.id), within_s, f"group {group.id} in health")


def wait_for(ask: Callable[[], T], within_s: float, what: str) -> T:
    """The first answer of `ask` that is true. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.05)
    return answer


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        processes.send(pid, number)
    processes.wait_gone(pids, GONE_S)
