"""pgherd.node_state(): what a node says of itself, on a primary, on a real standby, and right after its promotion."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from catalog_world import run

from pgherd.catalog.model import Node
from pgherd.deploy.server import Server
from pgherd.testing.servers import Yard

STATE = "SELECT * FROM pgherd.node_state()"
NAMES = [
    "in_recovery",
    "timeline",
    "position",
    "lease_ms",
    "epoch",
    "paused_in_ms",
    "paused_for_ms",
    "streaming",
]


@dataclass(frozen=True, slots=True)
class Pair:
    """A group of a primary and a streaming standby, without Patroni. `node` is the primary's."""

    primary: Server
    standby: Server
    node: Node


@pytest.fixture(scope="module")
def pair(yard: Yard) -> Iterator[Pair]:
    primary = yard.server("state_primary")
    node = yard.groups(primary, 1)[0]
    standby = yard.standby(primary, "state_standby")
    yield Pair(primary, standby, node)
    standby.stop(immediate=True)
    primary.stop(immediate=True)


async def state(server: Server, node: Node, user: str = "postgres") -> dict[str, Any]:
    link = await asyncpg.connect(server.uri(node.database, user=user))
    try:
        row = await link.fetchrow(STATE)
        assert row is not None
        return dict(row)
    finally:
        await link.close()


async def do(server: Server, node: Node, sql: str) -> Any:
    link = await asyncpg.connect(server.uri(node.database))
    try:
        return await link.fetchval(sql)
    finally:
        await link.close()


async def until_replayed(pair: Pair) -> None:
    """Wait until the standby has reached the primary's position, as it stands when this is called."""
    wanted = (await state(pair.primary, pair.node))["position"]
    deadline = time.monotonic() + 20
    while (await state(pair.standby, pair.node))["position"] < wanted:
        assert time.monotonic() < deadline, "the standby does not reach what its idle primary says"


def test_primary_and_standby_answer(pair: Pair) -> None:
    async def job() -> None:
        primary = await state(pair.primary, pair.node)
        assert list(primary) == NAMES
        assert (primary["in_recovery"], primary["timeline"], primary["streaming"]) == (False, 1, False)
        assert (primary["lease_ms"], primary["paused_in_ms"], primary["paused_for_ms"]) == (None, None, None)
        await until_replayed(pair)
        standby = await state(pair.standby, pair.node)
        assert (standby["in_recovery"], standby["timeline"], standby["streaming"]) == (True, 1, True)
        assert standby["epoch"] == primary["epoch"] == 2

    run(job())


