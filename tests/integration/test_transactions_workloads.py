"""Workloads over groups, without and with kills, and what every history must show. They print what they covered."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from pgherd.catalog.model import GroupId
from pgherd.controller.duties import Controller, Intervals
from pgherd.deploy import processes
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.server import Server
from pgherd.testing.bank import Bank
from pgherd.testing.coverage import covered
from pgherd.testing.cycles import check
from pgherd.testing.lender import PlainLender
from pgherd.testing.list_append import ListAppend
from pgherd.testing.plugin import uris
from pgherd.testing.servers import Yard
from pgherd.transaction import recovery
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.perform import Bounds
from pgherd.transaction.snapshot import Gates, GateSettings
from pgherd.transaction.two_phase import Phase, Protocol

# Servers end with the thread that started them: those that die and come back are started by one that stays
STARTER = ThreadPoolExecutor(1)


async def start(server: Server) -> None:
    """Start a server again."""
    await asyncio.get_running_loop().run_in_executor(STARTER, server.start)


KINDS = ("scattered", "repeatable read", "federated", "among own writes")
QUICK = Bounds(prepare_s=3, decide_s=3, ask_s=2, finish_s=2, undo_s=1)
STEPS = [
    (when, phase)
    for phase in (Phase.PREPARING, Phase.DECIDING, Phase.FINISHING)
    for when in ("before", "after")
]


@pytest.fixture(scope="module")
def one_server(yard: Yard) -> Iterator[LocalCluster]:
    """Three groups as databases of one server."""
    cluster = yard.cluster("workloads", embedded=True, groups=3, gateway=False)
    yield cluster
    for server in cluster.servers(cluster.existing()):
        kill(server)
    cluster.kill()


@pytest.fixture(scope="module")
def embedded(one_server: LocalCluster) -> list[str]:
    return uris(one_server)


@pytest.fixture(scope="module")
def grouped(yard: Yard) -> Iterator[LocalCluster]:
    """Two groups with a server each."""
    cluster = yard.cluster("workload-servers", embedded=False, groups=2, gateway=False)
    yield cluster
    for server in cluster.servers(cluster.existing()):
        kill(server)
    cluster.kill()


@pytest.fixture(params=["embedded", "a server for each group"])
def herd(request: pytest.FixtureRequest, one_server: LocalCluster, grouped: LocalCluster) -> LocalCluster:
    """Both kinds of cluster, one after the other."""
    return one_server if request.param == "embedded" else grouped


def told(where: list[str], story: Callable[[Bank, PlainLender], Awaitable[None]]) -> None:
    """Run a story with a bank of its own over the groups at `where`."""

    async def telling() -> None:
        groups = tuple(GroupId(number) for number in range(len(where)))
        lender = PlainLender(dict(zip(groups, where, strict=True)))

        async def unstick(stuck: tuple[GroupId, ...]) -> bool:
            return bool((await recovery.recover(lender, stuck)).waiting)

        gates = Gates(lender, GateSettings(wait_s=2.0), unstick)
        bank = Bank(lender, groups, gates, bounds=QUICK)
        await bank.setup()
        try:
            await story(bank, lender)
        finally:
            await gates.close()
            await lender.close()

    asyncio.run(telling())


@asynccontextmanager
async def controlled(lender: PlainLender, groups: tuple[GroupId, ...]) -> AsyncGenerator[Controller]:
    """A controller at work during the block."""
    controller = Controller(lender, lambda: groups, Intervals(lock_s=0.2, recovery_s=0.2, deadlock_s=0.3))
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(lender: PlainLender, groups: tuple[GroupId, ...], within_s: float = 15.0) -> None:
    """Run the controller until nothing is in doubt."""
    async with controlled(lender, groups), asyncio.timeout(within_s):
        while await _in_doubt_anywhere(lender, groups):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _in_doubt_anywhere(lender: PlainLender, groups: tuple[GroupId, ...]) -> bool:
    answers = await asyncio.gather(
        *(recovery.prepared(lender, group) for group in groups), return_exceptions=True
    )
    return any(answers)  # an exception counts: a group that does not answer may hold something


# ---- the bank ---------------------------------------------------------------------------------------------


def test_every_consistent_look_at_the_bank_sees_the_same_total(herd: LocalCluster) -> None:
    async def story(bank: Bank, lender: PlainLender) -> None:
        async with controlled(lender, bank.groups):
            await bank.run(4.0, kinds=KINDS)
        await bank.check()
        assert bank.wrong == []
        assert all(bank.counts[f"{kind}: looks"] for kind in KINDS), bank.counts
        assert all(bank.counts[f"committed over {count} groups"] for count in range(2, len(bank.groups) + 1))
        covered("bank without kills", bank.counts)

    told(uris(herd), story)


def test_without_the_gates_the_bank_fails(embedded: list[str]) -> None:
    async def story(bank: Bank, lender: PlainLender) -> None:
        bank.snapshot = False
        async with controlled(lender, bank.groups):
            for _ in range(10):
                await bank.run(0.5, kinds=("scattered", "repeatable read"))
                if bank.wrong:
                    break
        assert bank.wrong, "the bank cannot tell consistent reads from inconsistent ones"
        await bank.check()  # the money itself is safe
        covered("looks without gates", {"wrong": len(bank.wrong), **bank.counts})

    told(embedded, story)


# ---- list append, long fork -------------------------------------------------------------------------------


def test_repeatable_read_histories_have_no_forbidden_cycle(herd: LocalCluster) -> None:
    async def story(bank: Bank, lender: PlainLender) -> None:
        work = ListAppend(lender, bank.groups, bank.gates)
        await work.setup()
        async with controlled(lender, bank.groups) as controller:
            await work.run(3.0)
        assert check(work.history) == []
        outcomes = [done.outcome for done in work.history]
        assert work.spanned and outcomes.count("aborted")
        covered("deadlocks across groups", {"broken": controller.detector.cancelled, "looked for": 1})
        covered(
            "list-append transactions",
            {"over several groups": work.spanned, "aborted": outcomes.count("aborted"), "all": len(outcomes)},
        )

    told(uris(herd), story)


def test_no_two_readers_see_two_commits_in_opposite_orders(herd: LocalCluster) -> None:
    """Long fork: two writers of one group each, readers of both in processes of their own (here: gates of their own)."""

    async def story(bank: Bank, lender: PlainLender) -> None:
        a, b = bank.groups[:2]
        seen: list[tuple[int, int]] = []
        end = asyncio.get_running_loop().time() + 2.0

        async def write(group: GroupId) -> None:
            while asyncio.get_running_loop().time() < end:
                await recovery.ask(
                    lender, group, "INSERT INTO public.ledger SELECT count(*) FROM public.ledger"
                )

        async def read(gates: Gates) -> None:
            while asyncio.get_running_loop().time() < end:
                async with Transaction(lender, bank.groups, gates=gates, explicit=False).reading(
                    (a, b)
                ) as links:
                    rows = await asyncio.gather(
                        *(link.run("SELECT count(*) FROM public.ledger") for link in links.values())
                    )
                seen.append((int(rows[0][0][0] or 0), int(rows[1][0][0] or 0)))

        own = [Gates(lender, GateSettings(wait_s=3)) for _ in range(3)]
        await asyncio.gather(write(a), write(b), *(read(gates) for gates in own))
        for gates in own:
            await gates.close()
        ordered = sorted(set(seen))
        assert all(x[1] <= y[1] for x, y in itertools.pairwise(ordered)), "two readers saw a fork"
        covered("snapshots compared for forks", {"reads": len(seen), "different": len(ordered)})

    told(uris(herd), story)


# ---- kills ------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, json, os, signal, sys
from pgherd.catalog.model import GroupId
from pgherd.testing.lender import PlainLender
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.snapshot import Gates
where, steps = json.loads(sys.argv[1])
async def main(step, number):
    lender = PlainLender({GroupId(g): uri for g, uri in enumerate(where)})
    async def die(when, protocol):
        if [when, protocol.phase.value] == step:
            os.kill(os.getpid(), signal.SIGKILL)
    tx = Transaction(lender, tuple(lender.uris), gates=Gates(lender), on_step=die)
    for group, amount in ((0, -1), (1, 1)):
        link = await tx.branch(GroupId(group))
        await link.run(f"INSERT INTO public.ledger VALUES ({number})")
        await link.run(f"UPDATE public.bank SET balance = balance + ({amount}) WHERE id = {number + 1}")
    print(json.dumps([step, number, tx.id]), flush=True)
    await tx.commit()
for number, step in enumerate(steps):
    if os.fork() == 0:
        asyncio.run(main(step, number))
        os._exit(0)
    assert os.wait()[1] == signal.SIGKILL, step
"""


