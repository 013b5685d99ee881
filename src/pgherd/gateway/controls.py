"""What a session answers itself: transaction control, settings, SQL-level prepared statements, cursors."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgherd.backend.connection import ServerLink
from pgherd.backend.pool import DEFAULT_STATE
from pgherd.catalog import store
from pgherd.catalog.model import GroupId
from pgherd.engine.params import BoundParams
from pgherd.engine.route import evaluated, locate_slowly
from pgherd.errors import (
    ConnectionLost,
    PgherdError,
    Refused,
    SyntaxRefused,
    UnknownCursor,
    UnknownStatement,
    WrongState,
)
from pgherd.gateway import wire
from pgherd.gateway.outcomes import transaction_lost
from pgherd.gateway.prepared import Prepared
from pgherd.gateway.variables import Variables
from pgherd.plan.plans import (
    AnyPlan,
    Const,
    Control,
    Deallocate,
    Declare,
    Discard,
    Execute,
    Federated,
    Fetch,
    Gather,
    OneGroup,
    Plan,
    Prepare,
    SetVariable,
    Show,
    Single,
)
from pgherd.sql.tree import find

if TYPE_CHECKING:
    from pgherd.gateway.running import Handler, Mode, Runner
    from pgherd.gateway.session import ClientSession

_ACTIVE = "25001"


@dataclass(frozen=True, slots=True)
class NamedSql:
    """A statement of SQL's PREPARE, with so many parameters."""

    prepared: Prepared
    sql: str
    oids: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a DECLAREd cursor lives."""

    link: ServerLink
    hold: bool


class Controls:
    """Belongs to a Runner."""

    __slots__ = ("_handlers", "_oids", "_stack", "runner", "session", "variables")

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.session: ClientSession = runner.session
        self.variables = Variables(runner)
        self._stack: AsyncExitStack | None = None
        self._oids: dict[str, int] = {}
        self._handlers: dict[type[Plan], Handler] = {
            Control: self.control,
            SetVariable: self.variables.set,
            Show: self.variables.show,
            Discard: self.discard,
            Prepare: self.prepare,
            Execute: self.execute,
            Deallocate: self.deallocate,
            Declare: self.declare,
            Fetch: self.fetch,
        }

    def handler(self, plan: AnyPlan) -> Handler | None:
        """What carries out a plan of this kind, if it is the session's own business."""
        return self._handlers.get(type(plan))

    def _tag(self, tag: str) -> None:
        self.session.write(wire.command_complete(tag))

    def _warn(self, code: str, text: str) -> None:
        self.session.write(wire.notice_response({"S": "WARNING", "V": "WARNING", "C": code, "M": text}))

    # ---- transactions ----------------------------------------------------------------------------------

    async def control(self, plan: Control, _params: BoundParams, mode: Mode) -> None:
        session = self.session
        match plan.action:
            case "begin":
                await self._begin(plan)
            case "commit" | "rollback":
                await self._end(plan)
            case "set_transaction":
                await self._set_transaction(plan, mode)
            case _:
                await self._savepoint(plan)
        del session

    async def _begin(self, plan: Control) -> None:
        session = self.session
        if session.tx is not None and not session.implicit:
            self._warn(_ACTIVE, "there is already a transaction in progress")
        elif session.tx is not None:
            # Inside a multi-statement query, what came before belongs to the transaction from here on.
            session.implicit = False
        else:
            session.begin(isolation=plan.isolation, modes=plan.modes, read_only=bool(plan.read_only))
        self._tag(plan.tag if plan.tag in ("BEGIN", "START TRANSACTION") else "BEGIN")

    async def _end(self, plan: Control) -> None:
        session = self.session
        tx = session.tx
        if tx is None or session.implicit:
            self._warn("25P01", "there is no transaction in progress")
            await (
                self.runner.end_implicit()
            ) if plan.action == "commit" else await self.runner.abort_implicit()
            self._tag("COMMIT" if plan.action == "commit" else "ROLLBACK")
            return
        isolation, modes, read_only = tx.isolation, tx.modes, tx.read_only
        changed = session.local_map is not None
        await self.close_cursors()
        tag = "ROLLBACK"
        try:
            if plan.action == "commit":
                tx.failed = session.failed
                tag = await tx.commit()
            else:
                await tx.rollback()
        except ConnectionLost as lost:  # nothing was committed
            raise transaction_lost(lost) from lost
        finally:
            if tag == "ROLLBACK":
                session.undo_settings()
            session.finish_transaction()
        if changed and tag == "COMMIT":
            await session.gateway.keeper.refresh()
        if plan.chain:
            session.begin(isolation=isolation, modes=modes, read_only=read_only)
        self._tag(tag)

    async def _set_transaction(self, plan: Control, mode: Mode) -> None:
        session = self.session
        tx = session.tx
        if tx is None or session.implicit:
            self._warn("25P01", "SET TRANSACTION can only be used in transaction blocks")
        elif not tx.branches:
            session.begin(
                isolation=plan.isolation or tx.isolation,
                modes=plan.modes or tx.modes,
                read_only=tx.read_only if plan.read_only is None else plan.read_only,
            )
        else:
            for branch in tx.branches.values():
                await branch.link.run(f"SET TRANSACTION {plan.modes}")
        del mode
        self._tag("SET")

    async def _savepoint(self, plan: Control) -> None:
        session = self.session
        tx = session.tx
        if tx is None or session.implicit:
            what = {
                "savepoint": "SAVEPOINT",
                "release": "RELEASE SAVEPOINT",
                "rollback_to": "ROLLBACK TO SAVEPOINT",
            }[plan.action]
            raise NoTransaction(f"{what} can only be used in transaction blocks")
        if plan.action == "savepoint":
            await tx.savepoint(plan.name)
            session.marks.append(
                (plan.name, session.state, session.state_local, session.options, session.options_kept)
            )
            self._tag("SAVEPOINT")
        elif plan.action == "release":
            await tx.release(plan.name)
            self.variables.release(plan.name)
            self._tag("RELEASE")
        else:
            await tx.rollback_to(plan.name)
            session.failed = False
            self.variables.rollback_to(plan.name)
            if session.local_map is not None:  # a definition may be among what was undone
                session.local_map = await store.load(await tx.branch(GroupId(0), write=False))
                session.replan()
            self._tag("ROLLBACK")

    async def discard(self, plan: Discard, _params: BoundParams, _mode: Mode) -> None:
        session = self.session
        if plan.what == "all":
            if session.tx is not None and not session.implicit:
                raise WrongState("DISCARD ALL cannot run inside a transaction block")
            session.named.clear()
            session.sql_prepared.clear()
            session.state = session.state_first
            session.set_options(session.options_first)
            session.replan()
            await self._unpin()
        elif plan.what == "temp":
            for link in session.pinned.values():
                await link.run("DISCARD TEMP")
        self._tag(f"DISCARD {plan.what.upper()}")

    async def _unpin(self) -> None:
        """Give pinned connections back clean. The server has let go of their locks when this returns."""
        session = self.session
        for group, link in list(session.pinned.items()):
            del session.pinned[group]
            await link.run("DISCARD ALL")
            link.prepared.clear()
            link.applied = DEFAULT_STATE
            session.give_back(link)

    # ---- PREPARE, EXECUTE ------------------------------------------------------------------------------

    def named_sql(self, name: str) -> NamedSql:
        found = self.session.sql_prepared.get(name)
        if not isinstance(found, NamedSql):
            raise UnknownStatement(f'prepared statement "{name}" does not exist')
        return found

    async def prepare(self, plan: Prepare, _params: BoundParams, _mode: Mode) -> None:
        if plan.name in self.session.sql_prepared:
            raise Duplicate(f'prepared statement "{plan.name}" already exists')
        oids = tuple([await self._oid(name) for name in plan.types])
        prepared = await self.runner.prepare(plan.inner.text, oids)
        count = max((ref.number for ref in find(plan.inner.tree, "ParamRef")), default=0)
        self.session.sql_prepared[plan.name] = NamedSql(
            prepared, plan.inner.text, oids, max(count, len(oids))
        )
        self._tag("PREPARE")

    async def _oid(self, name: str) -> int:
        if name not in self._oids:
            session = self.session
            link = await session.lend(GroupId(0))
            try:
                quoted = name.replace("'", "''")
                rows = await link.run(f"SELECT '{quoted}'::pg_catalog.regtype::pg_catalog.oid")
            finally:
                session.give_back(link)
            self._oids[name] = int(rows[0][0] or 0)
        return self._oids[name]

    async def execute(self, plan: Execute, params: BoundParams, mode: Mode) -> None:
        named = self.named_sql(plan.name)
        if len(plan.args) != named.count:
            raise SyntaxRefused(
                f'wrong number of parameters for prepared statement "{plan.name}"',
                detail=f"Expected {named.count} parameter{'s' * (named.count != 1)} but got {len(plan.args)}.",
            )
        values: list[bytes | None] = []
        for arg in plan.args:
            text = arg.text if isinstance(arg, Const) else await self._value(arg.sql, mode)
            values.append(None if text is None else text.encode())
        if named.prepared.plans is not self.session.plans:
            again = await self.runner.prepare(named.sql, named.oids)
            named = NamedSql(again, named.sql, named.oids, named.count)
            self.session.sql_prepared[plan.name] = named
        bound = BoundParams(named.oids, (), values, params.result_formats)
        await self.runner.run(named.prepared, bound, mode)

    async def _value(self, sql: str, mode: Mode) -> str | None:
        async with self.runner.transaction(mode) as tx:
            return await evaluated(sql, BoundParams(), self.runner.work(tx, BoundParams()))

    async def deallocate(self, plan: Deallocate, _params: BoundParams, _mode: Mode) -> None:
        session = self.session
        if plan.name is None:
            session.sql_prepared.clear()
            session.named.clear()
            self._tag("DEALLOCATE ALL")
            return
        found = session.sql_prepared.pop(plan.name, None) or session.named.pop(plan.name.encode(), None)
        if found is None:
            raise UnknownStatement(f'prepared statement "{plan.name}" does not exist')
        self._tag("DEALLOCATE")

    # ---- cursors ---------------------------------------------------------------------------------------

    def cursor_link(self, name: str) -> ServerLink:
        found = self.session.cursors.get(name)
        if not isinstance(found, Cursor):
            raise UnknownCursor(f'cursor "{name}" does not exist')
        return found.link

    async def declare(self, plan: Declare, params: BoundParams, mode: Mode) -> None:
        session = self.session
        if (session.tx is None or session.implicit) and not plan.hold and mode.alone:
            raise NoTransaction("DECLARE CURSOR can only be used in transaction blocks")
        if plan.name in session.cursors:
            raise DuplicateCursorName(f'cursor "{plan.name}" already exists')
        async with self.runner.transaction(mode) as tx:
            link, sql = await self._cursor_place(plan, plan.inner, params, tx)
            if plan.hold:
                session.pinned[link.group] = link
                if link.group in tx.branches:
                    tx.branches[link.group].pinned = True
            await self.runner.relay(link, f"{plan.prefix} {sql}", params, mode)
        session.cursors[plan.name] = Cursor(link, plan.hold)

    async def _cursor_place(self, plan: Declare, inner: Any, params: BoundParams, tx: Any) -> tuple[Any, str]:
        session = self.session
        match inner:
            case Single():
                keyspace = session.plans.cluster.keyspaces[inner.keyspace]  # type: ignore[union-attr]
                shard = await locate_slowly(inner, params, keyspace, self.runner.work(tx, params))
                return await tx.branch(shard.group, write=inner.write), inner.text.for_shard(shard.id)
            case OneGroup():
                group = session.gateway.any_group() if inner.group is None else inner.group
                return await tx.branch(group, write=inner.write), inner.sql
            case Federated() | Gather():
                read = inner if isinstance(inner, Federated) else inner.fallback
                if self._stack is None:
                    self._stack = AsyncExitStack()
                link = await self._stack.enter_async_context(tx.federated(read.groups[0], read.reads))
                return link, read.sql
            case _:
                raise Refused(
                    f"a cursor cannot be declared for this statement: {plan.why or inner.why}",
                    hint="Declare it FOR SELECT.",
                )

    async def fetch(self, plan: Fetch, params: BoundParams, mode: Mode) -> None:
        session = self.session
        if plan.name is None:
            session.cursors.clear()
            await self.close_cursors()
            self._tag("CLOSE CURSOR ALL")
            return
        await self.runner.relay(self.cursor_link(plan.name), plan.sql, params, mode)
        if plan.action == "close":
            del session.cursors[plan.name]
            if (
                not session.cursors
            ):  # a plain COMMIT may end it quickly then: nothing shall stay open behind it
                await self.close_cursors()

    async def close_cursors(self) -> None:
        """End the windows of cursors over groups; those on a branch end with it."""
        stack, self._stack = self._stack, None
        if stack is not None:
            try:
                await stack.aclose()
            except PgherdError as error:
                self.session.gateway.log.warning("closing cursors: %s", error)


class NoTransaction(PgherdError):
    """Only inside BEGIN ... COMMIT."""

    sqlstate = "25P01"


class Duplicate(PgherdError):
    """A prepared statement of this name exists."""

    sqlstate = "42P05"


class DuplicateCursorName(PgherdError):
    """A cursor of this name exists."""

    sqlstate = "42P03"
