"""One connection to one node, and the loop that asks it how it is. Nodes never wait for each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pgherd.catalog.model import Node
from pgherd.engine.link import Row
from pgherd.errors import GroupDown, PgherdError, ServerError
from pgherd.topology import clock
from pgherd.topology.views import STATE_SQL, Answer, NodeView, read_answer

log = logging.getLogger("pgherd.topology")
_LEAST_S = 0.01  # between two questions, however much is suspected
_RECONNECT_S = 0.05
_LATE_S = 0.1  # a timer that fires so late says that this process was busy, not that the server was


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Seconds between questions and bounds of waits."""

    calm_s: float = 0.5  # between two questions to the primary
    quick_s: float = 0.05  # while a group has no trusted primary, or is paused, or something is suspected
    idle_replica_s: float = 1.0  # to a replica while nobody reads from replicas
    ask_s: float = 1.0  # a question that is not answered so long costs the connection
    open_s: float = 2.0  # for making a connection
    failover_wait_s: float = 20.0  # how long a statement waits for a primary
    waiters_max: int = 10_000  # statements that wait for one group's primary
    catch_up_s: float = 0.02  # how long a session's read waits for a replica that is not far enough


class Asker(Protocol):
    """A connection to one node that only the watcher uses. `engine.link.Link` fits."""

    @property
    def broken(self) -> bool: ...

    async def run(self, sql: str) -> list[Row]:
        """Rows as text. Raises errors.ServerError or errors.GroupDown."""
        ...

    def abort(self) -> None:
        """Give the connection up: a `run` under way fails with errors.GroupDown."""
        ...


Ask = Callable[[Node], Awaitable[Asker]]  # raises errors.GroupDown or ServerError, within a bound of its own


class NodeWatch:
    """Asks `node` again and again; `pace()` says after how many seconds, `told(watch)` hears of every answer and failure."""

    def __init__(
        self,
        node: Node,
        ask: Ask,
        settings: WatchSettings,
        *,
        pace: Callable[[NodeWatch], float],
        told: Callable[[NodeWatch], None],
    ) -> None:
        self.node = node
        self.view = NodeView(node=node)
        self._ask = ask
        self._settings = settings
        self._pace = pace
        self._told = told
        self._asker: Asker | None = None
        self._failures = 0
        self._waiting: list[asyncio.Future[Answer]] = []
        self._wake: asyncio.Future[None] | None = None
        self._soon = False
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"watch node {node.id}")

    def poke(self) -> None:
        """Ask at once, or as soon as the question under way is answered."""
        self._soon = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def fresh(self) -> Answer:
        """The answer to a question that is sent after this call; who asks meanwhile shares it. Raises PgherdError."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append(future)
        self.poke()
        return await future

    async def close(self) -> None:
        """Stop asking. Who waits for an answer gets GroupDown."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # ---- the loop --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                await self._turn()
                await self._sleep()
        finally:
            self._drop()
            self._answer_all(self._take(), GroupDown(f"node {self.node.id} is no longer watched"))

    async def _turn(self) -> None:
        """One question; whatever happens is noted, and told."""
        waiting: list[asyncio.Future[Answer]] = []
        result: Answer | Exception
        refused = self._soon = False
        try:
            if self._asker is None or self._asker.broken:
                refused = True
                self._asker = await self._open()
                refused = False
            waiting = self._take()
            result = await self._question(self._asker)
        except Exception as error:  # whatever it is, the group must not be left unwatched
            if not isinstance(error, PgherdError | OSError):
                log.exception("watching node %s", self.node.id)
            result = error
            waiting += self._take()
        self._note(result, refused)
        self._answer_all(waiting, result)
        self._told(self)

    def _note(self, result: Answer | Exception, refused: bool) -> None:
        if isinstance(result, Answer):
            self._failures = 0
            self.view = self.view.answered(result)
            return
        self._failures += 1
        refused = refused and _shuts_out(result)
        self.view = self.view.failed(str(result) or type(result).__name__, refused=refused)
        if self._asker is not None and self._asker.broken:
            self._drop()

    async def _open(self) -> Asker:
        self._drop()
        async with asyncio.timeout(self._settings.open_s):
            return await self._ask(self.node)

    async def _question(self, asker: Asker) -> Answer:
        self._soon = False  # what made us ask at once while the connection was made
        silent = _Alarm(self._loop, self._settings.ask_s, asker.abort)
        sent = clock.now()
        try:
            rows = await asker.run(STATE_SQL)
        except PgherdError as error:
            if silent.rung:
                raise GroupDown(f"no answer within {self._settings.ask_s:g} s") from TimeoutError()
            raise error
        finally:
            silent.stop()
        if len(rows) != 1:
            raise GroupDown(f"pgherd.node_state() answered {len(rows)} rows")
        return read_answer(rows[0], sent, clock.now() - sent)

    async def _sleep(self) -> None:
        """Until the next question is due, or somebody wants an answer. Failures and mere suspicions never make us spin."""
        least = _RECONNECT_S if self._failures > 1 else _LEAST_S if self._failures or self._soon else 0.0
        if least:
            await asyncio.sleep(least)
        if self._soon or self._waiting:
            return
        self._wake = self._loop.create_future()
        timer = self._loop.call_later(max(self._delay() - least, 0.0), _finish, self._wake)
        try:
            await self._wake
        finally:
            timer.cancel()
            self._wake = None

    def _delay(self) -> float:
        pace = self._pace(self)
        if (
            self._failures > 1
        ):  # a lost connection is made again at once, one that cannot be made less and less often
            pace = min(_RECONNECT_S * 2.0 ** min(self._failures - 2, 10), max(0.2, 4 * pace))
        elif self._failures == 1:
            return _LEAST_S
        return pace * random.uniform(0.9, 1.1)

    def _take(self) -> list[asyncio.Future[Answer]]:
        taken, self._waiting = self._waiting, []
        return taken

    def _answer_all(self, waiting: list[asyncio.Future[Answer]], result: Answer | Exception) -> None:
        for future in waiting:
            if future.done():
                continue
            if isinstance(result, Answer):
                future.set_result(result)
            else:
                node = self.node
                text = f"node {node.id} of group {node.group} ({node.host}:{node.port}) does not answer: {result}"
                future.set_exception(GroupDown(text))

    def _drop(self) -> None:
        if self._asker is not None:
            self._asker.abort()
            self._asker = None


class _Alarm:
    """Calls `ring` after `after_s` unless stopped; later if this process itself was too busy to read the answer."""

    __slots__ = ("_due", "_handle", "_loop", "_ring", "rung")

    def __init__(self, loop: asyncio.AbstractEventLoop, after_s: float, ring: Callable[[], None]) -> None:
        self.rung = False
        self._loop = loop
        self._ring = ring
        self._due = loop.time() + after_s
        self._handle = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        late = self._loop.time() - self._due
        if late > _LATE_S:
            self._due = self._loop.time() + _LATE_S
            self._handle = self._loop.call_at(self._due, self._fire)
            return
        self.rung = True
        self._ring()

    def stop(self) -> None:
        self._handle.cancel()


def _shuts_out(error: Exception) -> bool:
    """Whether a connection that could not be made says that nobody else's works either.

    Not so a silent server, which may only be slow, nor one that refuses us in particular (full, password).
    """
    if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
        return False
    return not isinstance(error, ServerError) or error.code.startswith("57P")


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
