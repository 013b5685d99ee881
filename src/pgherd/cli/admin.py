"""`pgherd split`, `move`, `distribute`, `reference`: the admin procedures, called through the gateway."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pgherd.cli.console import errors, output, steps
from pgherd.cli.place import StateOption, cluster

TableArgument = Annotated[
    str, typer.Argument(metavar="TABLE", help="The table, with its schema if it is not in public.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("split")(split)
    app.command("move")(move)
    app.command("distribute")(distribute)
    app.command("undistribute")(undistribute)
    app.command("reference")(reference)


def split(
    table: TableArgument,
    points: Annotated[
        list[str],
        typer.Argument(
            metavar="POINT…",
            help="Where a new shard begins: a key, for several columns like {Smith,100}. In a hash keyspace: the number of the shard to halve.",
        ),
    ],
    state: StateOption = None,
) -> None:
    """Cut shards of a table's keyspace in two, at one or more points."""
    _carry_out([f"CALL pgherd.split({_quoted(table)}, {_quoted(point)})" for point in points], state)


def move(
    shard: Annotated[int, typer.Argument(metavar="SHARD", help="The shard's number (see pgherd shards).")],
    group: Annotated[int, typer.Argument(metavar="GROUP", help="The group that it goes to.")],
    state: StateOption = None,
) -> None:
    """Move a shard to another group."""
    _carry_out([f"CALL pgherd.move({shard}, {group})"], state)


def distribute(
    table: TableArgument,
    key: Annotated[
        str, typer.Option(metavar="COLUMNS", help="The shard key: one or more columns, with commas.")
    ],
    by: Annotated[Literal["range", "hash"], typer.Option(help="How keys find their shard.")] = "range",
    shards: Annotated[
        int | None, typer.Option(min=1, help="How many shards, by hash (4 for each group).")
    ] = None,
    state: StateOption = None,
) -> None:
    """Make a distributed table of a single table, with its rows."""
    count = "" if shards is None else f", shards => {shards}"
    _carry_out(
        [f"CALL pgherd.distribute({_quoted(table)}, by => {_quoted(by)}, key => {_quoted(key)}{count})"],
        state,
    )


def undistribute(table: TableArgument, state: StateOption = None) -> None:
    """Make a single table of a distributed table, with its rows, in group 0."""
    _carry_out([f"CALL pgherd.undistribute({_quoted(table)})"], state)


def reference(table: TableArgument, state: StateOption = None) -> None:
    """Make a reference table of a single table: a full copy in every group."""
    _carry_out([f"CALL pgherd.reference({_quoted(table)})"], state)


def _carry_out(statements: list[str], state: StateOption) -> None:
    from pgherd.cli.asking import call  # here: the other commands start faster without it

    local = cluster(state)
    with steps() as report:
        for statement in statements:
            report(statement)
            for notice in call(local, statement, report):
                errors.print(notice, highlight=False, markup=False)
    output.print("done", highlight=False)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
