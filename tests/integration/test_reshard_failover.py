"""Shards move between replicated groups whose primaries die, or hand over, in the middle of it: all rows are there once, nothing is left behind."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from pgherd.backend.connection import Credentials, ServerLink
from pgherd.catalog.model import GroupId, Node
from pgherd.cli import app
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.switchover import switchover
from pgherd.errors import PgherdError
from pgherd.reshard import doctor
from pgherd.reshard.engine import Engine
from pgherd.reshard.places import Places
from pgherd.testing import nodes
from pgherd.testing.nodes import NodeFaults

pytestmark = pytest.mark.timeout(180)
NAME = "mover of a test"
GROUP = 1  # whose primary goes away; group 0 is the other side of each move
UNSURE = ("08007", "40001")  # what a client may be told of a statement that a crash met
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def herd(replicated_cluster: LocalCluster) -> LocalCluster:
    return replicated_cluster


@pytest.fixture(scope="module")
def dsn(herd: LocalCluster) -> Iterator[str]:
    nodes.wait_healthy(herd)
    uri = herd.dsn(herd.up())
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("CREATE TABLE lasting (id bigint PRIMARY KEY, v text) PARTITION BY RANGE (id)")
        db.execute("INSERT INTO lasting SELECT -n, repeat('x', 100) FROM generate_series(1, 500) n")
    yield uri
    herd.gateway.stop()
    nodes.wait_healthy(herd)


@dataclass(slots=True)
class Writer:
    """Inserts one row after the other through the gateway. `unsure`: those whose answer was lost."""

    dsn: str
    acknowledged: set[int] = field(default_factory=set[int])
    unsure: set[int] = field(default_factory=set[int])
    wrong: list[str] = field(default_factory=list[str])
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as db:
            while not self.stop.is_set():
                number = next(_NUMBERS)
                try:
                    db.execute("INSERT INTO lasting VALUES (%s, 'y')", (number,))
                    self.acknowledged.add(number)
                except psycopg.Error as error:
                    self.unsure.add(number)
                    if error.sqlstate not in UNSURE:
                        self.wrong.append(f"{error.sqlstate}: {error}")
                time.sleep(0.01)


@contextmanager
def writing(dsn: str) -> Generator[Writer]:
    """A writer all the while; at the end each acknowledged row is there, and nothing else but the unsure ones."""
    with psycopg.connect(dsn, autocommit=True) as db:
        before = {row[0] for row in db.execute("SELECT id FROM lasting").fetchall()}
    writer = Writer(dsn)
    thread = threading.Thread(target=writer.run, daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop.set()
        thread.join(40)
    assert not thread.is_alive(), "the writer hangs"
    with psycopg.connect(dsn, autocommit=True) as db:
        rows = [row[0] for row in db.execute("SELECT id FROM lasting").fetchall()]
    have = set(rows)
    assert len(rows) == len(have)
    assert before | writer.acknowledged <= have <= before | writer.acknowledged | writer.unsure
    assert writer.acknowledged
    assert writer.wrong == []


def shards(dsn: str) -> list[tuple[int, int]]:
    """The table's shards in order, each with its group."""
    with psycopg.connect(dsn, autocommit=True) as db:
        return db.execute(
            "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t ON t.keyspace = s.keyspace WHERE t.name = 'lasting'"
            " ORDER BY s.range_start NULLS FIRST"
        ).fetchall()


def shard(dsn: str) -> tuple[int, int]:
    """The table's only shard, and its group."""
    (found,) = shards(dsn)
    return found


def brought(dsn: str, group: int) -> int:
    """The shard, moved to a group at once if it is elsewhere."""
    number, now = shard(dsn)
    if now != group:
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(f"CALL pgherd.move({number}, {group}, offline => true)")  # type: ignore[arg-type]
    return number


