"""What a session answers itself: transaction control, settings, SQL-level prepared statements, cursors."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgherd.backend.connection import ServerLink
from pgherd.backend.pool import DEFAULT_STATE
from pgherd.backend.state import state_of
from pgherd.catalog import store
from pgherd.catalog.model import GroupId
from pgherd.engine.params import BoundParams
from pgherd.engine.route import evaluated, locate_slowly
from pgherd.errors import BadSetting, PgherdError, Refused, UnknownCursor, UnknownStatement, WrongState
from pgherd.gateway import wire
from pgherd.gateway.describe import text_column
from pgherd.gateway.prepared import Prepared
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

if TYPE_CHECKING:
    from pgherd.gateway.running import Handler, Mode, Runner
    from pgherd.gateway.session import ClientSession

# Settings of a session that no server knows: their allowed values.
OWN_SETTINGS: dict[str, tuple[str, ...]] = {"pgherd.snapshot": ("on", "off")}
OWN_DEFAULTS = {"pgherd.snapshot": "on"}
_ACTIVE = "25001"


@dataclass(frozen=True, slots=True)
class NamedSql:
    """A statement of SQL's PREPARE."""

    prepared: Prepared
    sql: str
    oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a DECLAREd cursor lives."""

    link: ServerLink
    hold: bool


class Controls:
    """Belongs to a Runner."""

    __slots__ = ("_handlers", "_oids", "_stack", "runner", "session")

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.session: ClientSession = runner.session
        self._stack: AsyncExitStack | None = None
        self._oids: dict[str, int] = {}
        self._handlers: dict[type[Plan], Handler] = {
            Control: self.control,
            SetVariable: self.set_variable,
            Show: self.show,
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
        await self._close_cursors()
        tag = "ROLLBACK"
        try:
            if plan.action == "commit":
                tx.failed = session.failed
                tag = await tx.commit()
            else:
                await tx.rollback()
        finally:
            if tag == "ROLLBACK":
                session.state = session.state_before
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
            self._tag("SAVEPOINT")
        elif plan.action == "release":
            await tx.release(plan.name)
            self._tag("RELEASE")
        else:
            await tx.rollback_to(plan.name)
            session.failed = False
            if session.local_map is not None:  # a definition may be among what was undone
                session.local_map = await store.load(await tx.branch(GroupId(0), write=False))
                session.replan()
            self._tag("ROLLBACK")

    # ---- settings --------------------------------------------------------------------------------------

    async def set_variable(self, plan: SetVariable, params: BoundParams, mode: Mode) -> None:
        if plan.name.startswith("pgherd."):
            self._set_own(plan)
        elif plan.name == "client_encoding":
            if plan.value is not None and plan.value.strip("'\"").lower() not in ("utf8", "utf-8", "unicode"):
                raise Refused(
                    f'client_encoding "{plan.value}" is not supported', hint="Clients of pgherd use UTF8."
                )
        elif plan.name == "restrict_nonsystem_relation_kind":
            pass  # pg_dump's guard against other people's views; it would shut out pgherd's own catalogs and foreign tables
        elif plan.local and (self.session.tx is None or self.session.implicit) and mode.alone:
            self._warn("25P01", "SET LOCAL can only be used in transaction blocks")
        elif self.session.tx is not None and (not self.session.implicit or plan.local or not mode.alone):
            await self._set_in_transaction(plan)
        else:
            await self._set_now(plan)
        await self._set_answer(plan, params, mode)

    async def _set_answer(self, plan: SetVariable, params: BoundParams, mode: Mode) -> None:
        """SET has only a tag; set_config() is a SELECT, whose row is the new value."""
        if plan.tag != "SELECT":
            self._tag(plan.tag if plan.tag in ("SET", "RESET") else "RESET" if plan.value is None else "SET")
            return
        if mode.simple:
            self.session.write(text_column("set_config"))
        self.session.write(wire.data_row([(plan.value or "").encode()]) + wire.command_complete("SELECT 1"))
        del params

    def _set_own(self, plan: SetVariable) -> None:
        name = plan.name
        if name not in OWN_SETTINGS:
            known = ", ".join(sorted(OWN_SETTINGS))
            raise UnknownSetting(f'unrecognized configuration parameter "{name}"', hint=f"Known: {known}.")
        value = None if plan.value is None else plan.value.strip("'\"").lower()
        value = {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}.get(
            value or "", value
        )
        if value is None or value == "default":
            self.session.options.pop(name, None)
        elif value not in OWN_SETTINGS[name]:
            raise BadSetting(
                f'invalid value for parameter "{name}": "{value}"',
                hint=f"Allowed: {', '.join(OWN_SETTINGS[name])}.",
            )
        else:
            self.session.options[name] = value

    async def _set_in_transaction(self, plan: SetVariable) -> None:
        """Every branch must have it, also those that open later: then open them all now (settings are rare)."""
        session = self.session
        tx = session.tx
        assert tx is not None
        links = [
            await tx.branch(GroupId(0), write=False),
            *(branch.link for group, branch in tx.branches.items() if group != 0),
        ]
        for link in links:
            await link.run(plan.sql)
        for link in links:
            link.applied = None  # type: ignore[attr-defined]
        shown = await self._shown(links[0], plan)
        if plan.local:
            for group in session.gateway.keeper.map.groups:
                if group not in tx.branches:
                    await (await tx.branch(group, write=False)).run(plan.sql)
                    tx.branches[group].link.applied = None  # type: ignore[attr-defined]
        else:
            self._carry(plan, shown)

    async def _set_now(self, plan: SetVariable) -> None:
        session = self.session
        group = session.gateway.any_group()
        link = await session.lend(group)
        changed: dict[str, str] = {}
        link.on_parameter = changed.__setitem__
        try:
            link.applied = None
            await link.run(plan.sql)
            shown = await self._shown(link, plan)
            self._carry(plan, shown)
            link.applied = session.state
        finally:
            link.on_parameter = None
            session.give_back(link)
        for name, value in changed.items():
            session.write(wire.parameter_status(name, value))

    async def _shown(self, link: Any, plan: SetVariable) -> str | None:
        """The value as the server understood it: what other connections must be given."""
        if plan.value is None or plan.name == "all":
            return None
        if plan.name in ("session_authorization", "role"):
            return plan.value
        rows = await link.run(
            f"SELECT pg_catalog.current_setting('{plan.name.replace(chr(39), chr(39) * 2)}')"
        )
        return rows[0][0]

    def _carry(self, plan: SetVariable, shown: str | None) -> None:
        session = self.session
        path = session.state.get("search_path")
        if plan.name == "all":
            kept = tuple(item for item in session.state.items if item[0] in ("role", "session_authorization"))
            session.state = state_of(kept)
        else:
            session.state = session.state.with_value(plan.name, shown)
        if session.state.get("search_path") != path:
            session.replan()

    async def show(self, plan: Show, params: BoundParams, mode: Mode) -> None:
        session = self.session
        if plan.name in OWN_SETTINGS:
            value = session.options.get(plan.name, OWN_DEFAULTS[plan.name])
            if mode.simple:
                session.write(text_column(plan.name))
            session.write(wire.data_row([value.encode()]))
            self._tag("SHOW")
            return
        if session.tx is not None:
            group = next(iter(session.tx.branches), session.gateway.any_group())
            link: Any = await session.tx.branch(group, write=False)
            await self.runner.relay(link, plan.sql, params, mode)
            return
        link = await session.lend(session.gateway.any_group())
        try:
            await self.runner.relay(link, plan.sql, params, mode)
        finally:
            session.give_back(link)

    async def discard(self, plan: Discard, _params: BoundParams, _mode: Mode) -> None:
        session = self.session
        if plan.what == "all":
            if session.tx is not None and not session.implicit:
                raise WrongState("DISCARD ALL cannot run inside a transaction block")
            session.named.clear()
            session.sql_prepared.clear()
            session.state = session.state_first
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
        self.session.sql_prepared[plan.name] = NamedSql(prepared, plan.inner.text, oids)
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
        values: list[bytes | None] = []
        for arg in plan.args:
            text = arg.text if isinstance(arg, Const) else await self._value(arg.sql, mode)
            values.append(None if text is None else text.encode())
        if named.prepared.plans is not self.session.plans:
            named = NamedSql(await self.runner.prepare(named.sql, named.oids), named.sql, named.oids)
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
            await self._close_cursors()
            self._tag("CLOSE CURSOR ALL")
            return
        await self.runner.relay(self.cursor_link(plan.name), plan.sql, params, mode)
        if plan.action == "close":
            del session.cursors[plan.name]
            if not session.cursors:  # a plain COMMIT may end it quickly then: nothing shall stay open behind it
                await self._close_cursors()

    async def _close_cursors(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            try:
                await stack.aclose()
            except PgherdError as error:
                self.session.gateway.log.warning("closing cursors: %s", error)


class NoTransaction(PgherdError):
    """Only inside BEGIN ... COMMIT."""

    sqlstate = "25P01"


class UnknownSetting(PgherdError):
    """There is no such setting in our own name space."""

    sqlstate = "42704"


class Duplicate(PgherdError):
    """A prepared statement of this name exists."""

    sqlstate = "42P05"


class DuplicateCursorName(PgherdError):
    """A cursor of this name exists."""

    sqlstate = "42P03"
