"""Workflows on bare groups: every row and everything that belongs to a table arrives, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from catalog_world import run
from reshard_world import World

from pgherd.deploy.server import Server
from pgherd.errors import ServerError
from pgherd.testing.servers import Yard

Story = Callable[[Callable[[World], Awaitable[Any]]], None]


@pytest.fixture
def story(yard: Yard, server: Server) -> Story:
    """Runs a story in a new cluster of three groups."""

    async def told(job: Callable[[World], Awaitable[Any]]) -> None:
        async with await World.open(nodes) as world:
            await job(world)

    nodes = yard.groups(server, 3)
    return lambda job: run(told(job))  # type: ignore[arg-type]


def other(group: int) -> int:
    return (group + 1) % 3


class Writers:
    """Changes of every kind on a shard's table, as fast as they go, wherever it lives. `done`: how many."""

    def __init__(self, world: World) -> None:
        self.world, self.done, self.stop = world, 0, False

    async def run(self, seed: int) -> None:
        from pgherd.backend.connection import Credentials, connect

        links = [await connect(node, Credentials(user="postgres"), timeout=5) for node in self.world.nodes]
        number = seed
        while not self.stop:
            number = number * 7 % 397
            for text in _CHANGES:
                await self._write(links, text, number)
            self.done += 1
        for link in links:
            link.close()

    async def _write(self, links: list[Any], text: str, number: int) -> None:
        for attempt in range(500):
            shards = await links[0].run(
                "SELECT s.id, s.group_id, s.range_start[1] FROM pgherd.shards s WHERE s.keyspace = 'users'"
            )
            letter = chr(65 + number % 26)
            fits = [row for row in shards if (row[2] or "") <= letter]
            shard = max(fits, key=lambda row: row[2] or "")
            try:
                await links[int(shard[1])].run(text.format(s=f"shard_{shard[0]}", i=number, c=letter))
                return
            except ServerError as error:
                assert error.code in ("55000", "42P01", "3F000", "23514"), (attempt, error)
                await asyncio.sleep(0.002)
        raise AssertionError("never done")


_CHANGES = (
    "UPDATE {s}.users SET n = n + 1 WHERE name = '{c}' AND id = {i}",
    "UPDATE {s}.users SET body = E'now\\t' || {i} WHERE name = '{c}' AND id = {i} AND id % 10 = 0 AND n % 3 = 0",
    "INSERT INTO {s}.pets VALUES ('{c}', {i}, 7) ON CONFLICT DO NOTHING",
    "DELETE FROM {s}.pets WHERE name = '{c}' AND id = {i} AND pet = 7",
    "DELETE FROM {s}.users WHERE name = '{c}' AND id = {i} AND id % 4 = 1; "
    "INSERT INTO {s}.users (name, id, m) VALUES ('{c}', {i}, 'glad') ON CONFLICT DO NOTHING",
    "UPDATE {s}.users SET id = id + 10000 WHERE name = '{c}' AND id = {i} AND id % 10 = 0 AND NOT EXISTS (SELECT FROM {s}.pets p WHERE (p.name, p.id) = (users.name, users.id));"
    "UPDATE {s}.users SET id = id - 10000 WHERE name = '{c}' AND id = {i} + 10000",
)


async def under_traffic(world: World, job: Callable[[], Awaitable[None]]) -> int:
    """Do `job` while writers are at work; answers how many changes there were."""
    writers = Writers(world)
    tasks = [asyncio.create_task(writers.run(seed)) for seed in (3, 5)]
    try:
        await asyncio.sleep(0.1)
        await job()
    finally:
        writers.stop = True
        await asyncio.gather(*tasks)
    return writers.done