_HOLDER = f"""
SELECT a.application_name, CASE WHEN a.application_name <> '{NAME}' THEN a.pid END FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = {0x7069_0001} AND l.granted
"""


class Named(Places):
    """Connections by whose name the lock's holder is known."""

    async def open(self, group: GroupId, *, replication: bool = False) -> ServerLink:
        link = await super().open(group, replication=replication)
        try:
            await link.do(f"SET application_name = '{NAME}'")
        except BaseException:
            link.close()
            raise
        return link


class Mover:
    """Carries workflows out in this process. `acts`: what is called once, when a workflow comes to a place; each after the one before."""

    def __init__(self, herd: LocalCluster, *acts: tuple[str, Callable[[], Any]]) -> None:
        found = [node for node in herd.all_nodes(herd.existing()) if node.group == 0]
        self.places = Named(found, Credentials(user="postgres", password=herd.password()))
        self.acts = list(acts)

    @property
    def came(self) -> bool:
        """Whether the workflow came to all places."""
        return not self.acts

    async def point(self, name: str) -> None:
        if self.acts and name == self.acts[0][0]:
            _, act = self.acts.pop(0)
            result = act()
            if result is not None:
                await result

    async def want(self, what: str) -> None:
        """Say what shall become of the latest workflow."""
        await self.places.ask(
            GroupId(0), f"SELECT pgherd.want(max(id), '{what}') FROM pgherd.workflows WHERE state = 'kept'"
        )

    async def run(self) -> None:
        while True:
            try:
                await Engine(self.places, point=self.point).run()
            except (PgherdError, OSError):
                await asyncio.sleep(0.2)

    async def moved(self, dsn: str, number: int, target: int, keep: str = "0s") -> dict[str, Any]:
        """A move's row, when it is over."""
        return await self.carried(dsn, f"pgherd.move({number}, {target}, keep_for => '{keep}'")

    async def carried(self, dsn: str, call: str) -> dict[str, Any]:
        """The row of the workflow that `call` (without its end) asks for, when it is over."""
        await self.places.refresh()
        running = asyncio.create_task(self.run())
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db:
            try:
                await self._has_lock()
                text = f"CALL {call}, offline => false, wait => false, max_pause => '2 s')"
                await db.execute(text)  # type: ignore[arg-type]
                async with asyncio.timeout(75):
                    return await self._ended()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                self.places.close()

    async def _has_lock(self) -> None:
        """The gateway's own process of workflows, if it runs still, has to wait behind us."""
        async with asyncio.timeout(20):
            while (found := await self.places.ask(GroupId(0), _HOLDER)) != [(NAME, None)]:
                if found and found[0][0] != NAME:
                    await self.places.ask(GroupId(0), f"SELECT pg_terminate_backend({found[0][1]})")
                await asyncio.sleep(0.05)

    async def _ended(self) -> dict[str, Any]:
        while True:
            try:
                rows = await self.places.ask(
                    GroupId(0), "SELECT id, state, error FROM pgherd.workflows ORDER BY id DESC LIMIT 1"
                )
            except PgherdError:
                rows = []
            if rows and rows[0][1] not in ("waiting", "running", "paused", "kept"):
                return dict(zip(("id", "state", "error"), rows[0], strict=True))
            await asyncio.sleep(0.1)


def sound(herd: LocalCluster) -> None:
    """Nothing is left behind on primaries and standbys, when those that were away have been swept; the doctor finds nothing."""
    nodes.wait_healthy(herd)
    with psycopg.connect(herd.dsn(herd.existing()), autocommit=True) as db:
        left = lambda: db.execute("SELECT id FROM pgherd.workflows WHERE memory ? 'strays'").fetchall()  # noqa: E731
        nodes.wait_for(lambda: not left(), 60, "slots on nodes that were away dropped")

    async def look() -> list[doctor.Finding]:
        places = Mover(herd).places
        try:
            await places.refresh()
            return await doctor.examine(places, places.groups, every=places)
        finally:
            places.close()

    assert asyncio.run(look()) == []


