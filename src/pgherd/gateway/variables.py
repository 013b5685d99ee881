"""SET, RESET, SHOW and set_config(): what a session has set goes with it from one server connection to the next.

PostgreSQL undoes settings with the transaction or savepoint that they were made in; so do `state` and `state_local` (what SET LOCAL made of it) here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pgherd.backend.state import SessionState, literal, state_of
from pgherd.catalog.model import GroupId
from pgherd.engine.params import BoundParams
from pgherd.errors import BadSetting, NoSessionSetting, Refused
from pgherd.gateway import wire
from pgherd.gateway.describe import NODES, NODES_COLUMNS, text_column
from pgherd.gateway.present import nodes_now
from pgherd.plan import keyspace_settings
from pgherd.plan.plans import Call, Param, SetVariable, Show
from pgherd.topology.freshness import parse_freshness

if TYPE_CHECKING:
    from pgherd.gateway.running import Mode, Runner
    from pgherd.gateway.session import ClientSession
    from pgherd.plan.plans import Const

TOKEN = "pgherd.session_token"
# Settings of a session that no server knows: their allowed values, if that is a short list.
OWN_SETTINGS: dict[str, tuple[str, ...]] = {"pgherd.snapshot": ("on", "off"), "pgherd.read": (), TOKEN: ()}
OWN_DEFAULTS = {"pgherd.snapshot": "on", "pgherd.read": "strong"}
_IDENTITY = ("role", "session_authorization")
_CHARACTERISTICS = (
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
)
# Servers must say when a commit stopped waiting for its standby, and they do so in a warning.
TOO_QUIET = frozenset({"error", "fatal", "panic"})
_TRUE = frozenset({b"\x01", b"t", b"true", b"1", b"on", b"yes", b"y"})


@dataclass(frozen=True, slots=True)
class _Done:
    """What a setting has become: the values to carry, by name (None: its default), and the one to answer."""

    values: dict[str, str | None]
    answer: str


class Variables:
    """Belongs to a Runner's Controls."""

    __slots__ = ("runner", "session")

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.session: ClientSession = runner.session

    # ---- SET and its kin -------------------------------------------------------------------------------

    async def set(self, plan: SetVariable, params: BoundParams, mode: Mode) -> None:
        """SET and RESET answer with a tag, set_config() with a row: the new values."""
        if not plan.calls:
            answer = await self._one(plan, mode)
            if plan.tag == "SELECT":
                self._row([answer], mode)
            else:
                tag = plan.tag if plan.tag in ("SET", "RESET") else "RESET" if plan.value is None else "SET"
                self.session.write(wire.command_complete(tag))
            return
        alone = replace(mode, alone=mode.alone and len(plan.calls) == 1)
        answers = [await self._one(_called(call, params), alone) for call in plan.calls]
        if mode.alone:
            await self.runner.end_implicit()
        self._row(answers, mode)

    def _row(self, values: list[str], mode: Mode) -> None:
        if mode.simple:
            fields = [wire.Field(name="set_config", oid=25) for _ in values]
            self.session.write(wire.row_description(fields))
        self.session.write(
            wire.data_row([value.encode() for value in values]) + wire.command_complete("SELECT 1")
        )

    async def _one(self, plan: SetVariable, mode: Mode) -> str:
        """Set one variable; answers its new value."""
        name = plan.name
        if name.startswith("pgherd."):
            return self._set_own(plan)
        if name == "client_encoding":
            if plan.value is not None and plan.value.strip("'\"").lower() not in ("utf8", "utf-8", "unicode"):
                raise Refused(
                    f'client_encoding "{plan.value}" is not supported', hint="Clients of pgherd use UTF8."
                )
            return "UTF8"
        if name == "client_min_messages" and (plan.value or "").strip("'\"").lower() in TOO_QUIET:
            local = str(plan.local).lower()
            sql = f"SELECT pg_catalog.set_config('client_min_messages', 'warning', {local})"
            plan = replace(plan, sql=sql, value="warning")
        if name == "restrict_nonsystem_relation_kind":
            return plan.value or ""  # pg_dump's guard would shut out pgherd's own catalogs and foreign tables
        if self.session.tx is None and mode.alone:
            return await self._now(plan)
        async with self.runner.transaction(replace(mode, alone=False)) as tx:
            return await self._in_transaction(plan, tx)

    def _set_own(self, plan: SetVariable) -> str:
        session = self.session
        if plan.name == TOKEN and plan.value is not None:
            session.all_seen().merge(plan.value)
            return plan.value
        value = own_value(plan.name, plan.value) or session.options_first.get(plan.name)
        options, kept = session.options, session.options_kept
        in_transaction = session.tx is not None and not session.implicit
        if plan.local and not in_transaction:
            return value or OWN_DEFAULTS.get(plan.name, "")
        if plan.local:
            kept = options if kept is None else kept
        elif kept is not None:
            kept = _changed(kept, plan.name, value)
        session.set_options(_changed(options, plan.name, value), kept)
        return session.options.get(plan.name, OWN_DEFAULTS.get(plan.name, ""))

    async def session_token(self, plan: Call, mode: Mode) -> None:
        """SELECT pgherd.session_token(): what this session has seen, as a text."""
        if plan.args or plan.named:
            raise Refused("session_token takes no arguments")
        token = await self._token()
        if mode.simple:
            self.session.write(text_column(plan.column))
        self.session.write(wire.data_row([token.encode()]) + wire.command_complete("SELECT 1"))

    async def _token(self) -> str:
        session = self.session
        if session.seen is not None and session.reading is not None and session.reading.level == "session":
            return await session.seen.token(())
        seen = session.all_seen()
        return await seen.token(session.gateway.groups() if session.used or session.fast_unit else ())

    async def _now(self, plan: SetVariable) -> str:
        """Outside a transaction: on any connection, which has it then; others get it when they are lent."""
        session = self.session
        link = await session.lend(session.gateway.any_group())
        changed: dict[str, str] = {}
        link.on_parameter = changed.__setitem__
        try:
            link.applied = None
            done = await self._run(plan, [link])
            if not plan.local:
                self._carry(plan, done)
                link.applied = session.state
            link.strayed = False
        finally:
            link.on_parameter = None
            session.give_back(link)
        for name, value in changed.items():
            session.write(wire.parameter_status(name, value))
        return done.answer

    async def _in_transaction(self, plan: SetVariable, tx: Any) -> str:
        """In every open branch. Those that open later are lent with it; but what may end earlier must be set inside: open all."""
        session = self.session
        groups = set(tx.branches) | {GroupId(0)}
        if plan.local or session.marks:
            groups |= set(session.gateway.keeper.map.groups)
        links = [await tx.branch(group, write=False) for group in sorted(groups)]
        changed: dict[str, str] = {}
        links[0].on_parameter = changed.__setitem__
        try:
            for link in links:
                link.applied = None
            done = await self._run(plan, links)
        finally:
            links[0].on_parameter = None
        self._carry(plan, done)
        for name, value in changed.items():
            session.write(wire.parameter_status(name, value))
        return done.answer

    async def _run(self, plan: SetVariable, links: list[Any]) -> _Done:
        """Run it on these connections, and see what it has become: what other connections must be given."""
        sql = plan.sql
        first = dict(self.session.state_first.items)
        names = (plan.name,) if plan.name != "session_characteristics" else _CHARACTERISTICS
        if plan.value is None:  # a session's own defaults are those that it came with
            wanted = [name for name in first if name not in _IDENTITY or plan.name != "all"]
            for name in wanted if plan.name == "all" else [name for name in names if name in first]:
                local = "true" if plan.local else "false"
                sql += f"; SELECT pg_catalog.set_config({literal(name)}, {literal(first[name])}, {local})"
        for link in links:
            rows = await link.run(sql)
        if plan.name == "all":
            return _Done({}, "")
        if plan.name in _IDENTITY:
            return _Done({plan.name: plan.value or first.get(plan.name)}, plan.value or "none")
        shown = ", ".join(f"pg_catalog.current_setting({literal(name)})" for name in names)
        rows = await links[0].run(f"SELECT {shown}")
        values = dict(zip(names, rows[0], strict=True))
        answer = values[names[0]] or ""
        if plan.value is None:
            values = {name: first.get(name) for name in names}
        return _Done(values, answer)

    def _carry(self, plan: SetVariable, done: _Done) -> None:
        session = self.session
        local = session.state_local
        if plan.local or local is not None:
            session.state_local = self._with(local or session.state, plan, done)
        if not plan.local:
            session.state = self._with(session.state, plan, done)
        session.replan()

    def _with(self, state: SessionState, plan: SetVariable, done: _Done) -> SessionState:
        if plan.name == "all":
            first = self.session.state_first.items
            own = tuple(item for item in state.items if item[0] in _IDENTITY)
            state = state_of((*own, *(item for item in first if item[0] not in _IDENTITY)))
            self.session.set_options(self.session.options_first, self.session.options_kept)
        for name, value in done.values.items():
            state = state.with_value(name, value)
        return state

    # ---- savepoints ------------------------------------------------------------------------------------

    def release(self, name: str) -> None:
        """The savepoint is gone, what was set since stays."""
        marks = self.session.marks
        del marks[_last(marks, name) :]

    def rollback_to(self, name: str) -> None:
        """What was set since the savepoint is undone."""
        session = self.session
        at = _last(session.marks, name)
        _, session.state, session.state_local, options, kept = session.marks[at]
        session.set_options(options, kept)
        del session.marks[at + 1 :]
        session.replan()

    # ---- SHOW ------------------------------------------------------------------------------------------

    async def show(self, plan: Show, params: BoundParams, mode: Mode) -> None:
        """SHOW, on any connection: all have the session's settings."""
        session = self.session
        if plan.name == NODES:
            self._show_nodes(mode)
            return
        if plan.name in OWN_SETTINGS:
            value = session.options.get(plan.name, OWN_DEFAULTS.get(plan.name, ""))
            value = await self._token() if plan.name == TOKEN else value
            if mode.simple:
                session.write(text_column(plan.name))
            session.write(wire.data_row([value.encode()]) + wire.command_complete("SHOW"))
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

    def _show_nodes(self, mode: Mode) -> None:
        """SHOW pgherd.nodes: every node as this gateway sees it now."""
        rows = nodes_now(self.session.gateway)
        if mode.simple:
            self.session.write(NODES_COLUMNS)
        for row in rows:
            self.session.write(wire.data_row([None if value is None else value.encode() for value in row]))
        self.session.write(wire.command_complete("SHOW"))


