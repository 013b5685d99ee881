"""Drives workflows along the table of steps, and takes up those that another process left unfinished."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any

from pgherd.engine.link import Link
from pgherd.errors import PgherdError, Refused
from pgherd.reshard import distribution, records
from pgherd.reshard.cutover import Changed
from pgherd.reshard.governor import watch, watch_primaries
from pgherd.reshard.model import Workflow
from pgherd.reshard.passing import Patience
from pgherd.reshard.phases import CUTOVER, PHASES, reached
from pgherd.reshard.places import Places
from pgherd.reshard.running import HOME, Point, Run, Stopped, no_point
from pgherd.reshard.steps import STEPS, clean, cut_back, finish_tables, let_go
from pgherd.reshard.strays import sweep
from pgherd.reshard.stream import SourceReplaced
from pgherd.reshard.verify import Different
from pgherd.transaction import recovery

log = logging.getLogger(__name__)

LOCK = 0x7069_0001 << 32  # the lock of whoever carries workflows out, on group 0
LOOK_S = 0.5
COPIES_MAX = 3


class Engine:
    """`run` carries out all workflows until it is cancelled, or (with `until_idle`) nothing is left to do."""

    def __init__(self, places: Places, *, point: Point = no_point) -> None:
        self.places, self.point = places, point
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._patience: dict[int, Patience] = {}

    async def run(self, *, until_idle: bool = False) -> None:
        """Wait for the lock, then work. Raises GroupDown when group 0 is lost: whoever comes next goes on."""
        await self.places.refresh()
        link = await self.places.open(HOME)
        duties = [asyncio.create_task(duty(self.places)) for duty in (watch_primaries, sweep)]
        try:
            while not await _locked(link):  # noqa: ASYNC110 another process holds it
                await asyncio.sleep(LOOK_S)
            while True:
                found = await records.unfinished(link)
                self._start(found)
                if until_idle and not self._tasks and not found:
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            tasks = (*duties, *self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            link.close()

    def _start(self, found: list[Workflow]) -> None:
        """A task for each workflow that may go on: one at a time moves rows in a group."""
        busy: set[int] = set()
        for workflow in found:
            idle = workflow.state == "paused" and workflow.wanted == "pause"
            moving = reached(workflow.step) <= CUTOVER and workflow.going == "forward"
            if idle or (moving and busy & workflow.groups):
                continue
            if moving:
                busy |= workflow.groups
            if workflow.id not in self._tasks:
                self._tasks[workflow.id] = task = asyncio.create_task(self._advance(workflow))
                task.add_done_callback(lambda _, number=workflow.id: self._tasks.pop(number, None))

    async def _advance(self, workflow: Workflow) -> None:
        """One workflow until its end, a pause, or an error that time may heal."""
        patience = self._patience.setdefault(workflow.id, Patience(random.random))
        run = Run(self.places, workflow, self.point, patience)
        try:
            await self._advance_once(run)
        except (
            PgherdError,
            OSError,
            TimeoutError,
        ) as error:  # a group that fails over while all is taken back
            log.info("workflow %s: %s: %s", workflow.id, type(error).__name__, error)
            await asyncio.sleep(patience.pause_s(run.place, error))
        except Exception as error:  # a fault of ours: it must neither be lost nor be tried without a pause
            log.exception("workflow %s", workflow.id)
            await asyncio.sleep(patience.pause_s(run.place, error))

    async def _advance_once(self, run: Run) -> None:
        workflow = run.workflow
        if workflow.kind in distribution.KINDS:
            await distribution.ride(run)
            return
        try:
            await self._ride(run)
        except Stopped as stopped:
            await self._stopped(run, str(stopped))
        except Changed as error:
            log.info("workflow %s: %s", workflow.id, error)
            await self._undone(run, "waiting", error)
        except SourceReplaced as error:
            log.info("workflow %s: %s", workflow.id, error)
            if run.workflow.state == "kept" or reached(run.workflow.step) > CUTOVER:
                await let_go(run, error)
            else:
                await self._undone(run, "waiting", error)
        except (PgherdError, OSError, TimeoutError) as error:
            log.info("workflow %s: %s: %s", workflow.id, type(error).__name__, error)
            await self._failed(run, error)
        finally:
            await run.stop_streams()

    async def _ride(self, run: Run) -> None:
        """Start or go on, with somebody who watches that it hurts nobody."""
        await recovery.recover(self.places, self.places.groups)  # what a killed one left prepared
        async with self.places.link(HOME) as link:
            run.workflow = await records.load(link, run.workflow.id)
        await run.look()
        if run.workflow.state in ("waiting", "paused"):
            await run.note(state="running", error=None, hint=None)
        guard = asyncio.create_task(watch(run))
        ride = asyncio.create_task(self._steps(run))
        try:
            await asyncio.wait((guard, ride), return_when=asyncio.FIRST_COMPLETED)
            if guard.done() and not ride.done():
                ride.cancel()
                await asyncio.gather(ride, return_exceptions=True)
                guard.result()
            await ride
        finally:
            for task in (guard, ride):
                task.cancel()
            await asyncio.gather(guard, ride, return_exceptions=True)

    async def _steps(self, run: Run) -> None:
        if run.workflow.going == "cancel":
            await self._undone(run, run.workflow.memory.get("then", "cancelled"), None)
            return
        if run.workflow.going == "undo":
            await finish_tables(run, run.workflow.back)
            await self._clean_up(run, "undone")
            return
        for step in STEPS[reached(run.workflow.step) :]:
            if step.name == "clean" and run.workflow.wanted == "undo" and not run.workflow.memory.get("lost"):
                await run.begin_phase("switching back")
                await cut_back(run)
                await finish_tables(run, run.workflow.back)
                await self._clean_up(run, "undone")
                return
            run.check()
            await run.begin_phase(PHASES[step.name])
            await step.do(run)
            await self.point(f"{step.name}: done")
            healed = {} if run.workflow.memory.get("lost") else {"error": None, "hint": None}
            await run.note(step=step.name, **healed)
            await self.point(f"{step.name}: recorded")
        await run.note(state="done", phase="", progress={})

    async def _clean_up(self, run: Run, state: str) -> None:
        await run.begin_phase("cleaning up")
        await clean(run)
        await run.note(state=state, phase="", progress={})

    async def _stopped(self, run: Run, wanted: str) -> None:
        if wanted == "pause":
            await run.stop_streams()
            await run.note(state="paused")
            return
        await self._undone(run, "cancelled", None)

    async def _undone(self, run: Run, state: str, error: BaseException | None) -> None:
        """Take everything away that was made before the cutover. `state` afterwards: cancelled, failed, or waiting to begin anew."""
        told = records.told(error) if error is not None else {}
        await run.stop_streams()
        memory = {
            **run.workflow.memory,
            "then": state,
        }  # for whoever goes on with it after a kill or a lost group
        await run.note(going="cancel", phase="taking everything back", progress={}, memory=memory, **told)
        for step in reversed(STEPS[: CUTOVER + 1]):
            await step.undo(run)
            await self.point(f"{step.name}: undone")
        again: dict[str, Any] = (
            {"going": "forward", "memory": _anew(run.workflow.memory)} if state == "waiting" else {}
        )
        await run.note(state=state, step="", phase="", **again)

    async def _failed(self, run: Run, error: BaseException) -> None:
        """After an error: go on later if the cause may pass, copy again if the copy is bad, else take everything back."""
        pause_s = run.patience.pause_s(run.place, error)
        if (
            reached(run.workflow.step) > CUTOVER
            or run.workflow.state == "kept"
            or run.workflow.going != "forward"
        ):
            await self._later(run, error, pause_s)
        elif isinstance(error, Different | Refused) and run.workflow.memory.get("copies", 0) < COPIES_MAX - 1:
            await run.remember(copies=run.workflow.memory.get("copies", 0) + 1)
            await self._undone(run, "waiting", error)
        elif run.patience.has(error):
            await self._later(run, error, pause_s)
        else:
            await self._undone(run, "failed", error)

    async def _later(self, run: Run, error: BaseException, pause_s: float) -> None:
        try:
            await run.note(**records.told(error))
        except (PgherdError, OSError, TimeoutError):
            log.info("workflow %s: group 0 does not answer", run.workflow.id)
        await asyncio.sleep(pause_s)


def _anew(memory: Mapping[str, Any]) -> dict[str, Any]:
    """What a workflow that begins anew remembers."""
    return {name: value for name, value in memory.items() if name not in ("then", "timelines")}


async def _locked(link: Link) -> bool:
    return (await link.run(f"SELECT pg_try_advisory_lock({LOCK})"))[0][0] == "t"