@pytest.mark.parametrize(
    ("side", "at"),
    [
        ("source", "copy: table copied"),
        ("source", "catch_up: done"),
        ("source", "cutover: locked"),
        ("target", "copy: table copied"),
        ("target", "cutover: locked"),
    ],
)
def test_a_primary_dies_in_the_middle(herd: LocalCluster, dsn: str, side: str, at: str) -> None:
    nodes.wait_healthy(herd)
    source, target = (GROUP, 0) if side == "source" else (0, GROUP)
    number = brought(dsn, source)
    victim = NodeFaults(herd, nodes.primary(herd, GROUP))
    with writing(dsn):
        mover = Mover(herd, (at, lambda: victim.kill("postgres")))
        ended = asyncio.run(mover.moved(dsn, number, target))
    assert mover.came
    assert ended["state"] == "done", ended
    assert shard(dsn)[1] == target
    sound(herd)


@pytest.mark.parametrize("at", ["copy: table copied", "cutover: locked"])
def test_a_primary_that_answers_nothing_is_not_waited_for(herd: LocalCluster, dsn: str, at: str) -> None:
    """Its host hangs: no connection ends, no packet comes. The workflow goes on with its successor, before it wakes up."""
    nodes.wait_healthy(herd)
    number = brought(dsn, GROUP)
    victim = NodeFaults(herd, nodes.primary(herd, GROUP))
    with writing(dsn):
        mover = Mover(herd, (at, victim.freeze))
        ended = asyncio.run(mover.moved(dsn, number, 0))
        assert nodes.primary(herd, GROUP) != victim.name
    assert mover.came
    assert ended["state"] == "done", ended
    assert shard(dsn)[1] == 0
    sound(herd)


@pytest.mark.parametrize(
    ("at_first", "at_last"),
    [("copy: table copied", "cutover: locked"), ("cutover: locked", "copy: table copied")],
)
def test_a_split_and_a_merge_of_two_groups_survive_a_failover(
    herd: LocalCluster, dsn: str, at_first: str, at_last: str
) -> None:
    nodes.wait_healthy(herd)
    brought(dsn, GROUP)
    with writing(dsn):
        victim = NodeFaults(herd, nodes.primary(herd, GROUP))
        mover = Mover(herd, (at_first, lambda: victim.kill("postgres")))
        ended = asyncio.run(mover.carried(dsn, "pgherd.split('lasting', '0', keep_for => '0s'"))
        assert (mover.came, ended["state"]) == (True, "done"), ended
        (low, _), (high, _) = shards(dsn)
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(f"CALL pgherd.move({high}, 0, offline => true)")  # type: ignore[arg-type]
        nodes.wait_healthy(herd)
        victim = NodeFaults(herd, nodes.primary(herd, GROUP))
        mover = Mover(herd, (at_last, lambda: victim.kill("postgres")))
        ended = asyncio.run(mover.carried(dsn, f"pgherd.merge({low}, {high}, keep_for => '0s'"))
        assert (mover.came, ended["state"]) == (True, "done"), ended
    assert shard(dsn)[1] == GROUP
    sound(herd)


@pytest.mark.parametrize(
    ("back_to", "at", "end"),
    [
        (GROUP, "cutover: locked", "undone"),  # the shard comes back to the group that fails over
        (0, "commit: after deciding", "undone"),  # it leaves it, and that is decided
        (0, "cutover: locked", "done"),  # it would leave it: what the old copy lacks may be lost, so it stays
    ],
)
def test_a_failover_while_a_move_is_undone(
    herd: LocalCluster, dsn: str, back_to: int, at: str, end: str
) -> None:
    nodes.wait_healthy(herd)
    number = brought(dsn, back_to)
    target = GROUP if back_to == 0 else 0
    victim = NodeFaults(herd, nodes.primary(herd, GROUP))
    with writing(dsn):
        mover = Mover(
            herd, ("keep: adopted", lambda: mover.want("undo")), (at, lambda: victim.kill("postgres"))
        )
        ended = asyncio.run(mover.moved(dsn, number, target, "1 hour"))
    assert (mover.came, ended["state"]) == (True, end), ended
    assert shard(dsn)[1] == (back_to if end == "undone" else target)
    assert ("new primary" in (ended["error"] or "")) == (end == "done")
    sound(herd)


