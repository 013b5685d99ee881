"""Nodes come, move and go in all groups at once, whoever is killed; and what groups read from each other follows a failover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import asyncpg
import pytest
from catalog_world import World, run

from pgherd.catalog import nodes, store
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import catalog
from pgherd.deploy.server import Server
from pgherd.errors import DeployError, ServerError
from pgherd.testing.servers import Yard
from pgherd.transaction import recovery
from pgherd.transaction.two_phase import Protocol

Groups = Callable[[int], list[Node]]
EPOCH = "SELECT epoch FROM pgherd.cluster"
NODES = "SELECT id, group_id, host, port, name FROM pgherd.nodes ORDER BY id"
OPTIONS = "SELECT o.option_name, o.option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) o WHERE srvname = 'group_1'"


def named(found: list[Node]) -> list[Node]:
    """The nodes with names, as Patroni's members have them."""
    return [replace(node, name=f"g{node.group}a") for node in found]


async def options(world: World) -> dict[str, str | None]:
    return {str(row[0]): row[1] for row in await world.rows(0, OPTIONS)}


def test_a_change_of_nodes_reaches_all_groups_and_raises_the_epoch_once(fresh_groups: Groups) -> None:
    groups = fresh_groups(3)

    async def job() -> None:
        async with await World.open(groups) as world:
            lender = nodes.Held(world.links)
            assert await world.everywhere(EPOCH) == [[("2",)]] * 3
            assert await nodes.register(lender, named(groups), managed={GroupId(1), GroupId(2)})
            assert await world.everywhere(EPOCH) == [[("3",)]] * 3
            assert not await nodes.register(lender, named(groups), managed={GroupId(1), GroupId(2)})
            assert await world.everywhere(EPOCH) == [[("3",)]] * 3
            cluster = await world.map()
            assert [group.managed for group in cluster.groups.values()] == [False, True, True]
            second = replace(groups[1], name="g1b", port=1)
            assert (await nodes.add(lender, second)).id == 6
            assert await nodes.move(lender, "g1b", host="there", port=2)
            assert not await nodes.move(lender, "g1b", host="there", port=2)
            assert await world.everywhere(EPOCH) == [[("5",)]] * 3
            found = await world.everywhere(NODES)
            assert found[0] == found[1] == found[2]
            assert found[0][-1] == ("6", "1", "there", "2", "g1b")
            assert (await options(world))["target_session_attrs"] == "read-write"
            assert (await options(world))["host"] == "127.0.0.1,there"
            await nodes.remove(lender, "g1b")
            assert "target_session_attrs" not in await options(world)
            assert (await nodes.add(lender, second)).id == 7

    run(job())


def test_what_makes_no_sense_is_refused(fresh_groups: Groups) -> None:
    groups = fresh_groups(2)

    async def job() -> None:
        async with await World.open(groups) as world:
            lender = nodes.Held(world.links)
            await nodes.register(lender, named(groups), managed={GroupId(1)})
            for wish in (
                nodes.remove(lender, "g1a"),  # the group's last
                nodes.remove(lender, "nobody"),
                nodes.move(lender, "", host="x", port=1),
                nodes.add(lender, replace(groups[1], name="")),
                nodes.add(lender, replace(groups[0], name="g0b")),  # not managed
                nodes.add(lender, replace(groups[0], name="x", group=GroupId(9))),
                nodes.register(lender, named(groups)[:1]),  # group 1 would have none
            ):
                with pytest.raises(DeployError):
                    await wish
            assert await world.everywhere(EPOCH) == [[("3",)]] * 2

    run(job())


class Killed(BaseException):
    """Whoever changes the nodes dies here."""


def test_a_kill_at_any_step_leaves_all_groups_alike(fresh_groups: Groups) -> None:
    """The change happened in all groups or in none, as soon as the next one (or recovery) has looked."""
    groups = fresh_groups(3)
    steps: set[str] = set()

    async def once(fatal: int) -> bool:
        """Be killed at step number `fatal`; False if there are not so many."""
        world = await World.open(groups)
        count = 0

        async def on_step(when: str, protocol: Protocol) -> None:
            nonlocal count
            count += 1
            if count == fatal:
                steps.add(f"{when} {protocol.phase.value}")
                for link in world.links:
                    link.abort()
                raise Killed

        try:
            wished = [replace(node, zone=f"z{fatal}") for node in groups]
            await nodes.register(nodes.Held(world.links), wished, on_step=on_step)
        except Killed:
            return True
        finally:
            await world.__aexit__()
        return False

    async def job() -> None:
        fatal = 1
        while await once(fatal):
            async with await World.open(groups) as world:
                lender = nodes.Held(world.links)
                deadline = time.monotonic() + 10
                while await recovery.in_doubt(lender, tuple(node.group for node in groups)):
                    assert time.monotonic() < deadline
                    await recovery.recover(lender, tuple(node.group for node in groups))
                states = await world.everywhere(
                    "SELECT c.epoch, array_agg(n.zone) FROM pgherd.cluster c, pgherd.nodes n GROUP BY 1"
                )
                assert states[0] == states[1] == states[2]
                await nodes.register(lender, [replace(node, zone=f"after {fatal}") for node in groups])
                assert [n.primary.zone for n in (await world.map()).groups.values()] == [f"after {fatal}"] * 3
            fatal += 1
        assert {
            "before preparing",
            "after preparing",
            "before deciding",
            "after deciding",
            "after finishing",
        } <= steps

    run(job())


