"""The process that carries a workflow out is killed, after every step and in the middle of each: another one takes it up, or back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from reshard_world import World

from pgherd.deploy.server import Server
from pgherd.testing.servers import Yard

FORWARD = (
    "preflight: done", "stage: done", "stage: recorded", "publish: done", "copy: slot made", "copy: table copied", "copy: done", "copy: recorded",
    "index: done", "catch_up: done", "verify: table compared", "verify: done", "prepare_back: slot made", "prepare_back: recorded",
    "cutover: before the lock", "cutover: locked", "cutover: before the commit",
)  # fmt: skip
COMMIT = (
    "commit: before preparing", "commit: after preparing", "commit: before deciding", "commit: after deciding",
    "commit: before finishing", "commit: after finishing",
)  # fmt: skip
AFTER = ("cutover: done", "keep: adopted", "keep: done", "clean: group", "clean: done")
SOME = ("copy: table copied", "cutover: locked", "commit: after deciding")


def test_killed_and_taken_up(yard: Yard, server: Server) -> None:
    asyncio.run(_moves(yard, server, SOME))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_everywhere_and_taken_up(yard: Yard, server: Server) -> None:
    asyncio.run(_moves(yard, server, (*FORWARD, *COMMIT, *AFTER)))


async def _moves(yard: Yard, server: Server, points: Sequence[str]) -> None:
    """One move for each point, round the groups; the next one starts where this one ended."""
    nodes = await asyncio.to_thread(yard.groups, server, 3)
    async with await World.open(nodes) as world:
        shard = await world.fill(120)
        before = await world.sums("users"), await world.sums("pets")
        for point in points:
            (found,) = await world.shards("users")
            target = (found.group + 1) % 3
            number = await world.ask("move", [shard.id], [{"group_id": target}])
            assert await world.killed_at(point), f"it never came to {point}: {await world.workflows()}"
            await world.walk()
            assert await world.state(number) == "done", (point, await world.workflows())
            (found,) = await world.shards("users")
            assert found.group == target
            assert (await world.sums("users"), await world.sums("pets")) == before, point
            await world.sound()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_taken_back(yard: Yard, server: Server) -> None:
    """After the kill the user cancels: all is as before. And while it is cancelled, it is killed again."""

    async def story() -> None:
        nodes = await asyncio.to_thread(yard.groups, server, 3)
        async with await World.open(nodes) as world:
            shard = await world.fill(120)
            before = await world.sums("users")
            for point in (*FORWARD[3:], *(f"{name}: undone" for name in ("prepare_back", "copy", "stage"))):
                number = await world.ask("move", [shard.id], [{"group_id": (shard.group + 1) % 3}])
                if point.endswith("undone"):
                    assert await world.killed_at("catch_up: done")
                    await world.rows(0, f"SELECT pgherd.want({number}, 'cancel')")
                assert await world.killed_at(point)
                if not point.endswith("undone"):
                    await world.rows(0, f"SELECT pgherd.want({number}, 'cancel')")
                await world.walk()
                assert await world.state(number) == "cancelled", (point, await world.workflows())
                assert await world.sums("users") == before
                await world.sound()

    asyncio.run(story())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_split_and_its_undoing_are_killed(yard: Yard, server: Server) -> None:
    async def story() -> None:
        nodes = await asyncio.to_thread(yard.groups, server, 3)
        async with await World.open(nodes) as world:
            await world.fill(120)
            before = await world.sums("users")
            for point in ("commit: after preparing", "commit: after deciding", "clean: group"):
                (shard,) = await world.shards("users")
                halves = [{"range_end": ["M"]}, {"range_start": ["M"]}]
                number = await world.ask("split", [shard.id], halves, keep_for_s=600)
                assert await world.killed_at("keep: adopted")
                await world.rows(0, f"SELECT pgherd.want({number}, 'undo')")
                assert await world.killed_at(point), await world.workflows()
                await world.walk()
                assert await world.state(number) == "undone", (point, await world.workflows())
                assert await world.shards("users") == (shard,)
                assert await world.sums("users") == before
                await world.sound()

    asyncio.run(story())
