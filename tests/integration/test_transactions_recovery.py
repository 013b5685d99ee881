"""Transactions over groups on real servers: outcome by id, recovery, clean-up."""

from __future__ import annotations

import asyncio

import pytest
from transactions_world import GROUPS, A, B, C, Here, Run, add, run, three_groups

from pgherd.errors import BadSetting, GroupDown, TransactionLost
from pgherd.transaction import recovery, two_phase
from pgherd.transaction.perform import Bounds

__all__ = ["run", "three_groups"]  # fixtures


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


def test_the_controllers_rounds_do_not_finish_what_is_just_being_finished(run: Run) -> None:
    async def story(here: Here) -> None:
        async def look(when: str, protocol: two_phase.Protocol) -> None:
            if (when, protocol.phase) == ("after", two_phase.Phase.DECIDING):
                rounds.append(await recovery.recover(here.lender, GROUPS, young_s=30.0))
                rounds.append(await recovery.recover(here.lender, GROUPS, young_s=0.0))

        rounds: list[recovery.Recovered] = []
        tx = here.begin(on_step=look)
        await add(tx, A, 1)
        await add(tx, B, 1)
        await tx.commit()
        young, old = rounds
        assert young.waiting == (tx.id,)
        assert old.committed == (tx.id,)

    run(story)


def test_a_coordinator_that_recovery_overtook_cannot_commit(run: Run) -> None:
    async def story(here: Here) -> None:
        async def overtake(when: str, protocol: two_phase.Protocol) -> None:
            if (when, protocol.phase) == ("after", two_phase.Phase.PREPARING):
                await recovery.recover(here.lender, GROUPS, patience_s=0)

        tx = here.begin(on_step=overtake)
        await add(tx, A, 1)
        await add(tx, B, 1)
        with pytest.raises(TransactionLost, match="rolled back by recovery"):
            await tx.commit()
        assert await recovery.status(here.lender, GROUPS, tx.id) == "aborted"
        assert [await here.value(A), await here.value(B)] == [100, 100]

    run(story)


def test_a_prepare_whose_connection_was_lost_can_be_run_again(run: Run) -> None:
    """It waits for a standby when its connection goes, so that it can neither end nor be rolled back: nothing was decided all the same."""

    async def story(here: Here) -> None:
        async def wait_for(standby: str) -> None:
            await here.ask(A, f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'")
            await here.ask(A, "SELECT pg_reload_conf()")

        async def commits() -> None:
            while not stopped:
                await here.ask(C, "SELECT pg_logical_emit_message(true, 'test', '')")

        for explicit in (True, False):
            tx = here.begin(bounds=Bounds(prepare_s=0.5, undo_s=1.0), explicit=explicit)
            await add(tx, A, 1)
            await add(tx, B, 1)
            stopped = False
            others = asyncio.create_task(commits())
            await wait_for("nobody")
            await here.until(A, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            try:
                with pytest.raises(TransactionLost if explicit else GroupDown) as caught:
                    await tx.commit()
            finally:
                stopped = True
                await wait_for("")
                await others
            assert caught.value.sqlstate == ("40001" if explicit else "08006")
            await here.until(B, f"SELECT 1 FROM pg_prepared_xacts WHERE gid LIKE 'pgherd:{tx.id}:%'")
            assert (await recovery.recover(here.lender, GROUPS, patience_s=0)).aborted == (tx.id,)
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
        for _ in range(2):  # an old id, but its branch was seen: the verdict stands
            assert await recovery.status(here.lender, GROUPS, gid.id) == "aborted"
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
