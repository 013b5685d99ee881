"""A local cluster of managed groups: it fails over, loses nothing, hands over when asked, and survives kill -9 of any part."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pgherd.deploy import binaries, members, processes
from pgherd.deploy.lease import Lease
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.node_config import NodeConfig
from pgherd.deploy.restart import restart
from pgherd.deploy.switchover import switchover
from pgherd.errors import DeployError
from pgherd.testing import nodes
from pgherd.testing.nodes import NodeFaults

# In state startup: Patroni, which asks over a replication connection for timelines, and is gone at once.
RECEIVERS = "SELECT application_name, sync_state FROM pg_stat_replication WHERE state <> 'startup'"


@pytest.fixture
def herd(replicated_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The run's cluster of two groups with two nodes each, in health before and after."""
    nodes.wait_healthy(replicated_cluster)
    yield replicated_cluster
    nodes.wait_healthy(replicated_cluster)


def _config(herd: LocalCluster, name: str) -> NodeConfig:
    return NodeFaults(herd, name).process.config


def _ask(herd: LocalCluster, name: str, sql: str) -> str:
    """What psql answers on a node."""
    port = str(_config(herd, name).port)
    words = [binaries.find().path("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", port]
    words += ["-U", "postgres", "-d", "pgherd", "-c", sql]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _rows(herd: LocalCluster, table: str, count: int) -> str:
    """Make `table` on group 0's primary with so many rows, each acknowledged; answers the primary's name."""
    name = nodes.primary(herd, 0)
    _ask(herd, name, f"CREATE TABLE {table} AS SELECT generate_series(1, {count}) AS a")
    return name


def test_every_primary_has_a_lease_and_a_standby_in_step(herd: LocalCluster) -> None:
    for group in (0, 1):
        primary, standby = nodes.primary(herd, group), nodes.standby(herd, group)
        assert Lease(_config(herd, primary).data).until() > 0
        assert Lease(_config(herd, standby).data).until() == 0
        assert _ask(herd, primary, RECEIVERS) == f"{standby}|sync"
        assert 0 < int(_ask(herd, primary, "SELECT lease_ms FROM pgherd.node_state()")) <= 5000
        assert _ask(herd, standby, "SELECT lease_ms FROM pgherd.node_state()") == "0"


def test_the_catalog_knows_every_node_by_name(herd: LocalCluster) -> None:
    names = "SELECT string_agg(name, ' ' ORDER BY name) FROM pgherd.nodes"
    managed = "SELECT bool_and(managed) FROM pgherd.groups"
    for group in (0, 1):
        assert _ask(herd, nodes.primary(herd, group), names) == "g0-n1 g0-n2 g1-n1 g1-n2"
        assert _ask(herd, nodes.primary(herd, group), managed) == "t"


def test_a_node_is_not_registered_as_etcd_had_it_before_its_settings_changed(herd: LocalCluster) -> None:
    config = _config(herd, nodes.standby(herd, 1))
    assert asyncio.run(members.register_self(config)) == ""
    for changed in (replace(config, region="far"), replace(config, zone="b")):
        assert "as its settings say" in asyncio.run(members.register_self(changed))


def test_after_a_crash_of_postgresql_the_standby_has_every_row(herd: LocalCluster) -> None:
    old = _rows(herd, "crashed", 1000)
    NodeFaults(herd, old).kill("postgres")
    new = nodes.wait_for(lambda: _another(herd, 0, old), 60, "another primary")
    assert _ask(herd, new, "SELECT count(*) FROM crashed") == "1000"
    _ask(herd, new, "INSERT INTO crashed VALUES (1001)")
    nodes.wait_healthy(herd)  # the crashed one follows by itself
    assert nodes.standby(herd, 0) == old


def test_when_a_host_is_lost_the_other_has_every_row_and_nobody_elses_group_notices(
    herd: LocalCluster,
) -> None:
    other = nodes.primary(herd, 1)
    timeline = _ask(herd, other, "SELECT timeline FROM pgherd.node_state()")
    old = _rows(herd, "burnt", 1000)
    NodeFaults(herd, old).burn()
    new = nodes.wait_for(lambda: _another(herd, 0, old), 60, "another primary")
    assert _ask(herd, new, "SELECT count(*) FROM burnt") == "1000"
    _ask(herd, new, "INSERT INTO burnt VALUES (1001)")
    assert nodes.primary(herd, 1) == other
    assert _ask(herd, other, "SELECT timeline FROM pgherd.node_state()") == timeline
    nodes.wait_healthy(herd)
    assert _ask(herd, old, "SELECT count(*) FROM burnt") == "1001"


def _another(herd: LocalCluster, group: int, old: str) -> str | None:
    found = herd.replicated(herd.existing()).primary(group)
    return found.name if found is not None and found.name != old else None


def test_prepared_transactions_survive_a_failover(herd: LocalCluster) -> None:
    old = _rows(herd, "prepared", 1)
    _ask(herd, old, "BEGIN; INSERT INTO prepared VALUES (2); PREPARE TRANSACTION 'kept'")
    NodeFaults(herd, old).kill("postgres")
    new = nodes.wait_for(lambda: _another(herd, 0, old), 60, "another primary")
    _ask(herd, new, "COMMIT PREPARED 'kept'")
    assert _ask(herd, new, "SELECT count(*) FROM prepared") == "2"


def test_a_killed_supervisor_disturbs_nobody_and_the_next_one_takes_over(herd: LocalCluster) -> None:
    faults = NodeFaults(herd, nodes.primary(herd, 0))
    before = faults.process.pids()
    faults.kill("supervisor")
    assert faults.process.pids() == before | {"supervisor": None}
    faults.start()
    nodes.wait_for(lambda: _supervises(faults), 20, "a supervisor that has taken over")
    nodes.wait_healthy(herd)
    after = faults.process.pids()
    assert (after["patroni"], after["postgres"]) == (before["patroni"], before["postgres"])


def _supervises(faults: NodeFaults) -> bool:
    return "taking over Patroni" in faults.process.files.log.read_text()


def test_a_killed_patroni_comes_back_and_postgresql_stays(herd: LocalCluster) -> None:
    faults = NodeFaults(herd, nodes.standby(herd, 0))
    before = faults.process.pids()
    faults.kill("patroni")
    nodes.wait_for(lambda: faults.process.pids()["patroni"], 30, "a new Patroni")
    nodes.wait_healthy(herd)
    assert faults.process.pids()["patroni"] != before["patroni"]
    assert faults.process.pids()["postgres"] == before["postgres"]


def test_a_patroni_that_hangs_loses_the_lease_and_is_replaced(herd: LocalCluster) -> None:
    name = nodes.primary(herd, 1)
    faults = NodeFaults(herd, name)
    hung = faults.process.pids()["patroni"]
    faults.freeze("patroni")
    lease = "SELECT lease_ms FROM pgherd.node_state()"
    nodes.wait_for(lambda: _ask(herd, name, lease) == "0", 20, "the lease to end")
    nodes.wait_for(lambda: faults.process.pids()["patroni"] not in (None, hung), 60, "a new Patroni")


def test_a_switchover_is_a_change_of_roles_and_nothing_is_lost(herd: LocalCluster) -> None:
    old = _rows(herd, "handed_over", 1000)
    new = nodes.standby(herd, 0)
    timeline = int(_ask(herd, old, "SELECT timeline FROM pgherd.node_state()"))
    done = asyncio.run(switchover(_config(herd, old), 0, None, lambda _: None))
    assert (done.old, done.new) == (old, new)
    assert _ask(herd, new, "SELECT count(*) FROM handed_over") == "1000"
    _ask(herd, new, "INSERT INTO handed_over VALUES (1001)")
    assert int(_ask(herd, new, "SELECT timeline FROM pgherd.node_state()")) == timeline + 1
    assert _ask(herd, new, "SELECT paused_for_ms FROM pgherd.node_state()") == ""
    nodes.wait_healthy(herd)
    assert _ask(herd, old, "SELECT count(*) FROM handed_over") == "1001"


def test_a_switchover_waits_for_open_transactions_and_gives_up_in_the_end(
    herd: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgherd.deploy.switchover.TRIES", 1)
    name = nodes.primary(herd, 0)
    port = str(_config(herd, name).port)
    words = [binaries.find().path("psql"), "-XAtq", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "pgherd"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as open_one:
        assert open_one.stdin is not None
        assert open_one.stdout is not None
        open_one.stdin.write("BEGIN;\nSELECT 'begun';\n")
        open_one.stdin.flush()
        assert open_one.stdout.readline() == "begun\n"
        with pytest.raises(DeployError, match="transactions stay open in group 0: SELECT 'begun'"):
            asyncio.run(switchover(_config(herd, name), 0, None, lambda _: None))
        open_one.stdin.write("COMMIT;\nSELECT 'done';\n")
        open_one.stdin.flush()
        assert open_one.stdout.readline() == "done\n"
    assert nodes.primary(herd, 0) == name
    assert _ask(herd, name, "SELECT paused_for_ms FROM pgherd.node_state()") == ""


def test_what_does_not_exist_is_named(herd: LocalCluster) -> None:
    config = _config(herd, "g0-n1")
    with pytest.raises(DeployError, match="there is no group 7"):
        asyncio.run(switchover(config, 7, None, lambda _: None))
    with pytest.raises(DeployError, match="group 0 has no node g1-n1"):
        asyncio.run(switchover(config, 0, "g1-n1", lambda _: None))
    with pytest.raises(DeployError, match="is the primary already"):
        asyncio.run(switchover(config, 0, nodes.primary(herd, 0), lambda _: None))
    with pytest.raises(DeployError, match="there is no node g9-n9"):
        asyncio.run(restart(config, "g9-n9", lambda _: None))


def test_a_restart_of_a_standby_is_a_new_postgresql(herd: LocalCluster) -> None:
    name = nodes.standby(herd, 1)
    before = NodeFaults(herd, name).process.pids()["postgres"]
    done = asyncio.run(restart(_config(herd, "g0-n1"), name, lambda _: None))
    assert (done.switched, done.interrupted) == (None, False)
    assert NodeFaults(herd, name).process.pids()["postgres"] not in (None, before)


def test_everything_killed_at_once_then_up_has_every_row(herd: LocalCluster) -> None:
    _rows(herd, "power_cut", 1000)
    pids = [pid for node in herd.existing().nodes for pid in NodeFaults(herd, node.name).all_pids()]
    etcd = herd.replicated(herd.existing()).etcd
    assert etcd is not None
    pids += [pid for pid in [etcd.pid()] if pid is not None]
    for pid in pids:
        processes.send(pid, signal.SIGKILL)
    assert processes.wait_gone(pids, 10)
    herd.up(gateway=False)
    assert _ask(herd, nodes.primary(herd, 0), "SELECT count(*) FROM power_cut") == "1000"
    assert herd.replicated(herd.existing()).is_ready(0)
