"""Transactions over groups on real servers: what they see of each other and of themselves."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from transactions_world import GROUPS, A, B, C, Here, Run, add, get, run, three_groups

from pgherd.catalog.model import GroupId
from pgherd.errors import PgherdError, Refused, ServerError, SnapshotBusy
from pgherd.testing.bank import NoParams
from pgherd.transaction import recovery, two_phase
from pgherd.transaction.snapshot import GateSettings

__all__ = ["run", "three_groups"]  # fixtures

_GATE = "(SELECT FROM pg_locks WHERE relation = 'pgherd.gate'::regclass AND mode = 'ShareRowExclusiveLock')"
LOCKED = f"SELECT 1 WHERE EXISTS {_GATE}"
UNLOCKED = f"SELECT 1 WHERE NOT EXISTS {_GATE}"


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


def test_a_reader_whose_window_lasted_too_long_passes_through_another_one(run: Run) -> None:
    async def story(here: Here) -> None:
        async def look(isolation: str) -> list[int]:
            tx = here.begin(isolation, explicit=False)
            async with tx.reading(GROUPS) as links:
                await here.until(A, UNLOCKED)
                rows = [await link.run("SELECT v FROM public.t WHERE id = 1") for link in links.values()]
            await tx.rollback()
            return [int(found[0][0] or 0) for found in rows]

        here.gates.settings = GateSettings(wait_s=1.5, hold_s=0.2)
        for isolation in ("read committed", "repeatable read"):
            link = await here.lender.lend(B)  # the reader's, as it is the one that is idle
            here.lender.give_back(link, reusable=True)
            before = here.gates.windows
            os.kill(link.pid, signal.SIGSTOP)
            try:
                looking = asyncio.create_task(look(isolation))
                await here.until(A, LOCKED)
                await here.until(A, UNLOCKED)
            finally:
                os.kill(link.pid, signal.SIGCONT)
            assert await looking == [100, 100, 100]
            assert here.gates.windows == before + 2

    run(story)


def test_readers_wait_while_a_transaction_in_doubt_keeps_a_gate_and_those_of_other_groups_go_on(
    run: Run,
) -> None:
    async def story(here: Here) -> None:
        async def unstick(groups: tuple[GroupId, ...]) -> bool:
            rounds.append(await recovery.recover(here.lender, groups))
            looked.set()
            return bool(rounds[-1].waiting)

        async def hang(when: str, protocol: two_phase.Protocol) -> None:
            if (when, protocol.phase) == ("after", two_phase.Phase.PREPARING):
                prepared.set()
                await over.wait()

        async def look(*groups: GroupId) -> None:
            async with here.begin(explicit=False).reading(groups):
                pass

        here.gates.unstick = unstick
        rounds: list[recovery.Recovered] = []
        looked, prepared, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        writer = here.begin(on_step=hang)
        await add(writer, A, 1)
        await add(writer, B, 1)
        home = writer.branches[A].link.pid
        writing = asyncio.create_task(writer.commit())
        await prepared.wait()
        looking = asyncio.create_task(look(*GROUPS))
        async with asyncio.timeout(10):
            for _ in range(3):  # for longer than a gate without doubts is waited for
                await looked.wait()
                looked.clear()
                await look(A, C)
        await here.ask(A, f"SELECT pg_terminate_backend({home})")  # its coordinator is gone
        await looking
        over.set()
        with pytest.raises(PgherdError):
            await writing
        assert [each for found in rounds for each in found.aborted] == [writer.id]

    run(story)


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


def test_foreign_snapshots_are_opened_only_where_they_are_used(run: Run) -> None:
    async def story(here: Here) -> None:
        async def federated() -> str | None:
            tx = here.begin("repeatable read")
            try:
                async with tx.federated(A, (A, B)) as link:
                    return (await link.run(FEDERATED))[0][0]
            finally:
                await tx.rollback()

        assert await federated() == "1000"
        while here.gates.foreign.wanted:
            tx = here.begin("repeatable read")
            await get(tx, A)
            await tx.commit()
        with pytest.raises(SnapshotBusy, match="foreign tables"):  # 40001: run it again
            await federated()
        assert await federated() == "1000"

    run(story)
