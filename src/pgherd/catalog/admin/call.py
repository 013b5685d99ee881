"""Which procedure, and with which arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgherd.catalog.admin import shards, tables
from pgherd.catalog.admin.arguments import Arguments, type_of
from pgherd.catalog.ddl.change import Change, begin
from pgherd.catalog.model import ClusterMap
from pgherd.elastic import requests as elastic
from pgherd.engine.link import Workspace
from pgherd.engine.work import Work
from pgherd.errors import UndefinedProcedure
from pgherd.plan.plans import Call, Param
from pgherd.reshard import distribution_requests, requests, telling
from pgherd.reshard.asking import truth


@dataclass(frozen=True, slots=True, kw_only=True)
class _Procedure:
    """`run` does it inside the caller's transaction, with the map locked; None: it is always a workflow. `more`: parameters given by name."""

    parameters: tuple[str, ...]
    run: Callable[[Change, Arguments], Awaitable[None]] | None = None
    variadic: bool = False
    more: tuple[str, ...] = ()


PROCEDURES: Final[Mapping[str, _Procedure]] = {
    "split": _Procedure(
        parameters=("table", "point"), run=shards.split, variadic=True, more=requests.SETTINGS
    ),
    "move": _Procedure(parameters=("shard", "group"), run=shards.move, more=requests.SETTINGS),
    "merge": _Procedure(parameters=("shard", "other"), more=requests.SETTINGS),
    **{name: _Procedure(parameters=("workflow",)) for name in telling.WISHES},
    **{
        name: _Procedure(parameters=one.parameters, more=one.more, variadic=name == "set_keyspace")
        for name, one in elastic.REQUESTS.items()
    },
    "reference": _Procedure(parameters=("table",), run=tables.reference),
    "distribute": _Procedure(
        parameters=("table", "by", "key", "shards"), run=tables.distribute, more=requests.SETTINGS
    ),
    "undistribute": _Procedure(parameters=("table",), run=tables.undistribute, more=requests.SETTINGS),
}


async def call(
    work: Workspace,
    name: str,
    args: Sequence[str | None],
    named: Mapping[str, str | None],
    cluster: ClusterMap,
    path: tuple[str, ...] = ("public",),
) -> str:
    """Carry out CALL pgherd.<name>(args, named) in the caller's distributed transaction; answers the command tag.

    Arguments in text form. Raises errors.Refused, errors.UndefinedProcedure, or whatever a server says; the transaction is
    then to be rolled back.
    """
    procedure = PROCEDURES.get(name)
    if procedure is None:
        raise UndefinedProcedure(
            f"procedure pgherd.{name} does not exist", hint=f"There are {', '.join(sorted(PROCEDURES))}."
        )
    arguments = Arguments.match(
        name, procedure.parameters, args, named, variadic=procedure.variadic, more=procedure.more
    )
    if name in elastic.REQUESTS:
        await elastic.carry_out(session_of(work), name, arguments, cluster, path)
    elif name in telling.WISHES:
        await telling.tell(session_of(work), name, arguments, cluster, path)
    elif "offline" in procedure.more and not await _at_once(work, procedure, arguments, cluster, path):
        online = distribution_requests if name in distribution_requests.KINDS else requests
        await online.request(session_of(work), name, arguments, cluster, path)
    else:
        assert procedure.run is not None
        change = await begin(work, None, cluster, path)
        await procedure.run(change, arguments)
    return "CALL"


def argument_types(plan: Call) -> tuple[str, ...]:
    """The SQL types of the arguments that a call gives by their places."""
    procedure = PROCEDURES.get(plan.name)
    parameters = procedure.parameters if procedure is not None else ()
    rest = len(plan.args) - len(parameters)
    return (*map(type_of, parameters), *["text"] * max(rest, 0))


def parameter_types(plan: Call) -> tuple[str, ...]:
    """The SQL types of a call's parameters $1, $2, ..., as far as the procedures know them."""
    given = [*zip(plan.args, argument_types(plan), strict=False)]
    given += [(source, type_of(name)) for name, source in plan.named]
    found = {source.number: kind for source, kind in given if isinstance(source, Param)}
    return tuple(found.get(number, "text") for number in range(1, max(found, default=0) + 1))


def session_of(work: Workspace) -> Work:
    """The session's own work: only from there can connections beside its transaction be had."""
    assert isinstance(work, Work), "workflows need a session"
    return work


async def _at_once(
    work: Workspace, procedure: _Procedure, arguments: Arguments, cluster: ClusterMap, path: tuple[str, ...]
) -> bool:
    """Whether it is done in the caller's own transaction, with the shard locked: inside a transaction block, where that was asked for,
    and where the shard is so small that a workflow would take longer than it saves."""
    if procedure.run is None:
        return False
    if "offline" in arguments.values:
        return truth(arguments, "offline")
    if not isinstance(work, Work) or work.tx.explicit:
        return True
    online = {"dry_run", "keep_for", "max_pause", "wait", "verify"}
    if arguments.procedure == "split" and "point" not in arguments.values:
        return False
    if online & arguments.values.keys():
        return False
    if arguments.procedure in distribution_requests.KINDS:
        return await distribution_requests.is_small(work, arguments.procedure, arguments, cluster, path)
    return await requests.is_small(work, arguments, cluster)


def is_online(name: str) -> bool:
    """Whether the call locks nothing for long, so that nobody else need wait for its end."""
    procedure = PROCEDURES.get(name)
    return procedure is not None and (procedure.run is None or "offline" in procedure.more)
