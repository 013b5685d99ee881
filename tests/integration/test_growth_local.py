"""A local cluster grows and shrinks while it works: another group, another replica, a primary less. Interrupted, it can be tried again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pgherd.deploy import groups, growth, state
from pgherd.deploy.local import LocalCluster
from pgherd.errors import DeployError
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(300)


def quiet(_: str) -> None:
    """No progress."""


@pytest.fixture(scope="module", params=["embedded", "plain"])
def light(request: pytest.FixtureRequest, yard: Yard) -> LocalCluster:
    """One group without replicas: a database of a server, or a server."""
    return yard.cluster(f"grows-{request.param}", embedded=request.param == "embedded", groups=1)


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    """One group of two nodes, and a gateway."""
    return yard.cluster("grows-replicated", groups=1, replicas=1)


def ask(cluster: LocalCluster, *statements: str) -> Any:
    """Run statements through the gateway; the value of the last one."""

    async def run() -> Any:
        connection = await asyncpg.connect(cluster.dsn(cluster.existing()), command_timeout=60)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def groups_of(cluster: LocalCluster) -> list[int]:
    """The groups that the catalog knows."""
    return ask(cluster, "SELECT array_agg(DISTINCT group_id ORDER BY group_id) FROM pgherd.nodes")


@dataclass(slots=True)
class Writer:
    """What a client that writes all the time has met."""

    written: int = 0
    errors: list[str] = field(default_factory=list[str])


@contextmanager
def writer(cluster: LocalCluster, table: str) -> Iterator[Writer]:
    """A client that inserts one row after the other into `table` meanwhile."""
    ended, met = threading.Event(), Writer()

    async def write() -> None:
        connection = await asyncpg.connect(cluster.dsn(cluster.existing()), command_timeout=60)
        while not ended.is_set():
            try:
                await connection.execute(f"INSERT INTO {table} VALUES ({met.written})")
                met.written += 1
            except asyncpg.PostgresError as error:
                met.errors.append(f"{error.sqlstate} {error}")
                ended.set()
            await asyncio.sleep(0.002)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(write()))
    thread.start()
    try:
        yield met
    finally:
        ended.set()
        thread.join()


# ---- groups without replicas -------------------------------------------------------------------------


def test_a_group_is_added_whatever_interrupted_it_before(
    light: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(
        light,
        "CREATE TABLE towns (id int PRIMARY KEY)",
        "CALL pgherd.reference('towns')",
        "INSERT INTO towns VALUES (1), (2)",
        "SELECT 1",
    )
    before = light.existing()
    with monkeypatch.context() as patch:

        async def cut(*_: Any, **__: Any) -> bool:
            raise DeployError("cut before the catalog's part")

        patch.setattr(groups.growth, "add_group", cut)
        with pytest.raises(DeployError, match="cut before"):
            growth.add_group(light, report=quiet)
    assert light.existing().groups == before.groups
    with monkeypatch.context() as patch:
        kept = growth.state.save

        def cut_again(directory: Path, made: state.State) -> None:
            if made.groups != before.groups:
                raise DeployError("cut before the state file")
            kept(directory, made)

        patch.setattr(growth.state, "save", cut_again)
        with pytest.raises(DeployError, match="cut before the state"):
            growth.add_group(light, report=quiet)
    assert groups_of(light) == [0, 1]
    assert growth.add_group(light, report=quiet) == 1
    light.down()
    light.up()
    assert growth.add_group(light, report=quiet) == 2
    assert groups_of(light) == [0, 1, 2]
    assert [group.id for group in light.existing().groups] == [0, 1, 2]
    created = "CREATE TABLE later (id text PRIMARY KEY) PARTITION BY HASH (id)"
    count = "SELECT count(*) FROM later, towns"
    assert ask(light, created, "INSERT INTO later SELECT generate_series(1, 99)::text", count) == 198
    spread = "SELECT array_agg(DISTINCT s.group_id ORDER BY s.group_id) FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'later'"
    assert ask(light, spread) == [0, 1, 2]


def test_a_group_without_replicas_gets_none(light: LocalCluster) -> None:
    with pytest.raises(DeployError, match="without replicas"):
        growth.add_replica(light, 0, report=quiet)
    with pytest.raises(DeployError, match="without replicas"):
        growth.remove_node(light, "server_0", report=quiet)


# ---- groups with replicas ----------------------------------------------------------------------------


def registered(cluster: LocalCluster) -> list[str]:
    """The names of the nodes that the catalog knows."""
    return ask(cluster, "SELECT array_agg(name ORDER BY name) FROM pgherd.nodes")


def test_replicas_come_and_a_primary_goes_with_nobody_noticing(herd: LocalCluster) -> None:
    ask(herd, "CREATE TABLE lines (n int PRIMARY KEY) PARTITION BY HASH (n)", "SELECT 1")
    with writer(herd, "lines") as met:
        added = growth.add_replica(herd, 0, region="far", report=quiet)
        assert (added.name, added.region) == ("g0-n3", "far")
        assert registered(herd) == ["g0-n1", "g0-n2", "g0-n3"]
        primary = herd.replicated(herd.existing()).primary(0)
        assert primary is not None
        growth.remove_node(herd, primary.name, report=quiet)
    assert met.errors == []
    assert ask(herd, "SELECT count(*) FROM lines") == met.written > 0
    left = sorted({"g0-n1", "g0-n2", "g0-n3"} - {primary.name})
    assert registered(herd) == left
    assert sorted(node.name for node in herd.existing().nodes) == left
    assert not (herd.directory / primary.name).exists()
    assert ask(
        herd, "SELECT array_agg(slot_name::text) FROM pg_replication_slots WHERE slot_type = 'physical'"
    ) == [name.replace("-", "_") for name in left if name != current_primary(herd)]


def current_primary(cluster: LocalCluster) -> str:
    """The name of group 0's primary."""
    found = cluster.replicated(cluster.existing()).primary(0)
    assert found is not None
    return found.name


