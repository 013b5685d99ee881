"""Runs one planned statement for a session: in its transaction or in one of its own, relayed or collected.

Retries here are those that nobody can notice: the map was old, nothing had been done, nothing had been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pgherd.backend.connection import ServerLink
from pgherd.catalog import keys
from pgherd.catalog.admin import is_online
from pgherd.catalog.model import ClusterMap, GroupId, Shard
from pgherd.engine import abroad
from pgherd.engine.execute import execute
from pgherd.engine.gather import steady
from pgherd.engine.params import BoundParams
from pgherd.engine.route import locate, locate_slowly
from pgherd.engine.stale import is_stale, surely_stale
from pgherd.engine.work import Work
from pgherd.errors import (
    AbortedTransaction,
    ConnectionLost,
    PgherdError,
    ServerError,
    StaleMap,
    WrongState,
)
from pgherd.gateway import wire
from pgherd.gateway.controls import Controls
from pgherd.gateway.nearness import choose_near, would_answer
from pgherd.gateway.outcomes import unknown_outcome
from pgherd.gateway.prepared import Prepared, Target
from pgherd.gateway.relaying import Mode, Relaying
from pgherd.gateway.streams import copy_in, copy_out
from pgherd.plan.plans import (
    Call,
    Control,
    CopyIn,
    CopyOut,
    Ddl,
    Empty,
    Federated,
    Gather,
    OnAll,
    OneGroup,
    Plan,
    Single,
)
from pgherd.sql.parse import parse
from pgherd.transaction import moved

if TYPE_CHECKING:
    from pgherd.gateway.session import ClientSession
    from pgherd.gateway.worker import Worker
    from pgherd.transaction.coordinator import Transaction

AGAIN_S = 0.02
RENEW_S = 2.0
WAIT_IN_TRANSACTION_S = 0.5


class Runner(Relaying):
    """See the module. One for each session."""

    __slots__ = ("controls", "session", "worker")

    def __init__(self, session: ClientSession, worker: Worker) -> None:
        self.session = session
        self.worker = worker
        self.controls = Controls(self)

    # ---- planning --------------------------------------------------------------------------------------

    def split(self, text: str) -> tuple[str, ...]:
        """The statements of a text. Raises SyntaxRefused."""
        return tuple(statement.text for statement in parse(text))

    async def prepare(self, sql: str, oids: tuple[int, ...] = ()) -> Prepared:
        """Plan a statement; with a fresh map if the one at hand is known to be old."""
        session = self.session
        if session.gateway.stale:
            session.gateway.stale = False
            await session.gateway.keeper.check()
        if session.plans is None:
            session.replan()
        assert session.plans is not None
        return session.plans.prepare(sql, oids)

    # ---- running ---------------------------------------------------------------------------------------

    async def run(self, prepared: Prepared, params: BoundParams, mode: Mode) -> None:
        """Run a statement and write its answer. Raises what it fails with."""
        session = self.session
        if session.failed and not _ends(prepared.plan):
            raise AbortedTransaction(
                "current transaction is aborted, commands ignored until end of transaction block"
            )
        fresh = session.tx is None
        session.tainted = prepared.taints or (session.tainted and not fresh)
        choose_near(session, prepared.plan, fresh=fresh)
        try:
            await self._repeatedly(prepared, params, mode, fresh=fresh)
        finally:
            session.near = False

    async def _repeatedly(self, prepared: Prepared, params: BoundParams, mode: Mode, *, fresh: bool) -> None:
        """Run a statement, again if what hindered it is past and nothing of it was done."""
        session = self.session
        await self._settled(prepared.plan)
        if not fresh and not _rolls_back(prepared.plan):
            await session.steady()
        if prepared.plans is not session.plans:  # it waited, and a table may now lie elsewhere
            prepared = await self.prepare(prepared.sql, prepared.oids)
        deadline = session.loop.time() + session.gateway.settings.failover_wait
        before = frozenset() if session.tx is None else frozenset(session.tx.branches)
        while True:
            if session.tx is not None:
                session.tx.guarded = ()
            try:
                await self._once(prepared, params, mode)
                return
            except (ServerError, StaleMap) as error:
                near = session.near and getattr(error, "code", "") != "57014"  # the primary shall say
                if fresh and await self._came_back(error, prepared.plan, deadline):
                    prepared = await self.prepare(prepared.sql, prepared.oids)
                    continue
                stale = is_stale(error) and session.loop.time() < deadline
                if not (stale or (fresh and near)) or error.partial:
                    raise
                if fresh:
                    await self.abort_implicit()
                elif not isinstance(error, StaleMap) and not await self._taken_back(prepared.plan, before):
                    raise
                if not near:
                    await self._renew(error, prepared, deadline)
                session.near = False
            except ConnectionLost as lost:  # of a server that surely did nothing that lasts
                if not (fresh and lost.watched) or lost.partial or session.loop.time() > deadline:
                    raise
                await self.abort_implicit()
                await asyncio.sleep(AGAIN_S)
                if lost.replica:  # the primaries shall say, if they can
                    groups = session.gateway.groups()
                    session.near &= any(session.gateway.watch.primary(group) is None for group in groups)
            prepared = await self.prepare(prepared.sql, prepared.oids)

    async def _came_back(self, error: PgherdError, plan: Plan, deadline: float) -> bool:
        """A foreign table's server was lost under a read: wait until its group has a primary, then the read may run again."""
        session, servers = self.session, self.session.gateway.servers
        abroad = isinstance(plan, Federated | Gather) and not plan.write
        lost = isinstance(error, ServerError) and (error.code[:2] == "08" or error.code[:3] == "57P")
        managed = any(servers.watch.managed(group) for group in session.gateway.groups())
        if not (abroad and lost and managed) or error.partial or session.loop.time() > deadline:
            return False
        await self.abort_implicit()
        await asyncio.sleep(AGAIN_S)
        await servers.ready(session.gateway.groups(), True)
        return True

    async def _taken_back(self, plan: Plan, before: frozenset[GroupId]) -> bool:
        tx = self.session.tx
        return tx is not None and await moved.taken_back(tx, before, one_shard=isinstance(plan, Single))

    def _guards(self, plan: Plan, tx: Transaction) -> bool:
        """Whether a statement in a branch that has begun is to be sent behind a savepoint: a shard is about to be cut over, and if it is one
        of this statement's, it can then be sent again to its new place."""
        moving = (self.session.local_map or self.session.gateway.keeper.map).moving
        again = isinstance(plan, Single | OneGroup) or (
            isinstance(plan, Gather | Federated) and not plan.write
        )
        return bool(moving) and again and tx.isolation == "read committed"

    async def _settled(self, plan: Plan) -> None:
        """Wait while the map is being changed: a statement that meets its table half way would find it empty.

        A transaction may hold what the change waits for: it waits once, and not for ever.
        """
        session = self.session
        gateway = session.gateway
        if not gateway.changing:
            return
        tx = session.tx
        if tx is None or not tx.branches:
            await gateway.settled()
        elif session.waited is not tx and isinstance(plan, OneGroup) and plan.group is not None:
            session.waited = tx
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_IN_TRANSACTION_S):
                    await gateway.settled()

    async def _renew(self, error: PgherdError, prepared: Prepared, deadline: float) -> None:
        """The map after a sign that the statement's was old; if it was not, the error was the user's own.

        Where nothing else can be the cause, the change is still on its way to the group that tells the map: wait for it.
        """
        session = self.session
        keeper, loop = session.gateway.keeper, session.loop
        planned = prepared.plans.epoch
        if isinstance(error, StaleMap):  # our own map lacks something, no server's is ahead
            deadline = min(deadline, loop.time() + RENEW_S)
        while keeper.map.epoch == planned and not await keeper.check():
            if not surely_stale(error) or loop.time() > deadline:
                if isinstance(error, StaleMap):
                    return
                raise error
            await asyncio.sleep(AGAIN_S)

    async def _once(self, prepared: Prepared, params: BoundParams, mode: Mode) -> None:
        plan, tx = prepared.plan, self.session.tx
        if tx is not None and isinstance(plan, Gather | Federated) and self._guards(plan, tx):
            await moved.guard(tx, tuple(tx.branches))
        match plan:
            case Single() | OneGroup():
                await self._routed(prepared, params, mode)
            case Gather() if plan.combine is None and mode.limit == 0:
                await self._gathered(plan, params, mode)
            case Federated():
                await self._federated(plan, params, mode)
            case CopyIn() | CopyOut():
                await self._copied(plan, mode)
            case Empty():
                self.session.write(b"I\x00\x00\x00\x04")
            case Call() if plan.name == "session_token":
                await self.controls.variables.session_token(plan, mode)
            case _:
                handler = self.controls.handler(plan)
                if handler is not None:
                    await handler(plan, params, mode)
                elif isinstance(plan, OnAll) and not plan.in_transaction:
                    await self._outside(plan, mode)
                else:
                    await self._executed(plan, params, mode)

    # ---- transactions around statements ------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self, mode: Mode) -> AsyncGenerator[Transaction]:
        """The session's transaction, or one for this statement, which ends with it if nothing else belongs to it."""
        session = self.session
        if session.tx is not None:
            yield session.tx
            return
        tx = session.begin(implicit=True, single=mode.alone)
        yield tx
        if mode.alone:
            await self.end_implicit()

    async def end_implicit(self) -> None:
        """Commit the transaction of this unit, if it had one of its own."""
        session = self.session
        tx = session.tx
        if tx is None or not session.implicit:
            return
        changed = session.local_map is not None
        tag = "ROLLBACK"
        await self.controls.close_cursors()
        try:
            tx.failed = session.failed
            tag = await tx.commit()
        finally:
            if tag == "ROLLBACK":
                session.undo_settings()
            session.finish_transaction()
        if changed:
            await session.gateway.keeper.refresh()

    async def abort_implicit(self) -> None:
        """Roll back the transaction of this unit, if it had one of its own."""
        session = self.session
        if session.tx is not None and session.implicit:
            await self.controls.close_cursors()
            await session.tx.rollback()
            session.undo_settings()
            session.finish_transaction()

    def work(self, tx: Transaction, params: BoundParams) -> Work:
        """What the executor needs."""
        gateway = self.session.gateway
        return Work(
            tx=tx,
            map=self.session.local_map or gateway.keeper.map,
            ids=gateway.ids,
            params=params,
            prefer=None if gateway.watch.primary(GroupId(0)) is not None else gateway.any_group(),
            path=self.session.plans.path if self.session.plans is not None else ("public",),
            node=partial(would_answer, self.session),
            notice=self.session.notice_text,
            progress=self.session.progress,
            renew=self._renewed,
        )

    async def _renewed(self) -> ClusterMap:
        """The map as it is now, in the middle of a statement that has done nothing yet."""
        session = self.session
        await session.gateway.keeper.refresh()
        if session.local_map is not None and session.tx is not None:
            await self._own_map(session.tx)
        return session.local_map or session.gateway.keeper.map

    # ---- relayed ---------------------------------------------------------------------------------------

    async def _routed(self, prepared: Prepared, params: BoundParams, mode: Mode) -> None:
        """A statement for one shard or one group: the server's bytes go to the client."""
        session = self.session
        plan = prepared.plan
        assert isinstance(plan, Single | OneGroup)
        if isinstance(plan, OneGroup) and plan.unknown and await session.gateway.keeper.check():
            raise StaleMap("the map was old")
        if plan.pin:
            await self._pin(plan)
        target = await self._target(prepared, params, mode)
        reads = isinstance(plan, OneGroup) and plan.reads
        if session.tx is None and (mode.alone or not plan.in_transaction) and not reads:
            link = await session.lend(target.group)
            try:
                await self.relay(link, target.sql, params, mode, target=target)
            except ConnectionLost as lost:
                raise self._lost(lost, link, write=plan.write) from lost
            finally:
                session.give_back(link)
            return
        if not plan.in_transaction:
            raise WrongState(f"{plan.tag} cannot run inside a transaction block")
        async with self.transaction(mode) as tx:
            if target.shard is not None:
                await moved.hold(tx, target.group, target.shard)
            guarded = target.group in tx.branches and self._guards(plan, tx)
            link: Any = await tx.branch(target.group, write=plan.write)
            if guarded:
                await moved.guard(tx, [target.group])
            if isinstance(plan, OneGroup) and plan.reads:
                work = self.work(tx, params)
                await abroad.branches(work, (target.group,), plan.reads, epoch=plan.epoch, write=plan.write)
            if plan.pin:
                tx.branches[target.group].pinned = True
            await self.relay(link, target.sql, params, mode, target=target)

    def _lost(self, lost: ConnectionLost, link: ServerLink, *, write: bool) -> PgherdError:
        """What became of a statement outside of a transaction whose connection was lost."""
        if link.watched:
            self.session.gateway.watch.suspect(link.group)
        done = write and not (link.watched and link.surely_not_done)
        return unknown_outcome(lost) if done else lost

    async def _target(self, prepared: Prepared, params: BoundParams, mode: Mode) -> Target:
        plan = prepared.plan
        if isinstance(plan, OneGroup):
            return self.session.group_target(prepared, plan)
        assert isinstance(plan, Single)
        shard = await self._shard(plan, params, prepared, mode)
        session = self.session
        session.fast_write = plan.write
        session.fast_key = session.gateway.meter.key(plan, params, prepared.keyspace)
        return prepared.shard_target(shard.group, shard.id)

    async def _shard(self, plan: Single, params: BoundParams, prepared: Prepared, mode: Mode) -> Shard:
        keyspace = prepared.keyspace
        try:
            return locate(plan, params, keyspace)
        except keys.Undecodable:
            async with self.transaction(replace(mode, alone=False)) as tx:
                return await locate_slowly(plan, params, keyspace, self.work(tx, params))

    async def _pin(self, plan: OneGroup | Single) -> None:
        session = self.session
        group = GroupId(0) if not isinstance(plan, OneGroup) or plan.group is None else plan.group
        if group not in session.pinned:
            branch = session.tx.branches.get(group) if session.tx is not None else None
            link: Any = branch.link if branch is not None else await session.lend(group)
            session.pinned[group] = link

    async def _gathered(self, plan: Gather, params: BoundParams, mode: Mode) -> None:
        """Every group's rows, one group after another, as they come."""
        count = 0
        async with self.transaction(mode) as tx, tx.reading(plan.groups) as links:
            for number, group in enumerate(plan.groups):
                count += await self._arm(links[group], plan.arm_on(group), params, mode, first=number == 0)
        self.session.write(wire.command_complete(f"{plan.tag} {count}"))

    async def _federated(self, plan: Federated, params: BoundParams, mode: Mode) -> None:
        """One node reads all of it."""
        if mode.limit:
            await self._executed(plan, params, mode)
            return
        async with (
            self.transaction(mode) as tx,
            tx.federated(self.session.gateway.spread(plan.groups), plan.reads) as link,
        ):
            if self.session.seen is not None:  # the other groups' rows come from their primaries
                self.session.seen.primary(group for group in plan.reads if group != link.group)
            await steady(link, plan.sql)
            await self.relay(link, plan.sql, params, mode)

    async def _copied(self, plan: CopyIn | CopyOut, mode: Mode) -> None:
        async with self.transaction(mode) as tx:
            work = self.work(tx, BoundParams())
            if isinstance(plan, CopyIn):
                tag = await copy_in(self, plan, work)
            else:
                tag = await copy_out(self, plan, work)
        self.session.write(wire.command_complete(tag))

    # ---- collected -------------------------------------------------------------------------------------

    async def _executed(self, plan: Any, params: BoundParams, mode: Mode) -> None:
        """A statement that the engine carries out; its answer is sent when it is complete and, if alone, committed."""
        session = self.session
        defines = isinstance(plan, Ddl | Call)
        if defines and session.tx is None:  # nobody else shall wait for it while it waits for a group
            await session.gateway.servers.ready(session.gateway.groups(), False)
        quietly = defines and not (isinstance(plan, Call) and is_online(plan.name))
        async with session.gateway.changing_map(self.session) if quietly else _nothing():
            async with self.transaction(mode) as tx:
                part = await execute(plan, params, self.work(tx, params))
                if defines and session.tx is not None and not (mode.alone and session.implicit):
                    await self._own_map(tx)
            if defines and session.tx is None:
                await session.gateway.keeper.refresh()
        if isinstance(plan, Ddl) and plan.statement.kind == "drop_role_stmt":
            session.gateway.backends.forget_roles()
        self.answer(part, plan, mode)

    async def _own_map(self, tx: Transaction) -> None:
        """The rest of this transaction plans with what it has just defined, which nobody else can see."""
        from pgherd.catalog import store

        self.session.local_map = await store.load(await tx.branch(GroupId(0), write=False))
        self.session.replan()

    async def _outside(self, plan: OnAll, mode: Mode) -> None:
        """What PostgreSQL forbids inside a transaction, group by group."""
        session = self.session
        if session.tx is not None or not mode.alone:
            raise WrongState(f"{plan.tag} cannot run inside a transaction block")
        for group, sql in plan.sql:
            link = await session.lend(group)
            try:
                await link.run(sql)
            finally:
                session.give_back(link)
        session.write(wire.command_complete(plan.tag))

    # ---- cursors and SQL-level prepared statements ----------------------------------------------------------

    def named_sql(self, name: str) -> Any:
        return self.controls.named_sql(name)

    def cursor_link(self, name: str) -> ServerLink:
        return self.controls.cursor_link(name)


@asynccontextmanager
async def _nothing() -> AsyncGenerator[None]:
    yield


def _ends(plan: Plan) -> bool:
    return isinstance(plan, Control) and plan.action in ("commit", "rollback", "rollback_to")


def _rolls_back(plan: Plan) -> bool:
    return isinstance(plan, Control) and plan.action == "rollback"


Handler = Callable[[Any, BoundParams, Mode], Awaitable[None]]
