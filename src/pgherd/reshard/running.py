"""What the steps of a workflow share while they run: connections, streams, and where its state is written."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pgherd.catalog.model import GroupId
from pgherd.catalog.text import literal
from pgherd.errors import PgherdError
from pgherd.reshard import records
from pgherd.reshard.model import Direction, Route, Workflow
from pgherd.reshard.passing import Patience
from pgherd.reshard.places import Places
from pgherd.reshard.stream import Course, Stream
from pgherd.reshard.tables import CopiedTable, tables_of

HOME = GroupId(0)
Point = Callable[[str], Awaitable[None]]


class Stopped(Exception):
    """The workflow is wanted otherwise: paused, cancelled, undone. Not an error."""


class TooHeavy(PgherdError):
    """The workflow would hurt a server: its log or its disk fills. It is cancelled and cleaned up."""

    sqlstate = "53100"


async def no_point(name: str) -> None:
    """Nothing happens at this point."""
    del name


class Run:
    """One workflow on its way. `point` is called at named places within the steps; tests cut there."""

    def __init__(
        self,
        places: Places,
        workflow: Workflow,
        point: Point = no_point,
        patience: Patience | None = None,
    ) -> None:
        self.places, self.workflow, self.point = places, workflow, point
        self.patience = patience or Patience(random.random)
        self.tables: tuple[CopiedTable, ...] = ()
        self.streams: dict[str, list[tuple[Stream, asyncio.Task[None]]]] = {}
        self._progress: dict[str, Any] = {}
        self._told = 0.0
        self.speed = 1.0  # the part of full speed that a copy may take now; the governor sets it

    @property
    def place(self) -> str:
        """Where it is: as long as that does not change, it makes no headway."""
        return f"{self.workflow.going} {self.workflow.step}"

    async def look(self) -> None:
        """Learn what the tables look like now."""
        await self.places.refresh()
        self.tables = await tables_of(self.places, self.workflow.keyspace)

    # ---- what is written -------------------------------------------------------------------------------------

    async def note(self, **values: Any) -> None:
        """Set columns of the workflow, and read it again."""
        async with self.places.link(HOME) as link:
            await records.note(link, self.workflow.id, **values)
            self.workflow = await records.load(link, self.workflow.id)

    async def remember(self, **values: Any) -> None:
        """Add to the workflow's memory."""
        await self.note(memory={**self.workflow.memory, **values})

    async def leave(self, group: GroupId, slot: str) -> None:
        """Remember that a slot may be left on a node that does not answer."""
        strays: dict[str, list[str]] = self.workflow.memory.get("strays", {})
        known = strays.get(str(int(group)), [])
        if slot not in known:
            await self.remember(strays={**strays, str(int(group)): [*known, slot]})

    async def made_on(self, stream: str, timeline: int) -> None:
        """Remember the source's timeline when a stream's slot was made: on another one it is of no use."""
        known = self.workflow.memory.get("timelines", {})
        await self.remember(timelines={**known, stream: timeline})

    async def progress(self, *, now: bool = False, **values: Any) -> None:
        """Say how far it is, at most once a second. Raises Stopped if it is wanted otherwise."""
        self._progress.update(values)
        if now or time.monotonic() - self._told > 1.0:
            self._told = time.monotonic()
            await self.note(progress=dict(self._progress))
            self.check()

    async def begin_phase(self, phase: str) -> None:
        """Say what is being done."""
        self._progress = {}
        await self.note(phase=phase, progress={})

    def check(self) -> None:
        """Raise Stopped if somebody wants it paused or cancelled."""
        if (
            self.workflow.going == "forward"
            and self.workflow.wanted in ("pause", "cancel")
            and self.workflow.state != "kept"
        ):
            raise Stopped(self.workflow.wanted)

    # ---- streams ---------------------------------------------------------------------------------------------

    def course(self, direction: Direction, route: Route) -> Course:
        """Where the stream of a route runs."""
        several = len({piece.id for piece in direction.sources}) > 1
        names = {
            (table.shard_schema(piece.id), table.name): (table, piece)
            for piece in route.pieces
            for table in self.tables
        }
        return Course(
            name=direction.stream(route),
            slot=direction.slot(route, self.places.cluster_id),
            publication=direction.side,
            timeline=self.workflow.memory.get("timelines", {}).get(direction.stream(route)),
            source=route.source,
            target=route.target,
            elsewhere=len(direction.target_groups) > 1,
            tables={name: (table, table.root(direction.side)) for name, (table, _) in names.items()},
            conditions={
                name: self._condition(table, piece.id) for name, (table, piece) in names.items() if several
            },
        )

    def _condition(self, table: CopiedTable, shard: int) -> str:
        return self.workflow.memory.get("conditions", {}).get(f"{shard}.{table.schema}.{table.name}", "false")

    def start_streams(self, direction: Direction) -> list[Stream]:
        """The streams of a direction, running; again is fine."""
        running = self.streams.setdefault(direction.letter, [])
        if not running:
            for route in direction.routes:
                stream = Stream(self.places, self.course(direction, route))
                running.append((stream, asyncio.create_task(stream.run())))
        return [stream for stream, _ in running]

    async def stop_streams(self, direction: Direction | None = None) -> None:
        """End the streams of a direction, or all."""
        letters = list(self.streams) if direction is None else [direction.letter]
        tasks = [task for letter in letters for _, task in self.streams.pop(letter, [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def behind(self, streams: list[Stream]) -> int:
        """Bytes of log that the streams have not read yet, in all. Raises what made a stream fail."""
        total = 0
        for stream in streams:
            if stream.failure is not None:
                raise stream.failure
            rows = await self.places.ask(
                stream.course.source, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
            )
            total += max(0, int(rows[0][0] or 0) - stream.seen)
        return total

    # ---- shortcuts -------------------------------------------------------------------------------------------

    async def on(self, groups: tuple[GroupId, ...], text: str) -> None:
        """Run a text in several groups, one after another."""
        for group in groups:
            await self.places.ask(group, text)

    @property
    def keyspace(self) -> str:
        """The keyspace's name as SQL text."""
        return literal(self.workflow.keyspace)
