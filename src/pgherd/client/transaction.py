"""`async with db.transaction() as tx:` over any number of groups; nested ones are savepoints.

Branches open when they are first touched. Statements on `db` in the same task, and in tasks started inside the block,
belong to the transaction until it ends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.client import branches, many, statements
from pgherd.client.again import fails_over, rerouted
from pgherd.client.cursor import Cursor
from pgherd.client.held import Timing
from pgherd.client.link import AsyncpgLink, PythonParams
from pgherd.client.losses import overtaken
from pgherd.client.near import Reading
from pgherd.client.queries import Queries, Want, raise_for_user
from pgherd.engine.execute import execute
from pgherd.engine.link import Part
from pgherd.engine.plans_cache import PlanCache
from pgherd.engine.stale import is_stale
from pgherd.engine.work import Work
from pgherd.errors import PgherdError, ServerError, StaleMap, TransactionLost
from pgherd.plan.plans import AnyPlan, Call, Ddl, Federated, Gather, OneGroup, Single
from pgherd.sql.parse import parse
from pgherd.transaction import coordinator, moved

if TYPE_CHECKING:
    from pgherd.client.database import Database

T = TypeVar("T")
_SHARD = re.compile(r"\bshard_(\d+)")


class Transaction(Queries):
    """A transaction, or (with `parent`) a savepoint inside one. Also has fetch, execute and the others itself."""

    def __init__(
        self,
        db: Database,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        parent: Transaction | None = None,
        reading: Reading | None = None,
        asked: Reading | None = None,
    ) -> None:
        if isolation not in branches.ISOLATIONS:
            raise ValueError(
                f"isolation is expected to be one of {set(branches.ISOLATIONS)}, got {isolation!r}"
            )
        if parent is not None and isolation not in (None, parent.root.isolation):
            raise asyncpg.InterfaceError(
                "nested transaction has a different isolation level than the outer one"
            )
        self.db = db
        self.isolation = isolation
        self.parent = parent
        self.root: Transaction = parent.root if parent is not None else self
        self.open = False
        self.read_only = readonly
        self._reading = reading
        self.near = reading is not None  # it reads on replicas
        self._asked = asked if reading is None else reading  # what EXPLAIN speaks of
        self._deferrable = deferrable
        self._name = ""
        # of the root only
        self._coordinator: coordinator.Transaction | None = None
        self._savepoints = 0
        self._changes_map = False
        self._map: ClusterMap | None = None  # what its own definitions made of the map
        self._plans: PlanCache | None = None
        self._turn = asyncio.Lock()

    @property
    def id(self) -> str:
        """The transaction's id: ask `db.outcome(id)` for its outcome, also after a lost connection."""
        return self._started().id

    def _started(self) -> coordinator.Transaction:
        found = self.root._coordinator
        if found is None:
            raise asyncpg.InterfaceError("the transaction is not started")
        return found

    # ---- begin and end --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin. Nothing is sent until a statement needs a group."""
        if self.open:
            raise asyncpg.InterfaceError("cannot start; the transaction is already started")
        if self.parent is None:
            await self._begin(explicit=True)
        else:
            self.root._savepoints += 1
            self._name = f"pgherd_{self.root._savepoints}"
            await self._started().savepoint(self._name)
        self.open = True
        self.db.current.set(self)

    async def _begin(self, *, explicit: bool) -> None:
        await self.db.slots.take()
        self._coordinator = branches.begin(
            self.db,
            isolation=self.isolation,
            readonly=self.read_only,
            deferrable=self._deferrable,
            explicit=explicit,
            reading=self._reading,
        )

    async def commit(self) -> None:
        """Commit; of a nested one: release its savepoint. Raises OutcomeUnknown if nobody can tell whether it committed."""
        started = self._started()
        if started.failed:
            await self.rollback()
            raise asyncpg.InFailedSQLTransactionError("the transaction had failed and was rolled back")
        self._end()
        try:
            if self.parent is not None:
                await started.release(self._name)
            else:
                await self._commit()
        except PgherdError as error:
            if fails_over(self.db, error) or isinstance(error, TransactionLost):
                raise overtaken(error) from error
            raise_for_user(error)
        if self.parent is None and self._changes_map:
            await self.db.refresh()

    async def rollback(self) -> None:
        """Undo everything since `start`."""
        started = self._started()
        self._end()
        if self.parent is not None:
            await started.rollback_to(self._name)
            if self.root._plans is not None:
                await self._own_map()
            return
        try:
            await started.rollback()
        finally:
            self.db.slots.give()

    async def _commit(self) -> None:
        try:
            await self._started().commit()
        finally:
            self.db.slots.give()

    def _end(self) -> None:
        if not self.open:
            raise asyncpg.InterfaceError("the transaction is already over")
        self.open = False
        if self.db.current.get() is self:
            self.db.current.set(self.parent)

    async def __aenter__(self) -> Transaction:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if not self.open:  # the block ended it by hand
            return
        if kind is None:
            await self.commit()
        else:
            await self.rollback()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[Transaction]:
        """One statement's own transaction: it is nobody's `current`, and errors stay the engine's."""
        await self._begin(explicit=False)
        self.open = True
        try:
            yield self
        except ServerError as error:
            told = self._started().told(error.fields)
            await self.rollback()
            if told == error.fields:
                raise
            raise ServerError(told) from asyncpg.DeadlockDetectedError(told["M"])
        except BaseException:
            await self.rollback()
            raise
        self.open = False
        await self._commit()

    # ---- statements -------------------------------------------------------------------------------------------

    async def work(self, args: Sequence[Any] = ()) -> Work:
        """What the engine needs for one statement in this transaction."""
        started = self._started()
        return Work(
            tx=started,
            map=self.root._map or self.db.map,
            ids=await self.db.origins.source(),
            params=PythonParams(args),
            prefer=next(iter(started.branches), None),
            path=self.db.options.path,
            notice=started.notice,
            progress=started.progress,
            node=lambda group, plan: self.db.near.describe(group, plan, self.root._asked),
            meter=None if self.root.near else self.db.meter,
            renew=self._renewed,
        )

    async def _renewed(self) -> ClusterMap:
        """The map as it is now, in the middle of a statement that has done nothing yet."""
        await self.db.refresh()
        if self.root._map is not None:
            await self._own_map()
        return self.root._map or self.db.map

    async def _query(self, query: str, args: Sequence[Any], want: Want, timeout: float | None) -> Part:
        if timeout is None:
            return await self.query(query, args, want)
        async with asyncio.timeout(timeout):
            return await self.query(query, args, want)

    async def _script(self, query: str, timeout: float | None) -> str:
        async with asyncio.timeout(timeout):
            return await self.script(query)

    async def _many(self, query: str, args: Iterable[Sequence[Any]], timeout: float | None) -> None:
        async with asyncio.timeout(timeout), self.stepping():
            await many.in_transaction(self, query, list(args))

    async def _copy(self, job: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        async with asyncio.timeout(timeout), self.stepping():
            return await job(self)

    def cursor(self, query: str, *args: Any, prefetch: int = 50) -> Cursor:
        """Rows as they come: `async for row in tx.cursor(...)`, or `await` it for fetch(n)."""
        return Cursor(self, query, args, prefetch)

    async def query(self, query: str, args: Sequence[Any], want: Want) -> Part:
        """One statement; errors are the caller's kind."""
        del want
        async with self.stepping():
            return await rerouted(self.db, self._started(), lambda: self._one(query, args))

    async def _one(self, query: str, args: Sequence[Any]) -> tuple[bool, Callable[[], Awaitable[Part]]]:
        """Whether a statement concerns one shard alone, and what carries it out."""
        target = self._target(query, args)
        if target is not None:
            return True, lambda: self._in_shard(target, args)
        plan = await self.planned(query)
        return isinstance(plan, Single), lambda: self.step(plan, args, query)

    async def _in_shard(self, target: tuple[GroupId, str, bool, Timing | None], args: Sequence[Any]) -> Part:
        group, text, write, due = target
        if self._started().isolation != "read committed" and (found := _SHARD.search(text)) is not None:
            await moved.hold(self._started(), group, int(found[1]))
        link = await self._started().branch(group, write=write)
        await self._guard(group)
        sample = None if due is None else self.db.meter.begin(*due[1:])
        part = await link.part(text, PythonParams(args))
        if sample is not None:
            self.db.meter.end(sample)
        return part

    async def _guard(self, group: GroupId | None) -> None:
        """A savepoint in front of a statement for one shard (in `group`; None: in any that is open), while shards are about to be cut over."""
        started = self._started()
        if self.db.map.moving and started.isolation == "read committed":
            await moved.guard(started, [group] if group is not None else list(started.branches))

    def _target(self, query: str, args: Sequence[Any]) -> tuple[GroupId, str, bool, Timing | None] | None:
        """Group, shard's text, whether it writes, and what it is timed by, if the text is known to go to one shard; None: the long way."""
        route = self.db.routes.get(query) or self.db.near.routes.get(query)
        if route is None or self.root._plans is not None:
            return None
        target = route.target(args)
        if target is None:
            return None
        meter = self.db.meter
        meter.left -= 1
        due = route.due(args, meter) if meter.left < 0 and not self.root.near else None
        return target[0].group, target[1], route.write, due

    async def script(self, query: str) -> str:
        """Statements without arguments; the last one's tag."""
        tag = ""
        async with self.stepping():
            for statement in parse(query):
                tag = (await self.step(await self.planned(statement.text), ())).tag
        return tag

    async def planned(self, query: str) -> AnyPlan:
        """The statement's plan, with a map that knows its names if any does."""
        own = self.root._plans
        return (
            await self.db.planned(query) if own is None else statements.one(own, query, self.db.options.path)
        )

    async def step(self, plan: AnyPlan, args: Sequence[Any], query: str = "") -> Part:
        """Carry out one plan in this transaction; the next execution of `query` may take the short way."""
        statements.check(plan, in_transaction=True)
        if not plan.in_transaction:
            raise asyncpg.ActiveSQLTransactionError(f"{plan.tag} cannot run inside a transaction block")
        if self.root._plans is None and (
            isinstance(plan, Single | OneGroup) or (isinstance(plan, Gather | Federated) and not plan.write)
        ):
            await self._guard(None)
        part = await execute(plan, PythonParams(args), await self.work(args))
        if isinstance(plan, Single) and query and self.root._plans is None:
            self.db.remember(query, plan)
        if isinstance(plan, Ddl) or (isinstance(plan, Call) and plan.write):
            await self._own_map()
        if plan.pin:
            self._pin()
        return part

    async def _own_map(self) -> None:
        """The rest of the transaction plans with what it has just defined, which nobody else can see."""
        root = self.root
        root._changes_map = True
        root._map = await store.load(await self._started().branch(GroupId(0), write=False))
        root._plans = PlanCache(root._map, statements.planned)

    def _pin(self) -> None:
        """What the statement leaves behind must not be met by others: these connections are closed afterwards."""
        for branch in self._started().branches.values():
            branch.pinned = True
            assert isinstance(branch.link, AsyncpgLink)
            branch.link.held.dirty = True

    @asynccontextmanager
    async def stepping(self) -> AsyncGenerator[None]:
        """The frame of each statement: after an error the transaction takes nothing but a rollback, as in PostgreSQL."""
        started = self._started()
        async with self.root._turn:
            if not self.open:
                raise asyncpg.InterfaceError("the transaction is over")
            if started.failed:
                raise asyncpg.InFailedSQLTransactionError(
                    "current transaction is aborted, commands ignored until end of transaction block"
                )
            try:
                yield
            except PgherdError as error:
                told = started.told(error.fields) if isinstance(error, ServerError) else {}
                started.fail()
                if is_stale(error):
                    await self.db.refresh()
                    raise StaleMap(
                        "the cluster map changed during the transaction", hint="Run the transaction again."
                    ) from error
                if isinstance(error, ServerError) and error.code == "57014" and told.get("C") == "40P01":
                    raise asyncpg.DeadlockDetectedError("deadlock detected") from error.__cause__
                if fails_over(self.db, error, writing=not self.root.read_only):
                    raise overtaken(error) from error
                raise_for_user(error)
            except BaseException:
                started.failed = True
                raise
