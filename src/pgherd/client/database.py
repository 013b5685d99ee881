"""`Database`: the cluster as one asyncpg-like object. Statements of one shard go straight to its owner.

A statement whose text is known and whose key is among the arguments takes the short way: a dict look-up, the key, the shard,
an idle connection with the statement prepared on it. Everything else takes `_query`: plan, route, execute.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, TypeVar

import asyncpg

from pgherd.catalog.model import ClusterMap, Group, GroupId, Node
from pgherd.client import many, statements
from pgherd.client.again import again, missed, stands
from pgherd.client.balancing import Balancing
from pgherd.client.branches import Gates, KeepersLender, Lender, RecoveryLender, Slots
from pgherd.client.cursor import Cursor
from pgherd.client.follow import Follow
from pgherd.client.held import Held
from pgherd.client.link import AsyncpgLink, PythonParams
from pgherd.client.maps import MapKeeper
from pgherd.client.near import Near, Reading
from pgherd.client.options import Codec, Options, equipped
from pgherd.client.origins import Origins, zero
from pgherd.client.pool import GroupPool
from pgherd.client.prepared import PreparedQuery
from pgherd.client.queries import Queries, Record, Want, raise_for_user
from pgherd.client.routes import Lent, Route, route_for
from pgherd.client.session import Session
from pgherd.client.transaction import Transaction
from pgherd.engine.execute import execute
from pgherd.engine.link import Part
from pgherd.engine.metering import Meter, Reporter, here
from pgherd.engine.plans_cache import PlanCache
from pgherd.errors import GroupDown, PgherdError
from pgherd.plan.plans import AnyPlan, Call, Ddl, OneGroup, Single
from pgherd.topology.freshness import STRONG, Freshness
from pgherd.transaction import recovery

T = TypeVar("T")


class Database(Queries, Balancing):
    """A connected cluster. Many tasks may use it at once.

    Inside `async with db.transaction():` the task's statements, and those of tasks it starts there, belong to the transaction;
    several tasks in one transaction take turns on a group's connection.
    """

    def __init__(self, options: Options, map_: ClusterMap) -> None:
        self.options = options
        self.map = map_
        self.pools: dict[GroupId, GroupPool] = {}
        self.codecs: list[Codec] = []
        self.listeners: list[Callable[[str], None]] = []
        self.plans = PlanCache(map_, statements.planned)
        self.maps = MapKeeper(self.pools, self._renew)
        self.lender = Lender(self)
        self.gates = Gates(KeepersLender(self), unstick=self._unstick)
        self.slots = Slots(options.max_size, options.wait_max)
        self.origins = Origins(zero(self.pools))
        self.current: ContextVar[Transaction | None] = ContextVar("pgherd_transaction", default=None)
        self.routes: dict[str, Route] = {}
        self.meter = Meter(options.load_every)
        self.follow = Follow(options, self.pools, self.maps.heard)
        self.near = Near(self)
        self._turn = 0
        self._renew(map_)
        self._poll: asyncio.Task[None] | None = None
        self._reports: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the first map of its own, and keep it current from now on. Raises GroupDown."""
        zero = self.pools.get(GroupId(0))
        if zero is not None and zero.shut:  # else another group's primary may know the map
            with contextlib.suppress(GroupDown):
                await self.follow.watch.wait_primary(GroupId(0), self.options.connect_timeout)
        await self.refresh()
        self._poll = asyncio.create_task(self.maps.poll(lambda: self.map.epoch), name="pgherd map")
        reporter = Reporter(self.meter, self.lender, lambda: self.map, here("client"))
        self._reports = asyncio.create_task(reporter.run(), name="pgherd load")

    # ---- the map -----------------------------------------------------------------------------------------

    def _renew(self, map_: ClusterMap) -> None:
        """Work with another map from now on."""
        self.map = map_
        self.plans.renew(map_)
        self.routes.clear()
        for group, members in map_.groups.items():
            pool = self.pools.get(group)
            if pool is None or (pool.watched, pool.node) != (members.managed, members.primary):
                self._arrange(members)
        self.follow.renew(map_)
        self.near.renew(map_)

    def _arrange(self, members: Group) -> None:
        """The pool of a group that is new, or whose only node is another one."""
        pool = self.pools.get(members.id)
        if pool is not None and pool.watched and members.managed:
            return  # the watch knows its primary
        if pool is not None:
            pool.closed = True
            pool.drop_idle()
        options = self.options
        self.pools[members.id] = GroupPool(
            members.primary,
            self.connect,
            size=options.max_size,
            wait_max=options.wait_max,
            watch=self.follow.watch if members.managed else None,
        )

    async def refresh(self) -> None:
        """Read the cluster map again. Needed by nobody in the ordinary course: statements notice changes themselves, and
        the epoch is looked at every second."""
        await self.maps.refresh()

    async def connect(self, node: Node) -> asyncpg.Connection:
        """A new connection to one node, with the codecs so far. Raises GroupDown."""
        try:
            connection = await self.options.to(node)
        except GroupDown:
            self.follow.suspect(node.group)
            raise
        return await equipped(connection, self.codecs)

    # ---- the short way ---------------------------------------------------------------------------------

    def lend(self, query: str, args: Sequence[Any]) -> Lent | None:
        """An idle connection of the right group with the statement prepared, if all of that is at hand."""
        route = self.routes.get(query)
        if route is None:
            usual = self.near.usual
            return None if usual.freshness == STRONG else self.near.lend(query, args, usual)
        if self.current.get() is not None:
            return None
        target = route.target(args)
        if target is None:
            return None
        pool, text = target
        if not pool.idle:
            return None
        held = pool.idle.pop()
        statement = held.statements.get(text)
        if statement is None:
            pool.give(held)
            return None
        meter = self.meter
        meter.left -= 1
        if meter.left < 0:
            held.due = route.due(args, meter)
        return pool, held, statement, route

    async def fetch(
        self, query: str, *args: Any, timeout: float | None = None, read: str | Freshness | None = None
    ) -> list[Record]:
        """All rows. `read`: how fresh they must be, if not as the database object's own option says."""
        lent = self.lend(query, args) if read is None else self._near(query, args, read)
        if lent is not None:
            try:
                found = (await lent[1].bound(lent[2], args, 0, timeout))[0]
                if lent[1].sure or await stands(self, lent):
                    return found
            except Exception as error:
                read = await missed(self, error, lent) or read
            finally:
                lent[0].give(lent[1])
        return (await self._query(query, args, "rows", timeout, read)).rows

    async def fetchrow(
        self, query: str, *args: Any, timeout: float | None = None, read: str | Freshness | None = None
    ) -> Record | None:
        """The first row, or None."""
        lent = self.lend(query, args) if read is None else self._near(query, args, read)
        if lent is not None:
            try:
                found = (await lent[1].bound(lent[2], args, 1, timeout))[0]
                if lent[1].sure or await stands(self, lent):
                    return found[0] if found else None
            except Exception as error:
                read = await missed(self, error, lent) or read
            finally:
                lent[0].give(lent[1])
        rows = (await self._query(query, args, "row", timeout, read)).rows
        return rows[0] if rows else None

    async def fetchval(
        self,
        query: str,
        *args: Any,
        column: int = 0,
        timeout: float | None = None,
        read: str | Freshness | None = None,
    ) -> Any:
        """One value of the first row, or None if there is no row."""
        lent = self.lend(query, args) if read is None else self._near(query, args, read)
        if lent is not None:
            try:
                found = (await lent[1].bound(lent[2], args, 1, timeout))[0]
                if lent[1].sure or await stands(self, lent):
                    return found[0][column] if found else None
            except Exception as error:
                read = await missed(self, error, lent) or read
            finally:
                lent[0].give(lent[1])
        rows = (await self._query(query, args, "row", timeout, read)).rows
        return rows[0][column] if rows else None

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The command tag. Without arguments `query` may hold several statements; they run as one transaction."""
        lent = self.lend(query, args)
        if lent is not None:
            try:
                tag = (await lent[1].bound(lent[2], args, 0, timeout))[1]
                if lent[1].sure or await stands(self, lent):
                    return "" if tag is None else tag.decode()
            except Exception as error:
                await missed(self, error, lent)
            finally:
                lent[0].give(lent[1])
        return await super().execute(query, *args, timeout=timeout)

    def _near(self, query: str, args: Sequence[Any], read: str | Freshness) -> Lent | None:
        """As `lend`, for a read that says how fresh it must be."""
        reading = self.near.reading(read)
        if reading.freshness == STRONG and query in self.routes:
            return self.lend(query, args)
        return self.near.lend(query, args, reading)

    # ---- the long way ------------------------------------------------------------------------------------

    async def _query(
        self,
        query: str,
        args: Sequence[Any],
        want: Want,
        timeout: float | None,
        read: str | Freshness | None = None,
    ) -> Part:
        if timeout is None and (inside := self.active) is not None:
            return await inside.query(query, args, want)
        return await self.query(query, args, want, timeout, self.near.reading(read))

    async def query(
        self, query: str, args: Sequence[Any], want: Want, timeout: float | None, reading: Reading
    ) -> Part:
        """One statement, in the task's transaction or as one of its own; then for the session of `reading`, as fresh as it says."""
        async with asyncio.timeout(timeout):
            transaction = self.active
            if transaction is not None:
                return await transaction.query(query, args, want)
            return await again(self, lambda: self._autocommit(query, args, want, reading))

    async def _script(self, query: str, timeout: float | None) -> str:
        async with asyncio.timeout(timeout):
            transaction = self.active
            if transaction is not None:
                return await transaction.script(query)
            planned = await again(self, lambda: self._plan_all(query))
            if len(planned) == 1:
                return (
                    await again(self, lambda: self._autocommit(query, (), "tag", self.near.reading(STRONG)))
                ).tag
            return await again(self, lambda: self._together(query))

    async def _many(self, query: str, args: Iterable[Sequence[Any]], timeout: float | None) -> None:
        async with asyncio.timeout(timeout):
            lists = list(args)
            await again(self, lambda: many.execute_many(self, query, lists))

    async def _copy(self, job: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        return await self.copy(job, timeout)

    async def copy(self, job: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        """Run a COPY in the task's transaction, or in one of its own."""
        async with asyncio.timeout(timeout):
            transaction = self.active
            if transaction is not None:
                async with transaction.stepping():
                    return await job(transaction)
            try:
                async with self.alone() as own:
                    return await job(own)
            except PgherdError as error:  # the source is used up: it is not sent again
                raise_for_user(error)

    def cursor(self, query: str, *args: Any, prefetch: int = 50) -> Cursor:
        """Rows as they come: `async for row in db.cursor(...)`, or `await` it for fetch(n). Inside a transaction only."""
        transaction = self.active
        if transaction is None:
            raise asyncpg.NoActiveSQLTransactionError("cursor cannot be created outside of a transaction")
        return transaction.cursor(query, *args, prefetch=prefetch)

    @property
    def active(self) -> Transaction | None:
        """The transaction that this task is in."""
        transaction = self.current.get()
        return transaction if transaction is not None and transaction.open else None

    async def _plan_all(self, query: str) -> Any:
        return self.plans.get_all(query, self.options.path)

    async def planned(self, query: str) -> AnyPlan:
        """The plan of one statement, made with a map that knows its names if any does."""
        plan = statements.one(self.plans, query, self.options.path)
        epoch = self.map.epoch
        if isinstance(plan, OneGroup) and plan.unknown and await self.maps.check(epoch):
            plan = statements.one(self.plans, query, self.options.path)
        return plan

    async def _autocommit(self, query: str, args: Sequence[Any], want: Want, reading: Reading) -> Part:
        plan = await self.planned(query)
        statements.check(plan, in_transaction=False)
        if plan.replica and reading.freshness != STRONG:
            found = await self.near.read(plan, query, args, want, reading)
            if found is not None:
                return found
        if isinstance(plan, Call) and plan.name == "session_token":
            return await statements.answer(self, plan, await reading.marks.token(), want)
        try:
            if isinstance(plan, Single) or (isinstance(plan, OneGroup) and not plan.reads):
                found = await statements.straight(self, plan, query, args, want)
                if found is not None:
                    return found
            elif not plan.in_transaction:
                return await statements.everywhere(self, plan)
            return await self.distributed(plan, args, asked=reading)
        finally:
            reading.marks.used(self.pools)

    def remember(self, query: str, plan: Single) -> None:
        """Let the next execution of `query` take the short way."""
        known = query in self.routes or query in self.near.routes
        if not known and len(self.routes) + len(self.near.routes) < 10_000 and len(query) < 10_000:
            route = route_for(plan, self.map, self.pools)
            if route is not None and plan.replica and self.follow.watching:
                self.near.routes[query] = route
                if self.near.usual.freshness != STRONG:
                    return
            if route is not None:
                self.routes[query] = route

    async def distributed(
        self,
        plan: AnyPlan,
        args: Sequence[Any],
        reading: Reading | None = None,
        asked: Reading | None = None,
    ) -> Part:
        """One statement as a distributed transaction of its own; with `reading` on replicas."""
        async with self.alone(reading, asked) as transaction:
            part = await execute(plan, PythonParams(args), await transaction.work(args))
        if isinstance(plan, Ddl) or (isinstance(plan, Call) and plan.write):
            await self.refresh()
        return part

    async def _together(self, query: str) -> str:
        """Several statements as one transaction."""
        async with self.transaction() as transaction:
            return await transaction.script(query)

    def alone(
        self, reading: Reading | None = None, asked: Reading | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for one statement: committed at the block's end, rolled back on any error.

        On replicas it has branches, and so a transaction block in each: PostgreSQL's own snapshots need one.
        """
        near = reading is not None
        level = "repeatable_read" if near else None
        return Transaction(self, isolation=level, readonly=near, reading=reading, asked=asked).alone()

    def anywhere(self) -> GroupId:
        """A group for what any group can answer; another one each time."""
        self._turn += 1
        groups = list(self.pools)
        return groups[self._turn % len(groups)]

    def link(self, pool: GroupPool, held: Held) -> AsyncpgLink:
        """A lent connection as the engine's link."""
        return AsyncpgLink(pool, held, frozenset(codec.name for codec in self.codecs))

    def notice(self, text: str) -> None:
        """Notices of distributed statements go to the log listeners."""
        for listener in self.listeners:
            listener(text)

    # ---- transactions ------------------------------------------------------------------------------------

    def transaction(
        self,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        read: str | Freshness | None = None,
        session: Reading | None = None,
    ) -> Transaction:
        """`async with db.transaction() as tx:`; inside another one of the same task it is a savepoint.

        `read`: how fresh, for one that is `readonly`: then replicas may answer it, each group at a moment of its own.
        `session`: a `Session` hands itself in here.
        """
        reading = session or self.near.reading(read)
        if not readonly and read is not None and reading.freshness != STRONG:
            raise ValueError("read= needs readonly=True")
        near = readonly and reading.freshness != STRONG and self.follow.watching
        return Transaction(
            self,
            isolation=isolation,
            readonly=readonly,
            deferrable=deferrable,
            parent=self.active,
            reading=reading if near else None,
        )

    def session(self, token: str | None = None, *, read: str | Freshness | None = None) -> Session:
        """A session of its own among all that share this object: `async with db.session() as s:`. See `Session`.

        `token`: begin where the session that made it was. Raises BadToken.
        """
        return Session(self, token, read)

    async def session_token(self) -> str:
        """What this object as one session has seen, for another one to begin with. Raises GroupDown."""
        return await self.near.marks.token()

    async def outcome(self, transaction_id: str) -> str | None:
        """'committed' (and every later read sees it), 'aborted' for good, or 'in progress'; None: too old to tell.

        Asking settles: what a dead coordinator left behind is finished first. Raises BadSetting for what is no id.
        """
        return await recovery.status(self.lender, tuple(sorted(self.map.groups)), transaction_id)

    async def _unstick(self, groups: tuple[GroupId, ...]) -> bool:
        return bool((await recovery.recover(RecoveryLender(self), groups, grace_s=0.5)).waiting)

    async def prepare(self, query: str) -> PreparedQuery:
        """A statement to run many times. Every statement is prepared where it runs anyway; this checks it now."""
        return PreparedQuery(self, query, await self.planned(query))

    async def explain(self, query: str, *args: Any, read: str | Freshness | None = None) -> str:
        """How a statement would be carried out: its route and why, which node answers and why, PostgreSQL's own plans."""
        rows = await self.fetch(f"EXPLAIN {query}", *args, read=read)
        return "\n".join(row[0] for row in rows)

    # ---- settings and the end -------------------------------------------------------------------------------

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[..., Any],
        decoder: Callable[..., Any],
        format: str = "text",
    ) -> None:
        """Encode and decode a type in your own way, on every connection from now on."""
        codec = Codec(name=typename, schema=schema, encoder=encoder, decoder=decoder, format=format)
        self.codecs.append(codec)
        for pool in (*self.pools.values(), *self.near.pools):
            pool.retire()

    async def close(self) -> None:
        """Close all connections."""
        duties = [task for task in (self._poll, self._reports) if task is not None]
        for task in duties:
            task.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        await self.follow.close()
        await self.gates.close()
        await self.near.close()
        for pool in list(self.pools.values()):
            await pool.close()

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
