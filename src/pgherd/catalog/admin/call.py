"""Which procedure, and with which arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgherd.catalog.admin import shards, tables
from pgherd.catalog.admin.arguments import Arguments
from pgherd.catalog.ddl.change import Change, begin
from pgherd.catalog.model import ClusterMap
from pgherd.engine.link import Workspace
from pgherd.errors import UndefinedProcedure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Procedure:
    parameters: tuple[str, ...]
    run: Callable[[Change, Arguments], Awaitable[None]]
    variadic: bool = False


PROCEDURES: Final[Mapping[str, _Procedure]] = {
    "split": _Procedure(parameters=("table", "point"), run=shards.split, variadic=True),
    "move": _Procedure(parameters=("shard", "group"), run=shards.move),
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
    arguments = Arguments.match(name, procedure.parameters, args, named, variadic=procedure.variadic)
    change = await begin(work, None, cluster, path)
    await procedure.run(change, arguments)
    return "CALL"
