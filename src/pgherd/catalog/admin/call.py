"""Which procedure, and with which arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgherd.catalog.admin import shards, tables
from pgherd.catalog.admin.arguments import Arguments
from pgherd.catalog.ddl.change import Change, begin
from pgherd.catalog.model import ClusterMap
from pgherd.engine.link import Workspace
from pgherd.engine.work import Work
from pgherd.errors import UndefinedProcedure
from pgherd.reshard import requests, telling


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
    "reference": _Procedure(parameters=("table",), run=tables.reference),
    "distribute": _Procedure(parameters=("table", "by", "key", "shards"), run=tables.distribute),
    "undistribute": _Procedure(parameters=("table",), run=tables.undistribute),
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
    if is_online(name, named):
        assert isinstance(work, Work), "workflows need a session"
        run = telling.tell if name in telling.WISHES else requests.request
        await run(work, name, arguments, cluster, path)
        return "CALL"
    assert procedure.run is not None
    change = await begin(work, None, cluster, path)
    await procedure.run(change, arguments)
    return "CALL"


def is_online(name: str, named: Iterable[str]) -> bool:
    """Whether the call is carried out as a workflow, which locks nothing while it runs. `named`: names of its named arguments."""
    procedure = PROCEDURES.get(name)
    if procedure is None or "offline" in named:
        return False
    return procedure.run is None or "offline" in procedure.more