def test_settings_of_the_servers_between_groups(fresh_groups: Groups) -> None:
    groups = fresh_groups(2)

    async def job() -> None:
        async with await World.open(groups) as world:
            lender = nodes.Held(world.links)
            await nodes.set_server_options(lender, {"sslmode": "prefer", "connect_timeout": "3"})
            found = await options(world)
            assert (found["sslmode"], found["connect_timeout"], found["keepalives_count"]) == (
                "prefer",
                "3",
                "3",
            )
            before = await world.rows(0, "SELECT xmin FROM pg_foreign_server")
            await store.install(world.links)
            await nodes.register(lender, groups)
            assert await world.rows(0, "SELECT xmin FROM pg_foreign_server") == before, "nothing was altered"
            assert await world.rows(0, "SELECT * FROM pgherd.probe_1") == [("1",)]
            await nodes.set_server_options(lender, {})
            assert "sslmode" not in await options(world)
            assert (await options(world))["connect_timeout"] == "5"
            with pytest.raises(ServerError):
                await nodes.set_server_options(lender, {"no_such_option": "1"})
            assert await world.everywhere("SELECT count(*) FROM pgherd.server_options") == [[("0",)]] * 2

    run(job())


# ---- failover ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Three:
    """Group 0 on a server of its own; group 1 is a primary with a standby."""

    home: Server
    old: Server
    new: Server
    nodes: list[Node]


@pytest.fixture
def three(yard: Yard) -> Iterator[Three]:
    servers = [yard.server(name) for name in ("foreign_home", "foreign_old")]
    for server in servers:
        yard.databases(server, ["d"])
    standby = yard.standby(servers[1], "foreign_new")
    places = zip((0, 1, 1), [*servers, standby], ("h", "old", "new"), strict=True)
    found = [
        Node(id=-1, group=GroupId(group), host="127.0.0.1", port=server.port, database="d", name=name)
        for group, server, name in places
    ]
    catalog.install(found, managed={GroupId(1)})
    yield Three(*servers, standby, found)
    for server in (*servers, standby):
        server.stop(immediate=True)


def test_foreign_reads_follow_a_failover(three: Three) -> None:
    async def until(link: asyncpg.Connection, sql: str, wanted: object) -> None:
        deadline, found = time.monotonic() + 20, None
        while found != wanted:
            assert time.monotonic() < deadline, found
            try:
                found = await link.fetchval(sql)
            except asyncpg.PostgresConnectionError as error:
                found = error

    async def job() -> None:
        probe = "SELECT one FROM pgherd.probe_1"
        link, other, idle = [await asyncpg.connect(three.home.uri("d")) for _ in range(3)]
        for one in (link, idle):
            assert await one.fetchval(probe) == 1
        # a primary that was cut off: it runs, but its lease is over
        lease = three.old.data / "pgherd_lease"
        lease.write_text("1")
        three.old.identity.own(lease)
        with pytest.raises(asyncpg.ConnectionFailureError, match="may not be its primary any more"):
            await link.fetchval(probe)
        lease.unlink()
        assert await link.fetchval(probe) == 1
        # it dies, and nobody is primary: an error, soon, and not of the transaction alone
        three.old.stop(immediate=True)
        started = time.monotonic()
        with pytest.raises(asyncpg.PostgresConnectionError):
            await link.fetchval(probe)
        assert time.monotonic() - started < 15
        promoted = await asyncpg.connect(three.new.uri("d"))
        await promoted.execute("SELECT pg_promote(true)")
        await promoted.close()
        await until(link, probe, 1)
        assert await idle.fetchval(probe) == 1, (
            "a connection that broke while idle is made anew, without an error"
        )
        assert await other.fetchval(probe) == 1
        for one in (link, other, idle):
            await one.close()

    run(job())
