"""Describe: parameter types and columns of a statement, from group 0, which knows every table under its own name."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

from pgherd.catalog.admin import parameter_types
from pgherd.catalog.model import GroupId
from pgherd.errors import GroupDown
from pgherd.gateway import wire
from pgherd.gateway.prepared import Prepared
from pgherd.gateway.present import NODES_NAMES
from pgherd.plan.plans import Call, Control, Deallocate, Discard, Empty, Execute, Fetch, OneGroup, Show

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink
    from pgherd.gateway.running import Runner

NO_DATA = b"n\x00\x00\x00\x04"
_NOTHING = wire.parameter_description(())
_TEXT_OID = 25
_OIDS = {"text": _TEXT_OID, "integer": 23, "boolean": 16}
NODES = "pgherd.nodes"


async def describe_statement(runner: Runner, prepared: Prepared) -> tuple[bytes, bytes]:
    """ParameterDescription and RowDescription (or NoData) messages of a statement."""
    if prepared.described is not None:
        return prepared.described
    plan = prepared.plan
    match plan:
        case Control() | Discard() | Deallocate() | Empty():
            found = (_NOTHING, NO_DATA)
        case Show() if plan.name == NODES:
            found = (_NOTHING, NODES_COLUMNS)
        case Call() if plan.name == "session_token":
            found = (_NOTHING, text_column(plan.column))
        case Call() if plan.tag != "SELECT":
            found = (_call_parameters(plan, prepared.oids), NO_DATA)
        case Show() if plan.name.startswith("pgherd."):
            found = (_NOTHING, text_column(plan.name))
        case Execute():
            inner = runner.named_sql(plan.name)
            return _NOTHING, (await describe_statement(runner, inner.prepared))[1]
        case Fetch() if plan.action == "fetch" and plan.name is not None:
            link = runner.cursor_link(plan.name)
            return await _ask(link, plan.sql, ())
        case _:
            found = await _on_group_0(runner, prepared)
    # What a transaction sees of its own definitions, or temporary tables, is nobody else's.
    session = runner.session
    if session.local_map is None and not session.pinned:
        prepared.described = found
    return found


def _call_parameters(plan: Call, given: tuple[int, ...]) -> bytes:
    """ParameterDescription of a procedure's call: the servers do not carry it out, so they are not asked."""
    known = [_OIDS[kind] for kind in parameter_types(plan)]
    oids = [
        (given[at] if at < len(given) else 0) or (known[at] if at < len(known) else _TEXT_OID)
        for at in range(max(len(known), len(given)))
    ]
    return wire.parameter_description(oids)


def text_column(name: str) -> bytes:
    return wire.row_description([wire.Field(name=name, oid=_TEXT_OID)])


NODES_COLUMNS = wire.row_description([wire.Field(name=name, oid=_TEXT_OID) for name in NODES_NAMES])


async def _on_group_0(runner: Runner, prepared: Prepared) -> tuple[bytes, bytes]:
    session = runner.session
    first = GroupId(0)
    if session.tx is not None and not session.failed and first in session.tx.branches:
        link = await session.tx.branch(first, write=False)
        return await _ask(link, prepared.sql, prepared.oids)  # type: ignore[arg-type]
    failure = GroupDown("no group answers")
    for link in _describers(runner, prepared):
        try:
            lent = await link
        except GroupDown as error:
            failure = error
            continue
        try:
            return await _ask(lent, prepared.sql, prepared.oids)
        finally:
            session.give_back(lent)
    raise failure


def _describers(runner: Runner, prepared: Prepared) -> Iterator[Awaitable[ServerLink]]:
    """Connections that may tell, best first. A group without a primary is not waited for if others can tell: its replica, or
    another group, which knows every table but the single ones."""
    session = runner.session
    gateway = session.gateway
    first = GroupId(0)
    if gateway.watch.primary(first) is None:
        node = gateway.servers.stand_in(first)
        if node is not None:
            yield session.lend_replica(node)
        if not isinstance(prepared.plan, OneGroup):
            yield from (session.lend(group) for group in gateway.servers.readiest(gateway.groups()))
            return
    yield from (session.lend(group) for group in gateway.groups())


async def _ask(link: ServerLink, sql: str, oids: tuple[int, ...]) -> tuple[bytes, bytes]:
    types = link.types
    given = types.inward(oids) if types else oids
    unit = await link.exchange(
        wire.parse("", sql, given) + wire.describe_statement("") + b"S\x00\x00\x00\x04"
    )
    parameters = unit.parameters or _NOTHING
    row = unit.description
    if types is not None:
        parameters = wire.parameter_description(
            [types.outward(oid) for oid in wire.read_parameter_description(parameters[5:])]
        )
        row = types.row_description(row) if row else row
    return parameters, row or NO_DATA


async def describe_cursor(link: ServerLink, name: str) -> bytes:
    """The columns of a cursor that SQL's DECLARE made: PostgreSQL lets it be described like a portal."""
    unit = await link.exchange(wire.describe_portal(name) + b"S\x00\x00\x00\x04")
    row = unit.description
    if row is None:
        return NO_DATA
    return link.types.row_description(row) if link.types else row


def describe_portal(row: bytes, formats: tuple[int, ...]) -> bytes:
    """A statement's row description with the formats that a Bind asked for."""
    if row[0] != 0x54 or not any(formats):
        return row
    out = bytearray(row)
    at = 7
    for number in range(int.from_bytes(row[5:7], "big")):
        at = row.index(b"\0", at) + 19
        wanted = formats[0] if len(formats) == 1 else formats[number] if number < len(formats) else 0
        out[at - 2 : at] = wanted.to_bytes(2, "big")
    return bytes(out)