def test_a_group_is_added_with_nobody_noticing(herd: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        async def cut(*_: Any, **__: Any) -> bool:
            raise DeployError("cut when its nodes ran")

        patch.setattr(growth.groups, "join", cut)
        with pytest.raises(DeployError, match="cut when"):
            growth.add_group(herd, report=quiet)
    herd.up()
    assert groups_of(herd) == [0]
    ask(herd, "CREATE TABLE more (n int PRIMARY KEY) PARTITION BY HASH (n)", "SELECT 1")
    with writer(herd, "more") as met:
        assert growth.add_group(herd, report=quiet) == 1
    assert met.errors == [] and met.written > 0
    assert groups_of(herd) == [0, 1]
    names = [node.name for node in herd.existing().group_nodes(1)]
    assert names == ["g1-n1", "g1-n2"]
    assert set(names) <= set(registered(herd))


def test_a_burnt_standby_is_removed_and_replaced(herd: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    found = herd.replicated(herd.existing())
    primary = found.primary(1)
    lost = next(node for node in herd.existing().group_nodes(1) if node != primary)
    found.node(lost).burn()
    growth.remove_node(herd, lost.name, report=quiet)
    with monkeypatch.context() as patch:

        async def cut(*_: Any) -> None:
            raise DeployError("cut when it followed")

        patch.setattr(growth.catalog_nodes, "add", cut)
        with pytest.raises(DeployError, match="cut when"):
            growth.add_replica(herd, 1, report=quiet)
    added = growth.add_replica(herd, 1, report=quiet)
    assert added.name == "g1-n3"
    assert len(herd.existing().group_nodes(1)) == 2
    assert lost.name not in registered(herd) and added.name in registered(herd)


def test_what_does_not_exist_is_said(herd: LocalCluster) -> None:
    with pytest.raises(DeployError, match="there is no node nobody"):
        growth.remove_node(herd, "nobody", report=quiet)
    with pytest.raises(DeployError, match="there is no group 7"):
        growth.add_replica(herd, 7, report=quiet)
