"""The watcher over a real cluster: Patroni, etcd and leases as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import store
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.switchover import switchover
from pgherd.testing import nodes
from pgherd.testing.nodes import NodeFaults
from pgherd.topology import clock
from pgherd.topology.freshness import Freshness
from pgherd.topology.positions import Positions
from pgherd.topology.watch import Watch

pytestmark = pytest.mark.timeout(300)
GROUP, OTHER = GroupId(0), GroupId(1)
POSTGRES = Credentials(user="postgres")
SESSION = Freshness("session")


@pytest.fixture
def herd(replicated_cluster: LocalCluster) -> Iterator[LocalCluster]:
    nodes.wait_healthy(replicated_cluster)
    yield replicated_cluster
    nodes.wait_healthy(replicated_cluster)


class Told:
    """A watch over all groups, and what it told about each."""

    def __init__(self) -> None:
        self.names: dict[GroupId, list[str | None]] = {GROUP: [], OTHER: []}
        self.watch = Watch(self.ask, on_primary=self._told)

    async def ask(self, node: Node) -> ServerLink:
        return await connect(node, POSTGRES, timeout=2.0)

    def _told(self, group: GroupId, node: Node | None) -> None:
        self.names[group].append(None if node is None else node.name)

    async def run(self, sql: str) -> str | None:
        """Run a statement on the trusted primary, on a connection of its own."""
        link = await connect(await self.watch.wait_primary(GROUP, 60), POSTGRES, timeout=5.0)
        try:
            rows = await link.run(sql)
        finally:
            link.close()
        return rows[0][0] if rows else None

    async def timeline(self) -> int:
        return (await self.watch.position(GROUP)).timeline


async def started(herd: LocalCluster) -> Told:
    first = herd.nodes(herd.existing())[0]
    link = await connect(first, POSTGRES, timeout=10.0)
    try:
        map = await store.load(link)
    finally:
        link.close()
    told = Told()
    told.watch.follow(map)
    for group in (GROUP, OTHER):
        await told.watch.wait_primary(group, 60)
    return told


async def until(told: Told, last: str | None) -> None:
    deadline = clock.now() + 90
    while told.names[GROUP][-1:] != [last]:
        assert clock.now() < deadline, f"told {told.names[GROUP]}, not {last}"
        await asyncio.sleep(0.01)


def test_a_switchover_is_followed_and_sessions_go_on(herd: LocalCluster) -> None:
    old, new = nodes.primary(herd, 0), nodes.standby(herd, 0)
    config = NodeFaults(herd, old).process.config

    async def test() -> None:
        told = await started(herd)
        await told.run("CREATE TABLE watched (n int)")
        await told.run("INSERT INTO watched VALUES (1)")
        session, before = Positions(), await told.timeline()
        session.wrote(GROUP)
        await told.watch.settle(session)
        await switchover(config, 0, new, lambda _: None)
        await until(told, new)
        assert told.names[GROUP][-2:] == [None, new]
        assert await told.timeline() == before + 1
        async with asyncio.timeout(60):  # the old one comes back as a standby, and holds what the session saw
            while True:
                choice = await told.watch.read_node(GROUP, SESSION, session)
                if choice.role == "replica":
                    break
                await asyncio.sleep(0.05)
        assert choice.node is not None and choice.node.name == old
        link = await connect(choice.node, POSTGRES, timeout=5.0)
        assert await link.run("SELECT count(*) FROM watched") == [("1",)]
        link.close()
        await told.run("DROP TABLE watched")
        await told.watch.close()

    asyncio.run(test())


def test_a_host_that_hangs_is_replaced_and_not_trusted_when_it_wakes(herd: LocalCluster) -> None:
    old = nodes.primary(herd, 0)
    faults = NodeFaults(herd, old)

    async def test() -> None:
        told = await started(herd)
        before = await told.timeline()
        faults.freeze()
        told.names[GROUP].clear()
        try:
            await until(told, None)
            node = await told.watch.wait_primary(GROUP, 90)
            assert node.name != old
            assert await told.timeline() > before
        finally:
            faults.thaw()
        async with asyncio.timeout(90):
            while not any(
                view.error is None and view.answer is not None and view.answer.timeline > before
                for view in told.watch.views(GROUP)
                if view.node.name == old
            ):
                node = told.watch.primary(GROUP)
                assert node is None or node.name != old
                await asyncio.sleep(0.01)
        assert old not in told.names[GROUP]
        await told.watch.close()

    asyncio.run(test())
