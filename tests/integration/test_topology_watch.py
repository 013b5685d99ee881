"""The watcher against real servers: a primary and a standby whose leases the test keeps, so that each step happens when it says so."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from replica_world import Herd, kill, make_herd

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, Group, GroupId, Node
from pgherd.deploy.server import Server
from pgherd.errors import GroupDown, TooManyWaiting
from pgherd.testing.servers import Yard
from pgherd.topology import clock
from pgherd.topology.choose import Choice, Place
from pgherd.topology.freshness import STRONG, Freshness
from pgherd.topology.node import WatchSettings
from pgherd.topology.positions import Positions
from pgherd.topology.watch import Watch

pytestmark = pytest.mark.timeout(120)
GROUP = GroupId(0)
SESSION, EVENTUAL = Freshness("session"), Freshness("eventual")
POSTGRES = Credentials(user="postgres")


@pytest.fixture(scope="module")
def herd(yard: Yard) -> Iterator[Herd]:
    """A group whose primary `twa0` stays the primary."""
    made = make_herd(yard, "tw", groups=1)
    made.run("twa0", "CREATE TABLE t (n int)")
    yield made
    made.close()


@pytest.fixture
def fallible(yard: Yard, request: pytest.FixtureRequest) -> Iterator[Herd]:
    """A group that a test may break: the primary `<name>a0`, the standby `<name>b0`."""
    made = make_herd(yard, f"tf{abs(hash(request.node.name)) % 10_000}", groups=1)
    yield made
    made.close()


class Seen:
    """A watch, and everything that it told."""

    def __init__(self, **settings: Any) -> None:
        self.told: list[tuple[float, str | None]] = []
        self.epochs: list[int] = []
        self.links: list[ServerLink] = []
        self.watch = Watch(
            self.ask,
            place=Place(region="here", zone="b"),
            settings=WatchSettings(**settings),
            on_primary=self._told,
            on_epoch=self.epochs.append,
        )

    async def ask(self, node: Node) -> ServerLink:
        link = await connect(node, POSTGRES, timeout=2.0)
        self.links.append(link)
        return link

    def _told(self, group: GroupId, node: Node | None) -> None:
        assert group == GROUP
        self.told.append((clock.now(), None if node is None else node.name))

    @property
    def names(self) -> list[str | None]:
        return [name for _, name in self.told]

    @property
    def primary(self) -> str | None:
        node = self.watch.primary(GROUP)
        return None if node is None else node.name

    def choose(self, freshness: Freshness, positions: Positions | None = None) -> Choice:
        return self.watch.choose(GROUP, freshness, positions)

    def node(self, name: str) -> Node:
        return next(view.node for view in self.watch.views(GROUP) if view.node.name == name)


async def load(herd: Herd) -> ClusterMap:
    link = await connect(herd.nodes[0], POSTGRES, timeout=10.0)
    try:
        return await store.load(link)
    finally:
        link.close()


@asynccontextmanager
async def watching(herd: Herd, *, map: ClusterMap | None = None, **settings: Any) -> Any:
    """A watch that knows the herd's primary."""
    seen = Seen(**settings)
    seen.watch.follow(map or await load(herd))
    try:
        await seen.watch.wait_primary(GROUP, 20)
        yield seen
    finally:
        await seen.watch.close()
        assert all(link.broken for link in seen.links)