def test_a_coordinator_killed_at_any_step_leaves_nothing_half_done(embedded: list[str]) -> None:
    async def story(bank: Bank, lender: PlainLender) -> None:
        steps = [[when, phase.value] for when, phase in STEPS]
        child = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", CHILD, json.dumps([embedded, steps])],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert child.returncode == 0, child.stderr
        begun = [json.loads(line) for line in child.stdout.splitlines()]
        assert len(begun) == len(STEPS)
        await settled(lender, bank.groups)
        for (when, phase), number, id_ in begun:
            decided = phase == "finishing" or (when, phase) == ("after", "deciding")
            assert await recovery.status(lender, bank.groups, id_) == ("committed" if decided else "aborted")
            (bank.acknowledged if decided else bank.rolled_back).append(number)
        await bank.check()
        await _no_locks(bank, lender)
        covered("coordinators killed", {f"{when} {phase}": 1 for (when, phase), _, _ in begun})

    told(embedded, story)


async def _no_locks(bank: Bank, lender: PlainLender) -> None:
    for group in bank.groups:
        sql = "SELECT count(*) FROM pg_locks WHERE relation IN ('public.bank'::regclass, 'public.ledger'::regclass, 'pgherd.gate'::regclass)"
        assert (await recovery.ask(lender, group, sql))[0][0] == "0"


