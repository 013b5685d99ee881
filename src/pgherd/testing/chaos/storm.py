"""A run: workloads through both faces, rounds of faults, and at the end the question whether everything held."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from pgherd.testing.chaos.faces import Face
from pgherd.testing.chaos.faults import Fault, draw
from pgherd.testing.chaos.workloads import Workload
from pgherd.testing.chaos.world import NotHealthy, World
from pgherd.testing.network import Host

BACK_S: Final = 1.0  # a service manager starts again what ended so long ago
SETTLE_S: Final = 60.0
TASKS: Final = 2  # of each workload on each face


@dataclass(slots=True, eq=False)
class Report:
    """What happened: `violations` is empty if everything held. `faults`, `counts`: how much was covered."""

    seed: int
    violations: list[str] = field(default_factory=list[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    told: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return "\n".join(
            [f"seed {self.seed}", *self.told, *(f"VIOLATION: {text}" for text in self.violations)]
        )


class Storm:
    """Performs faults on a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def perform(self, fault: Fault) -> None:
        """One fault from its beginning to its mending."""
        await asyncio.sleep(fault.begin_s)
        host = await self._host(fault)
        await asyncio.to_thread(self._begin, fault, host)
        await asyncio.sleep(fault.last_s)
        await asyncio.to_thread(self._mend, fault, host)

    async def _host(self, fault: Fault) -> Host:
        world = self.world
        if "etcd" in fault.kind and fault.kind != "cut from etcd":
            return world.etcds[fault.group % len(world.etcds)]
        if fault.kind in ("kill gateway", "freeze gateway"):
            return world.gateway
        primary = await asyncio.to_thread(world.primary, fault.group)
        others = [host for host in world.of_group(fault.group) if host is not primary]
        return primary if fault.on_primary or not others else others[0]

    def _begin(self, fault: Fault, host: Host) -> None:
        world = self.world
        mates = [other for other in world.of_group(fault.group) if other is not host]
        match fault.kind:
            case "kill postgres" | "kill patroni" | "kill supervisor":
                world.send(world.pids(host, fault.kind.removeprefix("kill ")), signal.SIGKILL)
            case "freeze postgres" | "freeze patroni":
                world.send(world.pids(host, fault.kind.removeprefix("freeze ")), signal.SIGSTOP)
            case "burn host" | "kill gateway" | "kill etcd member":
                host.burn()
            case "freeze host" | "freeze gateway":
                host.freeze()
            case "unplug host":
                host.unplug()
            case "lossy host":
                host.lose(0.2)
            case "freeze etcd":
                for member in world.etcds:
                    member.freeze()
            case "switchover":
                world.switch_over(fault.group)
            case "one way to replicas":
                for mate in mates:
                    host.cut(mate)
            case "one way from replicas":
                for mate in mates:
                    mate.cut(host)
            case "cut from etcd":
                world.network.part([host], world.etcds)
            case "cut from replicas":
                world.network.part([host], mates)
            case "cut from gateway":
                world.network.part([host], [world.gateway])
            case "cut from client":
                world.network.part([host], [world.network.here])

    def _mend(self, fault: Fault, host: Host) -> None:
        world = self.world
        for member in world.etcds if fault.kind == "freeze etcd" else [host]:
            if member.space:
                member.thaw()
        match fault.kind:
            case "unplug host":
                host.plug()
            case "lossy host":
                host.lose(0)
            case "one way to replicas" | "one way from replicas" | "cut from replicas":
                self._rejoin(host, world.of_group(fault.group))
            case "cut from etcd":
                self._rejoin(host, world.etcds)
            case "cut from gateway":
                self._rejoin(host, [world.gateway])
            case "cut from client":
                self._rejoin(host, [world.network.here])
            case _:
                pass

    def _rejoin(self, host: Host, others: Sequence[Host]) -> None:
        for other in others:
            host.heal(other)
            other.heal(host)


async def run(
    world: World,
    seed: int,
    *,
    workloads: Sequence[Workload],
    faces: Sequence[Face],
    rounds: int,
    faults: Sequence[tuple[Fault, ...]] | None = None,
    enough: Callable[[], bool] = lambda: True,
) -> Report:
    """The workloads during `rounds` rounds of faults drawn from `seed` (or of the given `faults`), then the checks.

    More rounds follow, up to fifty times as many, until `enough`.
    """
    report = Report(seed)
    async with faces[0].session() as session:
        for workload in workloads:
            await workload.setup(session)
    stop = asyncio.Event()
    revival = asyncio.create_task(_revive(world, stop))
    jobs = [
        asyncio.create_task(
            workload.run(face, seed * 1000 + number, stop), name=f"{workload.name} {face.name}"
        )
        for workload in workloads
        for face in faces
        for number in range(TASKS)
    ]
    try:
        await _rounds(world, report, faults or _drawn(seed, rounds, world, enough))
    finally:
        world.network.heal()
        stop.set()
        report.violations += await _ended([*jobs, revival])
    await _check(world, report, workloads, faces[0])
    return report


async def _revive(world: World, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.to_thread(world.revive)
        await asyncio.sleep(BACK_S)


def _drawn(seed: int, rounds: int, world: World, enough: Callable[[], bool]) -> Iterator[tuple[Fault, ...]]:
    for number in range(rounds * 50):
        if number >= rounds and enough():
            return
        yield draw(seed * 100 + number, world.layout.groups)


async def _rounds(world: World, report: Report, rounds: Iterable[tuple[Fault, ...]]) -> None:
    storm = Storm(world)
    for faults in rounds:
        report.told.append("; ".join(map(str, faults)))
        for fault in faults:
            report.faults[fault.kind] += 1
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(storm.perform(fault))
        world.network.heal()
        try:
            await world.healthy()
        except NotHealthy as error:
            report.violations.append(f"not healthy again: {error}")
            return


async def _ended(jobs: Sequence[asyncio.Task[None]]) -> list[str]:
    """Wait for the workloads; what they raised are violations (a hanging statement, a fault of their own)."""
    done, left = await asyncio.wait(jobs, timeout=SETTLE_S * 3)
    for job in left:
        job.cancel()
    failed = [(job, error) for job in done if (error := job.exception()) is not None]
    return [
        *(f"{job.get_name()} does not end" for job in left),
        *(f"{job.get_name()}: {type(error).__name__}: {error}" for job, error in failed),
    ]


async def _check(world: World, report: Report, workloads: Sequence[Workload], face: Face) -> None:
    for workload in workloads:
        report.counts.update({f"{workload.name}, {what}": count for what, count in workload.counts.items()})
    try:
        await world.healthy()
        await _settled(world)
        async with face.session() as session:
            for workload in workloads:
                report.violations += [f"{workload.name}: {text}" for text in await workload.check(session)]
    except (NotHealthy, OSError, asyncpg.PostgresError, TimeoutError) as error:
        report.violations.append(f"checks failed: {type(error).__name__}: {error}")


async def _settled(world: World) -> None:
    """Wait until no transaction is in doubt. Raises NotHealthy."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while left := await world.in_doubt():
        if asyncio.get_running_loop().time() > deadline:
            raise NotHealthy(f"in doubt after {SETTLE_S:g} s: {left[:5]}")
        await asyncio.sleep(0.2)
