"""Transactions over groups on real servers: commit, rollback, savepoints, deadlocks."""

from __future__ import annotations

import asyncio

import pytest
from transactions_world import GROUPS, A, B, C, Here, Run, add, get, run, three_groups

from pgherd.errors import GroupDown, Refused, ServerError
from pgherd.testing.coverage import covered
from pgherd.testing.lender import PlainLender
from pgherd.transaction import deadlock, recovery, two_phase
from pgherd.transaction.coordinator import Transaction

__all__ = ["run", "three_groups"]  # fixtures


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
        assert young.told(error.fields)["C"] == "40P01"
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


def test_a_read_over_groups_and_a_definition_that_wait_for_each_other_are_found(run: Run) -> None:
    """The read's connections are not branches of a transaction, but they are one for whoever waits for them."""

    async def story(here: Here) -> None:
        definition, reader = here.begin(), here.begin(explicit=False)
        lock = "LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE"
        await (await definition.branch(B)).run(lock)

        async def read() -> None:
            async with reader.reading((A, B)) as links:
                await asyncio.gather(*(link.run("SELECT count(*) FROM public.t") for link in links.values()))

        async def locking() -> None:
            await here.until(
                B, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'count'"
            )
            await (await definition.branch(A)).run(lock)

        waits = [asyncio.create_task(read()), asyncio.create_task(locking())]
        detector = deadlock.Detector(here.lender)
        async with asyncio.timeout(10):
            while not all(wait.done() for wait in waits):
                await detector.look(GROUPS)
                await asyncio.wait(waits, timeout=0.2)
        assert waits[1].exception() is None
        error = waits[0].exception()
        assert isinstance(error, ServerError)
        assert reader.told(error.fields)["C"] == "40P01"
        await definition.rollback()
        await reader.rollback()

    run(story)