async def whole(world: World, shard: int, group: int) -> None:
    """Keys, foreign keys, triggers of a shard of users are there and in force."""
    rows = await world.rows(
        group,
        f"SELECT conname FROM pg_constraint WHERE conrelid = 'shard_{shard}.users'::regclass AND contype IN ('p', 'u', 'f', 'c') AND convalidated ORDER BY 1",
    )
    assert [row[0] for row in rows] == [
        "users_code_fkey",
        "users_n_check",
        "users_name_n_id_key",
        "users_pkey",
    ]
    n = int(await world.one(group, f"SELECT n FROM shard_{shard}.users WHERE id = 77") or 0)
    await world.rows(group, f"UPDATE shard_{shard}.users SET body = 'trigger' WHERE id = 77")
    assert await world.one(group, f"SELECT n FROM shard_{shard}.users WHERE id = 77") == str(n + 1)
    with pytest.raises(ServerError) as caught:
        await world.rows(group, f"UPDATE shard_{shard}.users SET code = 99 WHERE id = 77")
    assert caught.value.code == "23503"


def test_a_move_carries_everything_while_it_is_written(story: Story) -> None:
    async def job(world: World) -> None:
        shard = await world.fill()
        target = other(shard.group)
        number = await world.ask("move", [shard.id], [{"group_id": target}])
        done = await under_traffic(world, world.walk)
        assert done > 10
        assert await world.state(number) == "done", await world.workflows()
        sums = await world.sums("users")
        assert sums[0] == sums[1] == sums[2]
        assert await world.one(target, "SELECT count(*) FROM here.users") == sums[0][0][0]
        assert (
            await world.one(
                0,
                "SELECT count(*) FROM global.pets p WHERE NOT EXISTS (SELECT FROM global.users u WHERE (u.name, u.id) = (p.name, p.id))",
            )
            == "0"
        )
        await whole(world, shard.id, target)
        await world.sound()

    story(job)


def test_split_merge_and_undo_under_traffic(story: Story) -> None:
    async def job(world: World) -> None:
        shard = await world.fill()

        async def all_of_it() -> None:
            await world.ask(
                "split",
                [shard.id],
                [{"range_end": ["N"]}, {"range_start": ["N"], "group_id": other(shard.group)}],
            )
            await world.walk()
            low, high = await world.shards("users")
            assert low.group != high.group
            number = await world.ask("merge", [low.id, high.id], [{"range_end": None}], keep_for_s=600)
            await world.walking("state = 'kept'", number, lambda: _want(world, number, "undo"))
            assert await world.state(number) == "undone", await world.workflows()
            await world.ask("merge", [low.id, high.id], [{"range_end": None}])
            await world.walk()

        assert await under_traffic(world, all_of_it) > 10
        (merged,) = await world.shards("users")
        states = [row[2] for row in await world.workflows()]
        assert states == ["done", "undone", "done"], await world.workflows()
        sums = await world.sums("users")
        assert sums[0] == sums[1] == sums[2]
        await whole(world, merged.id, merged.group)
        await world.sound()

    story(job)


async def _want(world: World, number: int, wanted: str) -> None:
    await world.rows(0, f"SELECT pgherd.want({number}, '{wanted}')")


def test_hash_shards_split_and_join(story: Story) -> None:
    async def job(world: World) -> None:
        await world.fill(10)
        shards = await world.shards("events")
        for shard in shards:
            await world.rows(
                shard.group,
                f"INSERT INTO shard_{shard.id}.events SELECT u, i FROM (SELECT md5(i::text)::uuid AS u, i FROM generate_series(1, 500) i) g"
                f" WHERE satisfies_hash_partition('global.events'::regclass, {shard.modulus}, {shard.remainder}, u)",
            )
        before = await world.sums("events")
        old = shards[2]
        m, r = old.modulus, old.remainder
        await world.ask(
            "split", [old.id], [{"modulus": 2 * m, "remainder": r}, {"modulus": 2 * m, "remainder": r + m}]
        )
        await world.walk()
        halves = [shard for shard in await world.shards("events") if shard.modulus == 2 * m]
        assert len(halves) == 2
        await world.ask("move", [halves[1].id], [{"group_id": other(halves[1].group)}])
        await world.walk()
        await world.ask("merge", [half.id for half in halves], [{"modulus": m, "remainder": r}])
        await world.walk()
        assert [row[2] for row in await world.workflows()] == ["done"] * 3, await world.workflows()
        assert await world.sums("events") == before
        await world.sound()

    story(job)