async def until(what: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


def stand_still(until: float) -> None:
    """The whole process does nothing: no callback runs, no answer is read."""
    while clock.now() < until:
        time.sleep(0.1)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(100):
            await test()

    asyncio.run(bounded())


# ---- trust ---------------------------------------------------------------------------------------------


def test_the_primary_is_found_and_newer_maps_are_told(herd: Herd) -> None:
    async def test() -> None:
        newest = await load(herd)
        old = ClusterMap(epoch=newest.epoch - 1, groups=newest.groups)
        async with watching(herd, map=old) as seen:
            assert seen.primary == "twa0"
            assert seen.names == ["twa0"]
            await until(lambda: seen.epochs == [newest.epoch])
            roles = {
                view.node.name: view.answer.in_recovery for view in seen.watch.views(GROUP) if view.answer
            }
            assert roles == {"twa0": False, "twb0": True}
        assert seen.names == ["twa0"]

    run(test)


def test_a_lost_monitor_connection_is_no_failover(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            for _ in range(3):
                before = len(seen.links)
                text = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgherd'"
                await asyncio.to_thread(herd.ask, "twa0", text)
                await until(lambda before=before: len(seen.links) > before)
                assert (await seen.watch.wait_primary(GROUP)).name == "twa0"
            await seen.watch.position(GROUP)
            assert seen.names == ["twa0"]

    run(test)


def test_a_node_that_hangs_delays_nobody(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd, ask_s=0.5) as seen:
            await until(lambda: seen.choose(EVENTUAL).role == "replica")
            with herd.frozen("twb0"):
                await until(lambda: any(view.error for view in seen.watch.views(GROUP)))
                assert seen.choose(EVENTUAL).role == "primary"
                await asyncio.gather(*(seen.watch.position(GROUP) for _ in range(20)))
                standby = next(view for view in seen.watch.views(GROUP) if view.node.name == "twb0")
                assert standby.error is not None
            await until(lambda: seen.choose(EVENTUAL).role == "replica")
            assert seen.names == ["twa0"]

    run(test)


def test_trust_ends_when_the_lease_does_though_nobody_answers(fallible: Herd) -> None:
    herd = fallible

    async def test() -> None:
        async with watching(herd) as seen:
            name = seen.primary
            with herd.frozen(name):
                herd.end_lease(0)
                await until(lambda: seen.names == [name, None])
                answer = next(view.answer for view in seen.watch.views(GROUP) if view.node.name == name)
                assert seen.told[1][0] >= answer.trust_ends  # silence proves nothing before
                assert seen.choose(STRONG).node is None
                assert seen.choose(EVENTUAL).role == "replica"
                with pytest.raises(GroupDown, match=r"group 0 has no primary since \d+ s \(.*no answer"):
                    await until(lambda: any(view.error for view in seen.watch.views(GROUP)))
                    await seen.watch.wait_primary(GROUP, 0.05)
            herd.primary[0] = name  # the lease is renewed: the same node again
            await until(lambda: seen.names == [name, None, name])

    run(test)


def test_a_process_that_was_frozen_trusts_nobody_when_it_wakes(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            trust = seen.watch._managed[GROUP].trust
            stand_still(trust.until)
            assert seen.primary is None
            assert seen.choose(STRONG).node is None
            assert (await seen.watch.wait_primary(GROUP)).name == "twa0"

    run(test)


def test_a_promoted_standby_is_followed_and_the_old_primary_never_again(fallible: Herd) -> None:
    herd = fallible

    async def test() -> None:
        async with watching(herd) as seen:
            old, new = herd.names[0]
            waiting = []
            with herd.frozen(old):
                herd.end_lease(0)
                await until(lambda: seen.names == [old, None])
                waiting = [asyncio.create_task(seen.watch.wait_primary(GROUP)) for _ in range(50)]
                lease = int((herd.server(old).data / "pgherd_lease").read_text()) / 1000
                await asyncio.sleep(max(lease - time.time(), 0))  # as Patroni does
                await asyncio.to_thread(herd.promote, 0, new)
                assert {node.name for node in await asyncio.gather(*waiting)} == {new}
            await until(lambda: all(view.error is None for view in seen.watch.views(GROUP)))
            views = {view.node.name: view.answer for view in seen.watch.views(GROUP)}
            assert views[old].in_recovery is False  # it does not know yet
            assert (views[new].timeline, views[old].timeline) == (2, 1)
            assert seen.names == [old, None, new]
            assert seen.choose(EVENTUAL).node.name == new
            assert (await seen.watch.position(GROUP)).timeline == 2

    run(test)


def test_a_crash_is_noticed_at_once_and_the_restart_too(fallible: Herd) -> None:
    """The lease goes on: whoever was refused a connection need not wait for its end."""
    herd = fallible

    async def test() -> None:
        async with watching(herd) as seen:
            name = herd.names[0][0]
            kill(herd.server(name))
            await until(lambda: seen.names == [name, None])
            lease = int((herd.server(name).data / "pgherd_lease").read_text()) / 1000
            assert lease > time.time()
            herd.server(name).start()
            await until(lambda: seen.names == [name, None, name])

    run(test)


def test_what_cannot_be_asked_is_named(server: Server) -> None:
    """A server without the catalog, and one that is not there."""

    async def test() -> None:
        there = Node(id=1, group=GROUP, host="127.0.0.1", port=server.port, database="postgres", name="bare")
        gone = Node(id=2, group=GROUP, host="127.0.0.1", port=1, database="postgres", name="gone")
        seen = Seen()
        seen.watch.follow(
            ClusterMap(epoch=1, groups={GROUP: Group(id=GROUP, nodes=(there, gone), managed=True)})
        )
        await until(lambda: all(view.error for view in seen.watch.views(GROUP)))
        with pytest.raises(GroupDown) as raised:
            await seen.watch.wait_primary(GROUP, 0.3)
        assert re.search(
            r'bare .*: schema "pgherd" does not exist; gone .*: .*does not answer', str(raised.value)
        )
        assert [view.refused for view in seen.watch.views(GROUP)] == [False, True]
        assert len(seen.links) == 1  # a refused question costs no connection
        await seen.watch.close()

    run(test)


# ---- waiting and pauses --------------------------------------------------------------------------------


def test_waits_are_bounded_in_time_and_number(fallible: Herd) -> None:
    herd = fallible

    async def test() -> None:
        async with watching(herd, failover_wait_s=0.3, waiters_max=2) as seen:
            herd.end_lease(0, at_once=True)
            await until(lambda: seen.primary is None)
            waiting = [asyncio.create_task(seen.watch.wait_primary(GROUP)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(TooManyWaiting):
                await seen.watch.wait_primary(GROUP)
            for task in waiting:
                with pytest.raises(GroupDown, match="has no primary since"):
                    await task
            with pytest.raises(GroupDown):
                await seen.watch.position(GROUP)
            late = asyncio.create_task(seen.watch.wait_primary(GROUP, 20))
            await asyncio.sleep(0)
        with pytest.raises(GroupDown, match="no longer watched"):
            await late

    run(test)


def test_a_pause_holds_and_lets_go(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            announced = await asyncio.to_thread(herd.ask, "twa0", "SELECT pgherd.announce_pause(1000, 20000)")
            await until(lambda: seen.names == ["twa0", None])
            assert seen.primary is None
            assert seen.watch.trusted(GROUP) is not None
            assert seen.choose(STRONG).node is None
            await until(lambda: seen.choose(EVENTUAL).role == "replica")
            with pytest.raises(GroupDown, match="paused for a switchover"):
                await seen.watch.wait_primary(GROUP, 0.05)
            await seen.watch.position(GROUP)  # a question disturbs no switchover
            await asyncio.to_thread(herd.run, "twa0", f"SELECT pgherd.take_back_pause({announced})")
            await until(lambda: seen.names == ["twa0", None, "twa0"])

    run(test)


def test_a_pause_that_nobody_takes_back_ends(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            asked = clock.now()
            await asyncio.to_thread(herd.ask, "twa0", "SELECT pgherd.announce_pause(1500, 700)")
            await until(lambda: seen.names == ["twa0", None, "twa0"])
            assert seen.told[2][0] >= asked + 2.2 - 0.001

    run(test)


# ---- reads ---------------------------------------------------------------------------------------------


def rows(herd: Herd, node: Node | None) -> int:
    """How many rows of t a read on the node sees, on a connection of its own."""
    assert node is not None
    with psycopg.connect(herd.server(node.name).uri("pgherd"), autocommit=True) as db:
        found = db.execute("SELECT count(*) FROM t").fetchone()
    assert found is not None
    return int(found[0])


def test_a_session_reads_what_it_wrote_nearby(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            positions, roles = Positions(), set()
            written = rows(herd, seen.node("twa0"))
            for _ in range(20):
                await asyncio.to_thread(herd.run, "twa0", "INSERT INTO t VALUES (1)")
                written += 1
                positions.wrote(GROUP)
                choice = await seen.watch.read_node(GROUP, SESSION, positions)
                roles.add(choice.role)
                assert await asyncio.to_thread(rows, herd, choice.node) == written
            assert "replica" in roles
            assert positions.dirty == set()

    run(test)


def test_with_an_old_map_only_the_primary_answers(herd: Herd) -> None:
    """It says that a shard has moved away; its replicas may not know it yet, or never get the rows."""

    async def test() -> None:
        newest = await load(herd)
        async with watching(herd) as seen:
            await until(lambda: seen.choose(EVENTUAL).role == "replica")
            other = Positions()
            other.epoch = newest.epoch + 1  # somebody worked by a map that we do not have yet
            positions = Positions()
            positions.merge(other.token())
            assert (await seen.watch.read_node(GROUP, SESSION, positions)).role == "primary"
            assert seen.epochs == [newest.epoch + 1]
            seen.watch.follow(ClusterMap(epoch=newest.epoch + 1, groups=newest.groups))
            assert seen.choose(EVENTUAL).role == "primary"  # the replica does not know it
        old = ClusterMap(epoch=newest.epoch - 1, groups=newest.groups)
        async with watching(herd, map=old) as seen:
            await until(lambda: seen.choose(EVENTUAL).role == "replica")
            assert seen.choose(Freshness("bounded", 3600)).role == "primary"
            seen.watch.follow(newest)
            await until(lambda: seen.choose(Freshness("bounded", 3600)).role == "replica")

    run(test)


def test_a_replica_that_does_not_replay_is_not_taken_for_fresh(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            bounded = Freshness("bounded", 1.0)
            await until(lambda: seen.choose(bounded).role == "replica")
            await asyncio.to_thread(herd.run, "twb0", "SELECT pg_wal_replay_pause()")
            try:
                await asyncio.to_thread(
                    herd.run, "twa0", "SET synchronous_commit = local", "INSERT INTO t VALUES (2)"
                )
                positions = Positions()
                positions.wrote(GROUP)
                assert (await seen.watch.read_node(GROUP, SESSION, positions)).role == "primary"
                await until(lambda: seen.choose(bounded).role == "primary")
                assert seen.choose(Freshness("bounded", 3600)).role == "replica"
                late = seen.choose(EVENTUAL)
                assert late.role == "replica"
                assert late.staleness_s > 1.0
                other = Positions()
                other.merge(positions.token())
                assert seen.choose(SESSION, other).role == "primary"
            finally:
                await asyncio.to_thread(herd.run, "twb0", "SELECT pg_wal_replay_resume()")
            at = positions.get(GROUP)
            assert await seen.watch.caught_up(seen.node("twb0"), at, 20)
            assert seen.choose(SESSION, positions).role == "replica"
            await until(lambda: seen.choose(bounded).role == "replica")

    run(test)


def test_an_idle_primary_makes_no_replica_look_late(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            bounded = Freshness("bounded", 1.5)
            await until(lambda: seen.choose(bounded).role == "replica")
            since = clock.now()
            fresh = late = 0
            while clock.now() < since + 4:
                choice = seen.choose(bounded)
                fresh, late = fresh + (choice.role == "replica"), late + (choice.role == "primary")
                await asyncio.sleep(0.05)
            assert fresh > late  # nothing was written for longer than the bound

    run(test)


def test_small_bounds_are_asked_for_often(herd: Herd) -> None:
    async def test() -> None:
        async with watching(herd) as seen:
            await until(lambda: seen.choose(Freshness("bounded", 0.2)).role == "replica")
            asked = {view.node.name: view.answer.sent for view in seen.watch.views(GROUP)}
            await until(
                lambda: all(
                    view.answer.sent > asked[view.node.name]
                    for view in seen.watch.views(GROUP)
                    if view.answer
                )
            )
            choice = seen.choose(Freshness("bounded", 60))
            assert choice.why.startswith("nearest of 2 that qualify: zone b, ")

    run(test)


def test_a_group_that_is_not_managed_costs_nothing() -> None:
    async def test() -> None:
        node = Node(id=0, group=GROUP, host="127.0.0.1", port=1, database="nowhere")
        seen = Seen()
        seen.watch.follow(ClusterMap(epoch=1, groups={GROUP: Group(id=GROUP, nodes=(node,))}))
        positions = Positions()
        positions.wrote(GROUP)
        assert seen.watch.primary(GROUP) == await seen.watch.wait_primary(GROUP) == node
        choice = await seen.watch.read_node(GROUP, SESSION, positions)
        assert (choice.node, choice.why) == (node, "the group's only node")
        await seen.watch.settle(positions)
        assert positions.dirty == set()
        assert await seen.watch.caught_up(node, await seen.watch.position(GROUP), 0.1)
        assert (seen.links, seen.told, seen.watch.views(GROUP)) == ([], [], ())
        await seen.watch.close()

    run(test)