def test_a_role_without_rights_may_ask_and_reads_nothing_else(pair: Pair) -> None:
    async def job() -> None:
        await do(pair.primary, pair.node, "CREATE ROLE nobody LOGIN")
        await until_replayed(pair)
        for server in (pair.primary, pair.standby):
            assert list(await state(server, pair.node, user="nobody")) == NAMES
        link = await asyncpg.connect(pair.primary.uri(pair.node.database, user="nobody"))
        for text in ("SELECT pg_read_file('pgherd_lease', true)", "SELECT pgherd.announce_pause(1, 1)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await link.execute(text)
        await link.close()

    run(job())


@pytest.mark.parametrize("segment", [False, True])
def test_an_idle_primary_says_no_more_than_a_standby_can_replay(pair: Pair, segment: bool) -> None:
    """A record that ends with its page (or its segment): PostgreSQL's insert position lies behind the next page's header."""

    async def job() -> None:
        async def written() -> int:
            return await do(pair.primary, pair.node, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")

        async def emit(content_bytes: int) -> int:
            text = f"SELECT pg_logical_emit_message(false, 'x', repeat('y', {content_bytes}))"
            await do(pair.primary, pair.node, text)
            return await written()

        if segment:
            await emit(1)
            await do(pair.primary, pair.node, "SELECT pg_switch_wal()")
            assert await written() % (16 * 1024 * 1024) == 40
        else:
            for _ in range(50):  # other records may come between
                start = await written()
                end = await emit(1000)
                beside, room = end - start - 1000, 8192 - end % 8192
                if room > 1000 and await emit(room - beside) % 8192 == 24:
                    break
            assert await written() % 8192 == 24
        await until_replayed(pair)

    run(job())


@pytest.mark.parametrize(
    ("content", "least", "most"),
    [
        (None, None, None),
        (b"0", 0, 0),
        (b"12345", 0, 0),
        (b"%d", 9_000, 10_000),
        (b"%d\n", 9_000, 10_000),
        (b"99999999999999", 2147483647, 2147483647),
        (b"", 0, 0),
        (b"-5", 0, 0),
        (b"9" * 40, 0, 0),
        (b"root:x:0:0\n", 0, 0),
        (b"\x00\xff\xfe1", 0, 0),
        (b"1e9", 0, 0),
    ],
)
def test_the_lease(pair: Pair, content: bytes | None, least: int | None, most: int | None) -> None:
    async def job() -> None:
        path = pair.primary.data / "pgherd_lease"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content.replace(b"%d", str(int(time.time() * 1000) + 10_000).encode()))
            pair.primary.identity.own(path)
        found = (await state(pair.primary, pair.node))["lease_ms"]
        if found is None or found > 0:
            assert await do(pair.primary, pair.node, "SELECT one FROM pgherd.leading") == 1
        else:
            with pytest.raises(asyncpg.PostgresConnectionError, match="may not be its primary"):
                await do(pair.primary, pair.node, "SELECT one FROM pgherd.leading")
        path.unlink(missing_ok=True)
        assert found is None if least is None else least <= found <= (most or 0)

    run(job())


def test_a_lease_that_cannot_be_read_is_none(pair: Pair) -> None:
    path = pair.primary.data / "pgherd_lease"
    path.mkdir()
    try:
        assert run(state(pair.primary, pair.node))["lease_ms"] == 0
    finally:
        path.rmdir()


def test_a_pause_is_announced_and_taken_back(pair: Pair) -> None:
    async def job() -> None:
        number = await do(pair.primary, pair.node, "SELECT pgherd.announce_pause(5000, 60000)")
        found = await state(pair.primary, pair.node)
        assert 0 < found["paused_in_ms"] <= 5000
        assert found["paused_for_ms"] == 60000
        await do(pair.primary, pair.node, f"SELECT pgherd.take_back_pause({number})")
        assert (await state(pair.primary, pair.node))["paused_in_ms"] is None
        await do(pair.primary, pair.node, "SELECT pgherd.announce_pause(0, 60000)")
        found = await state(pair.primary, pair.node)
        assert found["paused_in_ms"] == 0
        assert 0 < found["paused_for_ms"] < 60000
        await do(
            pair.primary,
            pair.node,
            "UPDATE pgherd.pauses SET starts_at = '2020-01-01', ends_at = '2020-01-02'",
        )
        assert (await state(pair.primary, pair.node))["paused_for_ms"] is None

    run(job())


def test_a_promoted_standby_tells_its_new_timeline_at_once_and_no_old_pause(pair: Pair) -> None:
    async def job() -> None:
        await do(pair.primary, pair.node, "SELECT pgherd.announce_pause(0, 600000)")
        await until_replayed(pair)
        watcher = await asyncpg.connect(pair.standby.uri(pair.node.database))
        before = dict(await watcher.fetchrow(STATE) or {})
        assert (before["in_recovery"], before["timeline"], before["paused_in_ms"]) == (True, 1, 0)
        pair.primary.stop(immediate=True)
        await watcher.execute("SELECT pg_promote(false)")
        answers = [before]
        deadline = time.monotonic() + 30
        while answers[-1]["in_recovery"]:
            assert time.monotonic() < deadline
            answers.append(dict(await watcher.fetchrow(STATE) or {}))
        after = answers[-1]
        assert (after["timeline"], after["paused_in_ms"], after["streaming"]) == (2, None, False)
        # pg_control knows the new timeline a moment before recovery is over; never the other way round
        assert [answer["timeline"] for answer in answers] == sorted(answer["timeline"] for answer in answers)
        assert [a["position"] for a in answers] == sorted(a["position"] for a in answers)
        await watcher.close()

    run(job())


def test_it_is_cheap(server: Server, yard: Yard) -> None:
    """Well below a tenth of a millisecond on an idle machine; the bound here only catches a much dearer one."""

    node = yard.groups(server, 1)[0]

    async def job() -> None:
        text = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT pgherd.node_state() FROM generate_series(1, 1000)"
        link = await asyncpg.connect(server.uri(node.database))
        best = min([json.loads(await link.fetchval(text))[0]["Execution Time"] for _ in range(5)])
        await link.close()
        print(f"node_state: {best:.1f} µs")
        assert best < 500

    run(job())