def own_value(name: str, text: str | None) -> str | None:
    """The value of a setting of our own as it is kept; None: its default. Raises NoSessionSetting, BadSetting."""
    if name not in OWN_SETTINGS:
        keyspace_settings.no_session_setting(name)
        known = ", ".join(sorted(OWN_SETTINGS))
        raise NoSessionSetting(f'unrecognized configuration parameter "{name}"', hint=f"Known: {known}.")
    value = None if text is None else text.strip("'\"").lower()
    if value is None or value == "default" or name == TOKEN:
        return None
    if name == "pgherd.read":
        return str(parse_freshness(value))
    value = _SWITCHES.get(value, value)
    if value not in OWN_SETTINGS[name]:
        raise BadSetting(
            f'invalid value for parameter "{name}": "{value}"',
            hint=f"Allowed: {', '.join(OWN_SETTINGS[name])}.",
        )
    return value


_SWITCHES = {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}


def _changed(options: Mapping[str, str], name: str, value: str | None) -> Mapping[str, str]:
    rest = {key: kept for key, kept in options.items() if key != name}
    return rest if value is None else {**rest, name: value}


def _called(call: tuple[Param | Const, Param | Const, Param | Const], params: BoundParams) -> SetVariable:
    """One set_config() whose arguments are known now. Raises BadSetting."""
    name, value, local = (_argument(source, params) for source in call)
    if name is None:
        raise BadSetting("SET requires parameter name")
    is_local = local is not None and local.lower() in _TRUE
    written = "NULL" if value is None else literal(value.decode())
    sql = f"SELECT pg_catalog.set_config({literal(name.decode())}, {written}, {str(is_local).lower()})"
    return SetVariable(
        sql=sql,
        name=name.decode().lower(),
        value=None if value is None else value.decode(),
        local=is_local,
    )


def _argument(source: Param | Const, params: BoundParams) -> bytes | None:
    if isinstance(source, Param):
        return params.values[source.number - 1]
    return None if source.text is None else source.text.encode()


def _last(marks: list[Any], name: str) -> int:
    """Where the latest savepoint of this name is."""
    return max(at for at, mark in enumerate(marks) if mark[0] == name)
