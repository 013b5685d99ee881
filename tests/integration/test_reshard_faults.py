"""Servers die in the middle of a workflow, disks and logs fill, somebody pauses it: it goes on or goes back, and leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from reshard_world import World

from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import catalog
from pgherd.deploy.server import Server
from pgherd.reshard import governor
from pgherd.reshard.pace import Load
from pgherd.reshard.running import Run
from pgherd.testing.servers import Yard

POINTS = (
    "copy: slot made",
    "copy: table copied",
    "catch_up: done",
    "verify: table compared",
    "cutover: locked",
    "keep: adopted",
)


@pytest.fixture(scope="module")
def servers(yard: Yard) -> Iterator[list[Server]]:
    made = [yard.server(f"reshard-{number}") for number in range(3)]
    yield made
    for server in made:
        server.stop(immediate=True)


def nodes_of(yard: Yard, servers: list[Server]) -> list[Node]:
    for server in servers:
        yard.databases(server, ["pgherd"])
    nodes = [
        Node(id=number, group=GroupId(number), host="127.0.0.1", port=server.port, database="pgherd")
        for number, server in enumerate(servers)
    ]
    catalog.install(nodes)
    return nodes


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_server_that_dies_on_the_way(yard: Yard, servers: list[Server], victim: str) -> None:
    async def story(nodes: list[Node]) -> None:
        async with await World.open(nodes) as world:
            shard = await world.fill(120)
            before = await world.sums("users")
        group = int(shard.group)
        for point in POINTS:
            async with await World.open(nodes) as world:
                target = (group + 1) % 3
                number = await world.ask("move", [shard.id], [{"group_id": target}])
                once = [servers[group if victim == "source" else target]]

                async def die(name: str, at: str = point, left: list[Server] = once) -> None:
                    if name == at and left:
                        server = left.pop()
                        server.stop(immediate=True)
                        server.start()  # in this thread: the server dies with the thread that started it

                await world.walk(die, seconds=60)
            async with await World.open(nodes) as world:
                assert not once, point
                assert await world.state(number) == "done", (point, await world.workflows())
                assert await world.sums("users") == before, point
                await world.sound()
            group = target

    asyncio.run(story(nodes_of(yard, servers)))


def test_a_log_that_grows_too_long_ends_the_workflow(yard: Yard, server: Server) -> None:
    async def story(nodes: list[Node]) -> None:
        async with await World.open(nodes) as world:
            shard = await world.fill(100)
            number = await world.ask(
                "move",
                [shard.id],
                [{"group_id": (shard.group + 1) % 3}],
                keep_for_s=600,
                retained_bytes=4 << 20,
            )

            async def write() -> None:
                await world.rows(
                    shard.group,
                    "CREATE TABLE public.noise AS SELECT repeat(md5(i::text), 50) FROM generate_series(1, 8000) i",
                )

            async def point(name: str) -> None:
                if name == "copy: slot made":
                    await write()
                    await asyncio.sleep(3)

            await world.walk(point)
            assert await world.state(number) == "failed", await world.workflows()
            assert "has grown" in (
                await world.one(0, f"SELECT error FROM pgherd.workflows WHERE id = {number}") or ""
            )
            assert await world.one(shard.group, "SELECT count(*) FROM here.users") == "100"
            await world.sound()

    asyncio.run(story(yard.groups(server, 3)))


def test_paused_and_resumed(yard: Yard, server: Server) -> None:
    async def story(nodes: list[Node]) -> None:
        async with await World.open(nodes) as world:
            shard = await world.fill(100)
            number = await world.ask("move", [shard.id], [{"group_id": (shard.group + 1) % 3}])

            async def point(name: str) -> None:
                if name == "index: done":
                    await world.rows(0, f"SELECT pgherd.want({number}, 'pause')")

            async def resume() -> None:
                await world.until(0, f"SELECT FROM pgherd.workflows WHERE id = {number} AND state = 'paused'")
                await world.rows(shard.group, f"UPDATE shard_{shard.id}.users SET n = 5")
                await world.rows(0, f"SELECT pgherd.want({number}, 'run')")

            await asyncio.gather(world.walk(point), resume())
            assert await world.state(number) == "done", await world.workflows()
            assert (
                await world.one((shard.group + 1) % 3, "SELECT count(*) FROM here.users WHERE n = 5") == "100"
            )
            await world.sound()

    asyncio.run(story(yard.groups(server, 3)))


def test_a_definition_after_the_cutover_ends_the_way_back(yard: Yard, server: Server) -> None:
    async def story(nodes: list[Node]) -> None:
        async with await World.open(nodes) as world:
            shard = await world.fill(100)
            target = (shard.group + 1) % 3
            number = await world.ask("move", [shard.id], [{"group_id": target}], keep_for_s=600)

            async def change() -> None:
                await world.do("ALTER TABLE users ADD COLUMN more int DEFAULT 1")
                await world.rows(target, f"UPDATE shard_{shard.id}.users SET more = 2")

            await world.walking("state = 'kept'", number, change)
            assert await world.state(number) == "done"
            assert "in step" in (
                await world.one(0, f"SELECT error FROM pgherd.workflows WHERE id = {number}") or ""
            )
            assert await world.one(target, "SELECT count(*) FROM here.users WHERE more = 2") == "100"
            await world.sound()

    asyncio.run(story(yard.groups(server, 3)))


def test_a_copy_slows_down_while_sessions_wait(
    yard: Yard, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is seen of the servers is put in place of a load that would hinder other tests; what follows from it is real."""

    async def waiting(run: Run, group: GroupId) -> Load:
        await load(run, group)
        return Load(waiting=1000)

    load = governor.load_of
    monkeypatch.setattr(governor, "load_of", waiting)

    async def story(nodes: list[Node]) -> None:
        async with await World.open(nodes) as world:
            shard = await world.fill(15_000)
            number = await world.ask("move", [shard.id], [{"group_id": (shard.group + 1) % 3}])

            async def calm() -> None:
                monkeypatch.setattr(governor, "load_of", load)

            await world.walking("(progress->>'speed')::float < 0.1", number, calm)
            assert await world.state(number) == "done", await world.workflows()
            await world.sound()

    asyncio.run(story(yard.groups(server, 3)))
