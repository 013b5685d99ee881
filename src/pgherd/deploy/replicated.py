"""The managed groups of a local cluster: their etcd and nodes, started side by side, waited for, stopped in order."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import patroni_api, ports, private
from pgherd.deploy.etcd import EtcdProcess, find
from pgherd.deploy.node import NodeProcess
from pgherd.deploy.node_config import NodeConfig
from pgherd.deploy.patroni_api import IN_STEP, NodeStatus
from pgherd.deploy.state import NodeState, State
from pgherd.errors import DeployError

READY_S = 180.0
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """Etcd and nodes of the cluster `current` in `directory`. A value: what it knows is on disk and in the processes."""

    directory: Path
    current: State
    password: str | None = None
    mortal: bool = False
    report: Callable[[str], None] = lambda _: None

    @property
    def etcd(self) -> EtcdProcess | None:
        """Our own etcd, if the cluster does not use another one."""
        etcd = self.current.etcd
        if etcd is None or not etcd.own:
            return None
        return EtcdProcess(
            directory=self.directory / "etcd",
            port=etcd.port,
            peer_port=etcd.peer_port,
            durable=self.current.durable,
            mortal=self.mortal,
        )

    def node(self, node: NodeState) -> NodeProcess:
        """One node's process."""
        return NodeProcess(config=self.config(node), mortal=self.mortal)

    def nodes(self) -> list[NodeProcess]:
        """All nodes, in the order of their numbers."""
        return [self.node(node) for node in self.current.nodes]

    def config(self, node: NodeState) -> NodeConfig:
        """A node's settings."""
        current, etcd = self.current, self.current.etcd
        assert etcd is not None
        return NodeConfig(
            cluster=current.name,
            group=node.group,
            name=node.name,
            host="127.0.0.1",
            etcd=etcd.members,
            directory=self.directory / node.directory,
            port=node.port,
            rest_port=node.rest_port,
            region=node.region,
            zone=node.zone,
            replicas=current.replicas,
            auth=current.auth,
            superuser_password=self.password,
            replication_password=self._secret("replication_password"),
            rest_password=self._secret("rest_password"),
            profile=current.profile,
            when_alone=current.when_alone,
            durable=current.durable,
        )

    def _secret(self, name: str) -> str | None:
        if self.current.auth == "trust":
            return None
        return private.password(self.directory / name)

    def map_nodes(self) -> list[Node]:
        """All nodes as the catalog registers them; not those of a group that is being added."""
        listed = {group.id for group in self.current.groups}
        return [
            Node(
                id=node.id,
                group=GroupId(node.group),
                host="127.0.0.1",
                port=node.port,
                database="pgherd",
                region=node.region,
                zone=node.zone,
                name=node.name,
            )
            for node in self.current.nodes
            if node.group in listed
        ]

    # ---- looking -----------------------------------------------------------------------------------

    def statuses(self, nodes: Sequence[NodeState]) -> dict[str, NodeStatus | None]:
        """How these nodes are, by name, as each one's Patroni sees itself; None for one that does not answer."""
        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            found = pool.map(patroni_api.status, [self.config(node) for node in nodes])
            return dict(zip((node.name for node in nodes), found, strict=True))

    def primary(self, group: int) -> NodeState | None:
        """The node that is primary of a group now, None if there is none."""
        nodes = self.current.group_nodes(group)
        return next((node for node in nodes if patroni_api.is_primary(self.config(node))), None)

    # ---- up ----------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start what does not run and wait until every primary writes and every standby streams. False if all ran."""
        etcd = self.etcd
        process = etcd.launch() if etcd is not None else None
        down = [node for node in self.nodes() if node.pid() is None and not self._stopped(node)]
        if etcd is not None:
            if process is not None:
                self.report("starting etcd")
            etcd.wait_ready(process)
        if not down:
            return process is not None
        self.report(f"starting {len(down)} node{'' if len(down) == 1 else 's'}")
        starting = Starting(self)
        try:
            self._launch(down, starting)
        finally:
            starting.release()
        return True

    def _stopped(self, node: NodeProcess) -> bool:
        return self.current.node(node.config.name).stopped

    def _launch(self, down: Sequence[NodeProcess], starting: Starting) -> None:
        first: dict[int, NodeProcess] = {}
        if not self.current.installed:
            for node in down:
                first.setdefault(node.config.group, node)
        for node in first.values():
            starting.launch(node)
        starting.wait(
            lambda: all(node.files.data.exists() for node in first.values()), list(first.values()), "begins"
        )
        for node in down:
            starting.launch(node)
        for group in sorted({node.config.group for node in down}):
            self.report(f"waiting for group {group}")
            mine = [self.node(node) for node in self.current.group_nodes(group) if not node.stopped]
            starting.wait(lambda group=group: self.is_ready(group), mine, f"is ready in group {group}")

    def is_ready(self, group: int) -> bool:
        """Does the group have a primary, and does every other node that shall run stream from it, one in step and able to take over?"""
        nodes = self.current.group_nodes(group)
        stopped = {node.name for node in nodes if node.stopped}
        found = {
            name: status
            for name, status in self.statuses(nodes).items()
            if status is not None or name not in stopped
        }
        leaders = [(name, status) for name, status in found.items() if status is not None and status.leads]
        if len(leaders) != 1:
            return False
        name, primary = leaders[0]
        others = found.keys() - {name}
        successors = [
            other
            for other in others
            if (status := found[other]) and status.successor and primary.standbys.get(other) in IN_STEP
        ]
        return others <= primary.standbys.keys() and (bool(successors) or not others)

    # ---- down --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop all in order: standbys, then primaries (else a standby would take over), then etcd."""
        primaries = {node.name for group in self.current.groups if (node := self.primary(group.id))}
        nodes = self.nodes()
        standbys = [node for node in nodes if node.config.name not in primaries]
        rest = [node for node in nodes if node.config.name in primaries]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(NodeProcess.stop, standbys))
            list(pool.map(NodeProcess.stop, rest))
        if self.etcd is not None:
            self.etcd.stop()

    def kill(self) -> None:
        """End everything at once, as a power cut would."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(NodeProcess.burn, self.nodes()))
        if self.etcd is not None:
            self.etcd.stop()

    def doubts(self) -> str | None:
        """What is to be said about the etcd of a new cluster, in one line."""
        if self.etcd is None or not (program := find()).doubtful:
            return None
        version = ".".join(map(str, program.version))
        return (
            f"etcd {version} is for trying out: 3.5.0 to 3.5.2 can lose consistency in a crash. "
            "Put a current etcd on PATH, or use --etcd."
        )


@dataclass(slots=True)
class Starting:
    """The nodes that one command starts, and what became of them."""

    herd: Replicated
    _started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def launch(self, node: NodeProcess) -> None:
        """Start a node that does not run."""
        if node.config.name in self._started or node.pid() is not None:
            return
        node.kill(immediate=False)  # what a killed supervisor left
        for port in (node.config.port, node.config.rest_port):
            ports.require_free(port, f"node {node.config.name}")
        process = node.launch()
        if process is not None:
            self._started[node.config.name] = process

    def wait(self, done: Callable[[], bool], nodes: Sequence[NodeProcess], doing: str) -> None:
        """Wait for `done`; start those of `nodes` that were just being killed when we looked. Raises DeployError."""
        deadline = time.monotonic() + READY_S
        while not done():
            for node in nodes:
                self._check(node)
                self.launch(node)
            if time.monotonic() > deadline:
                words = "".join(f"; {node.config.name}: {node.last_words()}" for node in nodes)
                raise DeployError(
                    f"no node {doing} after {READY_S:.0f} s{words}",
                    hint=f"Read node.log of the nodes in {self.herd.directory}.",
                )
            time.sleep(LOOK_EVERY_S)

    def _check(self, node: NodeProcess) -> None:
        process = self._started.get(node.config.name)
        if process is not None and process.poll() is not None:
            words = node.last_words().removeprefix("pgherd: ")
            raise DeployError(
                f"node {node.config.name} does not start: {words}", hint=f"Read {node.files.log}."
            )

    def release(self) -> None:
        """They live on; Popen shall not warn about it."""
        for process in self._started.values():
            if process.returncode is None:
                process.returncode = 0
