"""Transactions over groups, on real servers: commit, isolation, outcome, recovery, deadlocks. No gateway, no client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pgherd.catalog.model import GroupId
from pgherd.errors import BadSetting, GroupDown, Refused, ServerError, SnapshotBusy
from pgherd.testing.bank import NoParams
from pgherd.testing.coverage import covered
from pgherd.testing.lender import PlainLender
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard
from pgherd.transaction import deadlock, recovery, two_phase
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.snapshot import Gates, GateSettings

A, B, C = GroupId(0), GroupId(1), GroupId(2)
GROUPS = (A, B, C)


@dataclass
class Here:
    """Three groups with one table `t` (id, v) each, ten rows of 100; what runs in one event loop."""

    lender: PlainLender
    gates: Gates

    def begin(self, isolation: str = "read committed", **more: Any) -> Transaction:
        return Transaction(self.lender, GROUPS, gates=self.gates, isolation=isolation, **more)

    async def ask(self, group: GroupId, sql: str) -> list[tuple[str | None, ...]]:
        return await recovery.ask(self.lender, group, sql)

    async def until(self, group: GroupId, sql: str) -> None:
        """Wait until the query has a row."""
        async with asyncio.timeout(5):
            while not await self.ask(group, sql):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def value(self, group: GroupId, row: int = 1) -> int:
        return int((await self.ask(group, f"SELECT v FROM public.t WHERE id = {row}"))[0][0] or 0)


async def add(tx: Transaction, group: GroupId, amount: int, row: int = 1) -> None:
    link = await tx.branch(group)
    await link.run(f"UPDATE public.t SET v = v + ({amount}) WHERE id = {row}")


async def get(tx: Transaction, group: GroupId, row: int = 1) -> int:
    link = await tx.branch(group, write=False)
    return int((await link.run(f"SELECT v FROM public.t WHERE id = {row}"))[0][0] or 0)


Run = Callable[[Callable[[Here], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def servers(yard: Yard) -> Iterator[list[str]]:
    cluster = yard.cluster("transactions", embedded=True, groups=3, gateway=False)
    yield uris(cluster)
    cluster.kill()


@pytest.fixture
def run(servers: list[str]) -> Run:
    def runner(story: Callable[[Here], Awaitable[None]]) -> None:
        async def told() -> None:
            lender = PlainLender(dict(zip(GROUPS, servers, strict=True)))
            here = Here(lender, Gates(lender, GateSettings(wait_s=1.5)))
            for group in GROUPS:
                await here.ask(
                    group,
                    "DROP TABLE IF EXISTS public.t CASCADE; CREATE TABLE public.t (id int PRIMARY KEY, v int NOT NULL); "
                    "INSERT INTO public.t SELECT i, 100 FROM generate_series(1, 10) i",
                )
            try:
                await story(here)
            finally:
                await here.gates.close()
                await lender.close()
            left = await recovery.in_doubt(lender, GROUPS)
            await lender.close()
            assert left == []

        asyncio.run(told())

    return runner


# ---- commit and rollback ----------------------------------------------------------------------------------


def test_several_groups_commit_together(run: Run) -> None:
    async def story(here: Here) -> None:
        tx = here.begin()
        await add(tx, B, -5)
        await add(tx, C, +5)
        assert await get(tx, A) == 100
        assert await tx.commit() == "COMMIT"
        assert [await here.value(group) for group in GROUPS] == [100, 95, 105]
        rows = await here.ask(
            B, f"SELECT outcome, array_to_string(groups, ',') FROM pgherd.decisions WHERE id = '{tx.id}'"
        )
        assert rows == [
            ("committed", "2")
        ]  # home is the first that wrote; the group that was only read takes no part
        assert await recovery.status(here.lender, GROUPS, tx.id) == "committed"
        covered("transactions that spanned groups", {"committed": 1})

    run(story)


def test_one_group_commits_plainly(run: Run) -> None:
    async def story(here: Here) -> None:
        before = await here.ask(B, "SELECT count(*) FROM pgherd.decisions")
        tx = here.begin()
        await get(tx, A)
        await add(tx, B, 1)
        await tx.commit()
        assert await here.ask(B, "SELECT count(*) FROM pgherd.decisions") == before
        assert await here.value(B) == 101

    run(story)


def test_rollback_and_failed_transactions(run: Run) -> None:
    async def story(here: Here) -> None:
        tx = here.begin()
        await add(tx, A, 1)
        await add(tx, B, 1)
        await tx.rollback()
        tx = here.begin()
        await add(tx, A, 1)
        with pytest.raises(ServerError):
            await (await tx.branch(B)).run("SELECT 1/0")
        tx.failed = True
        assert await tx.commit() == "ROLLBACK"
        assert [await here.value(A), await here.value(B)] == [100, 100]

    run(story)


def test_a_branch_that_failed_unnoticed_cannot_commit(run: Run) -> None:
    async def story(here: Here) -> None:
        for first, second in ((A, B), (B, A)):  # once home, once a participant
            tx = here.begin()
            await add(tx, first, 1)
            await add(tx, second, 1)
            with pytest.raises(ServerError):
                await (await tx.branch(A)).run("SELECT 1/0")
            with pytest.raises(ServerError) as refused:
                await tx.commit()
            assert refused.value.code == "25P02"
        assert [await here.value(A), await here.value(B)] == [100, 100]

    run(story)


def test_a_deferred_constraint_aborts_everywhere(run: Run) -> None:
    async def story(here: Here) -> None:
        for group in (A, B):
            await here.ask(
                group, "ALTER TABLE public.t ADD CONSTRAINT once UNIQUE (v, id) DEFERRABLE INITIALLY DEFERRED"
            )
            await here.ask(
                group,
                "ALTER TABLE public.t ADD other int, ADD CONSTRAINT two UNIQUE (other) DEFERRABLE INITIALLY DEFERRED",
            )
        for bad in (A, B):
            tx = here.begin()
            await add(tx, A, 1)
            await add(tx, B, 1)
            await (await tx.branch(bad)).run("UPDATE public.t SET other = 1 WHERE id IN (3, 4)")
            with pytest.raises(ServerError) as refused:
                await tx.commit()
            assert refused.value.code == "23505"
        assert [await here.value(A), await here.value(B)] == [100, 100]

    run(story)


def test_savepoints_reach_branches_that_open_later(run: Run) -> None:
    async def story(here: Here) -> None:
        tx = here.begin()
        await add(tx, A, 1)
        await tx.savepoint('odd "name"')
        await add(tx, A, 10)
        await add(tx, B, 10)
        await tx.savepoint("inner")
        await add(tx, C, 10)
        with pytest.raises(ServerError):
            await (await tx.branch(B)).run("SELECT 1/0")
        tx.failed = True
        await tx.rollback_to('odd "name"')
        with pytest.raises(ServerError) as unknown:
            await tx.release("inner")
        assert unknown.value.code == "3B001"
        await add(tx, C, 1)
        await tx.release('odd "name"')
        assert await tx.commit() == "COMMIT"
        assert [await here.value(group) for group in GROUPS] == [101, 100, 101]

    run(story)


def test_temporary_tables_stay_home_or_are_refused(run: Run) -> None:
    async def story(here: Here) -> None:
        tx = here.begin()
        await add(tx, A, 1)
        await add(tx, B, 1)
        await (await tx.branch(B)).run("CREATE TEMPORARY TABLE mine (x int) ON COMMIT DROP")
        tx.branches[B].pinned = True  # the gateway says so when it pins a connection
        await tx.commit()
        assert two_phase.home_of(tx.id) == B
        tx = here.begin()
        for group in (A, B):
            await add(tx, group, 1)
            await (await tx.branch(group)).run("CREATE TEMPORARY TABLE mine (x int) ON COMMIT DROP")
            tx.branches[group].pinned = True
        with pytest.raises(Refused):
            await tx.commit()
        tx = here.begin()
        await add(tx, A, 1)
        await (await tx.branch(B)).run("CREATE TEMPORARY TABLE mine (x int) ON COMMIT DROP")
        with pytest.raises(ServerError) as refused:  # nobody said so: PostgreSQL refuses the PREPARE
            await tx.commit()
        assert refused.value.code == "0A000"
        assert [await here.value(A), await here.value(B)] == [101, 101]

    run(story)


def test_cancelling_the_task_does_not_interrupt_a_commit(run: Run) -> None:
    async def story(here: Here) -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def stop(when: str, protocol: two_phase.Protocol) -> None:
            if (when, protocol.phase) == ("after", two_phase.Phase.DECIDING):
                reached.set()
                await go_on.wait()

        tx = here.begin(on_step=stop)
        await add(tx, A, 1)
        await add(tx, B, 1)
        task = asyncio.create_task(tx.commit())
        await reached.wait()
        assert tx.committing
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [await here.value(A), await here.value(B)] == [101, 101]

    run(story)


# ---- isolation --------------------------------------------------------------------------------------------


def test_repeatable_read_is_one_snapshot_over_all_groups(run: Run) -> None:
    async def story(here: Here) -> None:
        reader = here.begin("repeatable read")
        assert await get(reader, A) == 100
        writer = here.begin()
        await add(writer, A, -10)
        await add(writer, B, +10)
        await writer.commit()
        alone = here.begin()
        await add(alone, C, 1)
        await alone.commit()
        assert [await get(reader, group) for group in GROUPS] == [100, 100, 100]
        await reader.commit()

    run(story)


def test_lost_updates_are_excluded_and_write_skew_is_not(run: Run) -> None:
    async def story(here: Here) -> None:
        one, two = here.begin("repeatable read"), here.begin("repeatable read")
        for tx in (one, two):
            assert [await get(tx, A), await get(tx, B)] == [100, 100]
        await add(one, A, 1)
        await add(one, B, 1)
        await one.commit()
        with pytest.raises(ServerError) as refused:
            await add(two, B, 1)
        assert refused.value.code == "40001"
        await two.rollback()
        one, two = here.begin("repeatable read"), here.begin("repeatable read")
        for tx in (one, two):
            assert [await get(tx, A, 2), await get(tx, B, 2)] == [100, 100]
        await add(one, A, -150, 2)
        await add(two, B, -150, 2)
        assert [await one.commit(), await two.commit()] == ["COMMIT", "COMMIT"]

    run(story)


def test_serializable_stays_in_one_group(run: Run) -> None:
    async def story(here: Here) -> None:
        tx = here.begin("serializable")
        await add(tx, A, 1)
        with pytest.raises(Refused) as refused:
            await tx.branch(B)
        assert refused.value.sqlstate == "0A000" and refused.value.hint
        with pytest.raises(Refused):
            async with tx.federated(A, GROUPS):
                pass
        assert await tx.commit() == "COMMIT"

    run(story)


def test_a_window_waits_for_the_second_phase_and_sees_all_of_it(run: Run) -> None:
    async def story(here: Here) -> None:
        seen: list[list[int]] = []

        async def look() -> None:
            async with here.begin(explicit=False).reading(GROUPS) as links:
                parts = await asyncio.gather(
                    *(link.run("SELECT v FROM public.t WHERE id = 1") for link in links.values())
                )
            seen.append([int(rows[0][0] or 0) for rows in parts])

        async def pause(when: str, protocol: two_phase.Protocol) -> None:
            if (when, protocol.phase) == ("after", two_phase.Phase.DECIDING):
                looks.append(asyncio.create_task(look()))
                await here.until(
                    A,
                    "SELECT 1 FROM pg_locks WHERE relation = 'pgherd.gate'::regclass AND mode = 'ShareRowExclusiveLock'",
                )

        looks: list[asyncio.Task[None]] = []
        writer = here.begin(on_step=pause)
        await add(writer, A, -10)
        await add(writer, B, +10)
        await writer.commit()
        await asyncio.gather(*looks)
        assert seen == [[90, 110, 100]]

    run(story)


def test_readers_that_wait_share_a_window(run: Run) -> None:
    async def story(here: Here) -> None:
        async def look() -> None:
            async with here.begin(explicit=False).reading(GROUPS) as links:
                await asyncio.gather(*(link.run("SELECT 1") for link in links.values()))

        await look()
        before = here.gates.windows
        await asyncio.gather(*(look() for _ in range(8)))
        assert here.gates.windows - before < 8
        assert here.gates.shared > 0

    run(story)


def test_a_gate_that_stays_shut_is_an_error_within_the_bound(run: Run) -> None:
    async def story(here: Here) -> None:
        link = await here.lender.lend(B)
        await link.run("BEGIN; LOCK TABLE pgherd.gate IN ROW EXCLUSIVE MODE")
        clock = asyncio.get_running_loop()
        start = clock.time()
        with pytest.raises(SnapshotBusy):
            async with here.begin(explicit=False).reading(GROUPS):
                pass
        assert clock.time() - start < 4
        await link.run("ROLLBACK")
        here.lender.give_back(link, reusable=True)
        async with here.begin(explicit=False, snapshot=False).reading(GROUPS) as links:
            assert len(links) == 3

    run(story)


# ---- own writes -------------------------------------------------------------------------------------------


def test_reads_see_the_transactions_own_writes_in_every_group(run: Run) -> None:
    async def story(here: Here) -> None:
        for isolation in ("read committed", "repeatable read"):
            tx = here.begin(isolation)
            await add(tx, A, 5)
            await add(tx, B, 7)
            async with tx.reading(GROUPS) as links:
                parts = await asyncio.gather(
                    *(link.part("SELECT v FROM public.t WHERE id = 1", NoParams()) for link in links.values())
                )
            assert [part.rows[0][0] for part in parts] == ["105", "107", "100"]
            assert {part.tag for part in parts} == {"SELECT 1"}
            await tx.rollback()

    run(story)


FEDERATED = (
    "SELECT sum(v) FROM (SELECT v FROM public.t UNION ALL SELECT 0 * one FROM pgherd.probe_1) AS both_groups"
)


def test_federated_reads_see_own_writes_or_are_refused(run: Run) -> None:
    async def story(here: Here) -> None:
        tx = here.begin()
        async with tx.federated(A, (A, B)) as link:
            assert (await link.run(FEDERATED))[0][0] == "1000"
        await add(tx, A, 5)
        async with tx.federated(B, (A, B)) as link:  # asked for B, runs in A: what it wrote lies there
            assert link.group == A
            assert (await link.run(FEDERATED))[0][0] == "1005"
        with pytest.raises(Refused, match="second federated read"):
            async with tx.federated(A, (A, B)):
                pass
        await add(tx, B, 5)
        with pytest.raises(Refused, match="would not see"):
            async with tx.federated(A, (A, B)):
                pass
        async with tx.federated(C, (C,)) as link:  # does not read what was written
            assert link.group == C
        await tx.rollback()
        tx = here.begin("repeatable read")
        await add(tx, B, 5)
        with pytest.raises(Refused, match="would not see"):
            async with tx.federated(B, (A, B)):
                pass
        await tx.rollback()

    run(story)


# ---- outcome and recovery ---------------------------------------------------------------------------------


def test_an_announced_transaction_can_always_be_asked_about(run: Run) -> None:
    async def story(here: Here) -> None:
        lender = here.lender
        tx = here.begin()
        await add(tx, B, 1)
        id_ = await tx.announce()
        assert await recovery.status(lender, GROUPS, id_) == "in progress"
        await tx.commit()
        assert await recovery.status(lender, GROUPS, id_) == "committed"
        tx = here.begin()
        id_ = await tx.announce()
        await tx.rollback()
        assert await recovery.status(lender, GROUPS, id_) == "aborted"
        assert await recovery.status(lender, GROUPS, id_) == "aborted"
        old = two_phase.make_id(A, 1_000_000_000, 1)
        assert await recovery.status(lender, GROUPS, old) is None
        with pytest.raises(BadSetting):
            await recovery.status(lender, GROUPS, "x' OR true --")

    run(story)


def test_recovery_leaves_the_living_and_the_foreign_alone(run: Run) -> None:
    async def story(here: Here) -> None:
        async def meddle(when: str, protocol: two_phase.Protocol) -> None:
            if when == "after" and protocol.phase in (two_phase.Phase.PREPARING, two_phase.Phase.DECIDING):
                rounds.append(await recovery.recover(here.lender, GROUPS))

        rounds: list[recovery.Recovered] = []
        link = await here.lender.lend(A)
        await link.run("BEGIN; CREATE TABLE public.foreign_thing (x int)")
        await link.run("PREPARE TRANSACTION 'somebody:else'")
        tx = here.begin(on_step=meddle)
        await add(tx, A, 1)
        await add(tx, B, 1)
        await tx.commit()
        assert rounds[0].waiting == (tx.id,)  # prepared, undecided, but home's branch lives
        assert rounds[1].committed == (
            tx.id,
        )  # decided: finishing it under the coordinator's hands does no harm
        assert await here.ask(A, "SELECT gid FROM pg_prepared_xacts") == [("somebody:else",)]
        await link.run("ROLLBACK PREPARED 'somebody:else'")
        here.lender.give_back(link, reusable=True)
        assert [await here.value(A), await here.value(B)] == [101, 101]

    run(story)


def test_a_coordinator_that_recovery_overtook_cannot_commit(run: Run) -> None:
    async def story(here: Here) -> None:
        async def overtake(when: str, protocol: two_phase.Protocol) -> None:
            if (when, protocol.phase) == ("after", two_phase.Phase.PREPARING):
                await recovery.recover(here.lender, GROUPS, patience_s=0)

        tx = here.begin(on_step=overtake)
        await add(tx, A, 1)
        await add(tx, B, 1)
        with pytest.raises(Exception, match="rolled back by recovery"):
            await tx.commit()
        assert await recovery.status(here.lender, GROUPS, tx.id) == "aborted"
        assert [await here.value(A), await here.value(B)] == [100, 100]

    run(story)


def test_a_session_that_waits_for_an_orphan_settles_it(run: Run) -> None:
    async def story(here: Here) -> None:
        gid = two_phase.Gid(
            two_phase.make_id(A, 1_700_000_000, 5), B, 999_999
        )  # its coordinator is long gone
        link = await here.lender.lend(B)
        await link.run(
            "BEGIN; UPDATE public.t SET v = 0 WHERE id = 1; LOCK TABLE pgherd.gate IN ROW EXCLUSIVE MODE"
        )
        await link.run(f"PREPARE TRANSACTION '{gid}'")
        waiter = asyncio.create_task(link.run("UPDATE public.t SET v = v + 1 WHERE id = 1"))
        await here.until(
            B, f"SELECT 1 FROM pg_stat_activity WHERE pid = {link.pid} AND wait_event_type = 'Lock'"
        )
        done = await recovery.settle_blockers(here.lender, B, link.pid)
        assert done.aborted == (gid.id,)
        await asyncio.wait_for(waiter, 2)
        assert await here.value(B) == 101
        here.lender.give_back(link, reusable=True)

    run(story)


def test_decisions_are_cleaned_when_settled_everywhere(run: Run) -> None:
    async def story(here: Here) -> None:
        lender = here.lender
        tx = here.begin()
        await add(tx, A, 1)
        await add(tx, B, 1)
        await tx.commit()
        held = two_phase.Gid(two_phase.make_id(A, 1_700_000_000, 6), B, 0)
        await here.ask(A, two_phase.insert_decision(held.id, "committed", (B,)))
        link = await lender.lend(B)
        await link.run("BEGIN; UPDATE public.t SET v = v + 1 WHERE id = 2")
        await link.run(f"PREPARE TRANSACTION '{held}'")
        bystander = await lender.lend(A)
        await here.ask(A, "UPDATE pgherd.decisions SET decided_at = decided_at - interval '2 hours'")
        await bystander.run("BEGIN; SELECT 1")
        assert await recovery.clean(lender, GROUPS) >= 1
        assert await here.ask(A, f"SELECT 1 FROM pgherd.decisions WHERE id = '{tx.id}'") == []
        assert await here.ask(A, f"SELECT 1 FROM pgherd.decisions WHERE id = '{held.id}'") == [("1",)]
        verdict = two_phase.make_id(A, 1_700_000_000, 8)
        await here.ask(A, two_phase.insert_decision(verdict, "aborted", ()))
        await recovery.clean(
            lender, GROUPS, kept_s=0
        )  # the bystander began before: it might be who was judged
        assert await here.ask(A, f"SELECT 1 FROM pgherd.decisions WHERE id = '{verdict}'") == [("1",)]
        await bystander.run("COMMIT")
        assert (await recovery.recover(lender, GROUPS, grace_s=0)).committed == (held.id,)
        for each in (link, bystander):
            lender.give_back(each, reusable=True)
        assert await here.value(B, 2) == 101

    run(story)


# ---- deadlocks --------------------------------------------------------------------------------------------


def test_the_youngest_of_a_deadlock_across_groups_is_cancelled(run: Run) -> None:
    async def story(here: Here) -> None:
        old, young = here.begin(), here.begin()
        await add(old, A, 1)
        await add(young, B, 1)
        waits = [asyncio.create_task(add(old, B, 1)), asyncio.create_task(add(young, A, 1))]
        detector = deadlock.Detector(here.lender)
        clock = asyncio.get_running_loop()
        start = clock.time()
        while not waits[1].done():
            await detector.look(GROUPS)
            await asyncio.wait(waits[1:], timeout=0.2)
        assert clock.time() - start < 2
        error = waits[1].exception()
        assert isinstance(error, ServerError)
        told = await young.reason(A, error)
        assert told.code == "40P01" and told.detail is not None and "waits for" in told.detail
        await young.rollback()
        await waits[0]
        await old.commit()
        assert [await here.value(A), await here.value(B)] == [101, 101]
        assert detector.cancelled == 1
        covered("deadlocks across groups", {"broken": 1})

    run(story)


def test_waiting_alone_is_no_deadlock(run: Run) -> None:
    async def story(here: Here) -> None:
        one, two = here.begin(), here.begin()
        await add(one, A, 1)
        await add(one, B, 1)
        await add(two, C, 1)
        waiter = asyncio.create_task(add(two, B, 1))
        await here.until(
            B,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        detector = deadlock.Detector(here.lender)
        assert [await detector.look(GROUPS) for _ in range(3)] == [[], [], []]
        await one.commit()
        await waiter
        await two.commit()

    run(story)


def test_a_group_that_is_down_is_named_and_the_others_go_on(run: Run) -> None:
    async def story(here: Here) -> None:
        lender = PlainLender({**here.lender.uris, C: "postgresql://postgres@127.0.0.1:1/nowhere"})
        tx = Transaction(lender, GROUPS, gates=here.gates)
        await add(tx, A, 1)
        with pytest.raises(GroupDown, match="group 2"):
            await add(tx, C, 1)
        await tx.rollback()
        tx = Transaction(lender, GROUPS, gates=here.gates)
        await add(tx, A, 1)
        await add(tx, B, 1)
        await tx.commit()
        await lender.close()
        assert [await here.value(A), await here.value(B)] == [101, 101]

    run(story)