def test_an_undone_move_keeps_what_was_written_since(story: Story) -> None:
    async def job(world: World) -> None:
        shard = await world.fill()
        target = other(shard.group)
        number = await world.ask("move", [shard.id], [{"group_id": target}], keep_for_s=600)

        async def change_and_undo() -> None:
            await world.rows(
                target,
                f"UPDATE shard_{shard.id}.users SET n = 1000 WHERE id % 2 = 0; DELETE FROM shard_{shard.id}.pets WHERE id % 2 = 0",
            )
            await _want(world, number, "undo")

        await world.walking("state = 'kept'", number, change_and_undo)
        assert await world.state(number) == "undone", await world.workflows()
        assert await world.one(shard.group, "SELECT count(*) FROM here.users WHERE n = 1000") == "200"
        assert await world.one(target, "SELECT count(*) FROM here.users") == "0"
        await whole(world, shard.id, shard.group)
        await world.sound()

    story(job)


def test_pause_cancel_and_what_is_in_the_way(story: Story) -> None:
    async def job(world: World) -> None:
        shard = await world.fill()
        number = await world.ask("move", [shard.id], [{"group_id": other(shard.group)}])
        with pytest.raises(ServerError, match="under way"):
            await world.ask("move", [shard.id], [{"group_id": other(shard.group)}])
        await _want(world, number, "cancel")
        await world.walk()
        assert await world.state(number) == "cancelled"
        await world.sound()
        await world.do("CREATE TABLE bare (name text, id bigint) PARTITION BY RANGE (name, id)")
        number = await world.ask("move", [(await world.shards("bare"))[0].id], [{"group_id": 1}])
        await world.walk()
        assert await world.state(number) == "failed"
        assert "no primary key" in (
            await world.one(0, f"SELECT error FROM pgherd.workflows WHERE id = {number}") or ""
        )
        await world.sound()

    story(job)


def test_a_definition_in_the_middle_makes_the_copy_begin_anew(story: Story) -> None:
    async def job(world: World) -> None:
        shard = await world.fill()
        target = other(shard.group)
        number = await world.ask("move", [shard.id], [{"group_id": target}])
        once: list[str] = []

        async def point(name: str) -> None:
            if name == "index: done" and not once:
                once.append(name)
                await world.do("ALTER TABLE users ADD COLUMN more text DEFAULT 'more'")

        await world.walk(point)
        assert await world.state(number) == "done", await world.workflows()
        assert await world.one(target, "SELECT count(*) FROM here.users WHERE more = 'more'") == "400"
        await world.sound()

    story(job)


def test_large_transactions_truncation_and_exchanged_values_arrive(story: Story) -> None:
    async def job(world: World) -> None:
        shard = await world.fill()
        target = other(shard.group)
        number = await world.ask("move", [shard.id], [{"group_id": target}])
        name = f"shard_{shard.id}"

        async def point(step: str) -> None:
            if step == "copy: done":
                await world.rows(
                    shard.group,
                    f"BEGIN; INSERT INTO {name}.still SELECT 'k', i FROM generate_series(1, 25000) i; UPDATE {name}.still SET id = -id; COMMIT;"
                    f"TRUNCATE {name}.pets; INSERT INTO {name}.pets SELECT name, id, 9 FROM {name}.users WHERE id < 5;"
                    f"BEGIN; UPDATE {name}.users SET id = -1 WHERE id = 26; UPDATE {name}.users SET id = 26 WHERE id = 52; UPDATE {name}.users SET id = 52 WHERE id = -1; COMMIT;"
                    f"UPDATE {name}.users SET j = '{{}}' WHERE id % 10 = 0",
                )

        await world.walk(point)
        assert await world.state(number) == "done", await world.workflows()
        assert await world.one(target, f"SELECT count(*) || ' ' || max(id) FROM {name}.still") == "25000 -1"
        assert await world.one(target, f"SELECT count(*) FROM {name}.pets WHERE pet = 9") == "4"
        assert (
            await world.one(
                target, f"SELECT count(*) FROM {name}.users WHERE length(body) > 5000 AND j = '{{}}'"
            )
            == "40"
        )
        await world.sound()

    story(job)