def kill(server: Server) -> None:
    """kill -9 for a whole server, as if its machine had burnt."""
    pids = processes.with_directory(server.data, "postgres")
    for pid in pids:
        processes.send(pid, signal.SIGKILL)
    assert processes.wait_gone(pids, 5)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_server_killed_at_any_step_comes_back_without_half_transactions(
    grouped: LocalCluster, victim: int
) -> None:
    servers = grouped.servers(grouped.existing())
    hits: dict[str, int] = {}

    async def story(bank: Bank, lender: PlainLender) -> None:
        chance = random.Random(victim)
        pending: list[tuple[str, Phase]] = []

        async def strike(when: str, protocol: Protocol) -> None:
            if pending and (when, protocol.phase) == pending[0]:
                pending.clear()
                role = "home" if protocol.home == victim else "participant"
                hits[f"{role} {when} {protocol.phase.value}"] = 1
                await asyncio.to_thread(kill, servers[victim])

        bank.on_step = strike
        for step in STEPS:
            pending.append(step)
            while pending:
                await bank.transfer(chance)
            await start(servers[victim])
            await settled(lender, bank.groups)
            await bank.check()
        for id_ in bank.unknown.values():
            assert await recovery.status(lender, bank.groups, id_) in ("committed", "aborted")
        await _no_locks(bank, lender)
        covered("servers killed", hits)
        covered("bank under kills", bank.counts)

    told(uris(grouped), story)


def test_the_bank_holds_while_servers_and_coordinators_die(herd: LocalCluster) -> None:
    servers = herd.servers(herd.existing())

    async def story(bank: Bank, lender: PlainLender) -> None:
        async def faults() -> None:
            chance = random.Random(7)
            for _ in range(3):
                await asyncio.sleep(0.8)
                struck = chance.choice(servers)
                await asyncio.to_thread(kill, struck)
                await start(struck)

        async with controlled(lender, bank.groups):
            await asyncio.gather(
                bank.run(5.0, movers=3, kinds=("scattered", "repeatable read", "federated"), seed=3), faults()
            )
        await settled(lender, bank.groups)
        await bank.check()
        assert bank.wrong == []
        for id_ in bank.unknown.values():
            assert await recovery.status(lender, bank.groups, id_) in ("committed", "aborted")
        covered("bank under kills", bank.counts)

    told(uris(herd), story)


def test_histories_under_kills_have_no_forbidden_cycle(herd: LocalCluster) -> None:
    servers = herd.servers(herd.existing())

    async def story(bank: Bank, lender: PlainLender) -> None:
        work = ListAppend(lender, bank.groups, bank.gates)
        await work.setup()
        kills = 0

        async def faults() -> None:
            nonlocal kills
            chance = random.Random(11)
            for _ in range(2):
                await asyncio.sleep(0.7)
                struck = chance.choice(servers)
                await asyncio.to_thread(kill, struck)
                await start(struck)
                kills += 1

        async with controlled(lender, bank.groups):
            await asyncio.gather(work.run(4.0, seed=5), faults())
        await settled(lender, bank.groups)
        assert check(work.history) == []
        outcomes = [done.outcome for done in work.history]
        assert work.spanned
        covered(
            "list-append under kills",
            {
                "over several groups": work.spanned,
                "unknown": outcomes.count("unknown"),
                "servers killed": kills,
                "all": len(outcomes),
            },
        )

    told(uris(herd), story)