def test_the_way_back_ends_with_a_failover_and_says_so(herd: LocalCluster, dsn: str) -> None:
    nodes.wait_healthy(herd)
    number = brought(dsn, 0)
    victim = NodeFaults(herd, nodes.primary(herd, GROUP))
    with writing(dsn):
        mover = Mover(herd, ("keep: adopted", lambda: victim.kill("postgres")))
        ended = asyncio.run(mover.moved(dsn, number, GROUP, "1 hour"))
    assert mover.came
    assert ended["state"] == "done", ended
    assert "new primary" in ended["error"]
    assert shard(dsn)[1] == GROUP
    sound(herd)


def test_a_switchover_in_the_middle_is_no_error_to_anybody(herd: LocalCluster, dsn: str) -> None:
    nodes.wait_healthy(herd)
    number = brought(dsn, GROUP)
    config = NodeFaults(herd, nodes.primary(herd, GROUP)).process.config
    with writing(dsn) as writer:
        mover = Mover(herd, ("index: done", lambda: switchover(config, GROUP, None, lambda _: None)))
        ended = asyncio.run(mover.moved(dsn, number, 0))
    assert mover.came
    assert ended["state"] == "done", ended
    assert writer.unsure == set()
    sound(herd)


def test_the_group_that_records_workflows_fails_over(herd: LocalCluster, dsn: str) -> None:
    nodes.wait_healthy(herd)
    number = brought(dsn, 0)
    victim = NodeFaults(herd, nodes.primary(herd, 0))
    with writing(dsn):
        mover = Mover(herd, ("copy: table copied", lambda: victim.kill("postgres")))
        ended = asyncio.run(mover.moved(dsn, number, GROUP))
    assert mover.came
    assert ended["state"] == "done", ended
    assert shard(dsn)[1] == GROUP
    sound(herd)


def test_the_doctor_drops_slots_of_standbys(herd: LocalCluster, dsn: str) -> None:
    nodes.wait_healthy(herd)
    current = herd.existing()
    name = nodes.standby(herd, GROUP)
    (standby,) = (node for node in herd.all_nodes(current) if node.id == current.node(name).id)
    with psycopg.connect(dsn, autocommit=True) as db:
        row = db.execute("SELECT id FROM pgherd.cluster").fetchone()
    assert row is not None
    slot = f"pgherd_{str(row[0]).replace('-', '')[:10]}_w999999_1_0"
    planting = threading.Thread(target=_make_slot, args=(standby, slot))
    planting.start()
    leader = next(node for node in herd.nodes(current) if node.group == GROUP)
    while planting.is_alive():  # a standby's slot begins where the primary says which transactions run
        with _on(leader) as db:
            db.execute("SELECT pg_log_standby_snapshot()")
        planting.join(0.1)
    code, said = _doctor(herd)
    assert (code, slot in said, str(standby.port) in said) == (1, True, True), said
    assert _doctor(herd, "--repair")[0] == 0
    assert _doctor(herd)[0] == 0


def _on(node: Node) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=node.host, port=node.port, dbname=node.database, user="postgres", autocommit=True
    )


def _make_slot(node: Node, slot: str) -> None:
    with _on(node) as db:
        db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


def _doctor(herd: LocalCluster, *words: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = app.run(["doctor", *words, "--json", "--state", str(herd.directory)])
    return code, out.getvalue() + err.getvalue()
