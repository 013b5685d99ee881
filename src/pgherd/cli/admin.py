"""`pgherd split`, `move`, `merge`, `rebalance`, `drain`, `set`, `distribute`, `reference`: the admin procedures, called through the gateway."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pgherd.cli.console import errors, output, steps
from pgherd.cli.place import StateOption, cluster

TableArgument = Annotated[
    str, typer.Argument(metavar="TABLE", help="The table, with its schema if it is not in public.")
]

ShardArgument = Annotated[
    int, typer.Argument(metavar="SHARD", help="The shard's number (see pgherd shards).")
]
PauseOption = Annotated[
    str | None, typer.Option("--max-pause", metavar="TIME", help="How long writers may have to wait (200ms).")
]
KeepOption = Annotated[
    str | None, typer.Option("--keep-for", metavar="TIME", help="How long it can be undone (1 hour).")
]
DryOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and what it would cost.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("split")(split)
    app.command("move")(move)
    app.command("merge")(merge)
    app.command("rebalance")(rebalance)
    app.command("drain")(drain)
    app.command("set")(set_)
    app.command("distribute")(distribute)
    app.command("undistribute")(undistribute)
    app.command("reference")(reference)


def split(
    table: TableArgument,
    points: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POINT…]",
            help="Where a new shard begins: a key, for several columns like {Smith,100}. In a hash keyspace: the number of the shard to halve. "
            "Without: in the middle of the largest shard's rows.",
        ),
    ] = None,
    pause: PauseOption = None,
    keep: KeepOption = None,
    dry_run: DryOption = False,
    state: StateOption = None,
) -> None:
    """Cut shards of a table's keyspace in two, at one or more points, while they are in use."""
    more = _settings(pause, keep, dry_run)
    cuts = [f", {_quoted(point)}" for point in points or []] or [""]
    carry_out([f"CALL pgherd.split({_quoted(table)}{cut}{more})" for cut in cuts], state)


def move(
    shard: ShardArgument,
    group: Annotated[int, typer.Argument(metavar="GROUP", help="The group that it goes to.")],
    pause: PauseOption = None,
    keep: KeepOption = None,
    dry_run: DryOption = False,
    state: StateOption = None,
) -> None:
    """Move a shard to another group, while it is in use."""
    carry_out([f"CALL pgherd.move({shard}, {group}{_settings(pause, keep, dry_run)})"], state)


def merge(
    shard: ShardArgument,
    other: Annotated[int, typer.Argument(metavar="OTHER", help="Its neighbour, which joins it.")],
    pause: PauseOption = None,
    keep: KeepOption = None,
    dry_run: DryOption = False,
    state: StateOption = None,
) -> None:
    """Make one shard of two neighbours, in the first one's group, while they are in use."""
    carry_out([f"CALL pgherd.merge({shard}, {other}{_settings(pause, keep, dry_run)})"], state)


def rebalance(dry_run: DryOption = False, state: StateOption = None) -> None:
    """Move shards until all groups carry about their part of load and bytes, one after the other, while they are in use."""
    carry_out([f"CALL pgherd.rebalance({'dry_run => true' if dry_run else ''})"], state)


def drain(
    group: Annotated[int, typer.Argument(metavar="GROUP", help="The group that shall become empty.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="Let it have shards again; what has moved stays.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Let a group become empty: all its shards move to others, while they are in use."""
    carry_out([f"CALL pgherd.drain({group}{', stop => true' if stop else ''})"], state)


def set_(
    setting: Annotated[str, typer.Argument(metavar="SETTING", help="Such as autosplit or size_max.")],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="The value; default: as if it had not been set.")
    ],
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="For the keyspace of this table; without: for the whole cluster."),
    ] = None,
    state: StateOption = None,
) -> None:
    """Change a setting of balancing: of a table's keyspace, or of the whole cluster (docs/balancing.md lists them)."""
    name = "set_balancing(" if table is None else f"set_keyspace({_quoted(table)}, "
    carry_out([f"CALL pgherd.{name}{_quoted(setting)}, {_quoted(value)})"], state)


def _settings(pause: str | None, keep: str | None, dry_run: bool) -> str:
    given = [
        f"{name} => {_quoted(value)}" for name, value in (("max_pause", pause), ("keep_for", keep)) if value
    ]
    return "".join(f", {text}" for text in [*given, *(["dry_run => true"] if dry_run else [])])


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
    carry_out(
        [f"CALL pgherd.distribute({_quoted(table)}, by => {_quoted(by)}, key => {_quoted(key)}{count})"],
        state,
    )


def undistribute(table: TableArgument, state: StateOption = None) -> None:
    """Make a single table of a distributed table, with its rows, in group 0."""
    carry_out([f"CALL pgherd.undistribute({_quoted(table)})"], state)


def reference(table: TableArgument, state: StateOption = None) -> None:
    """Make a reference table of a single table: a full copy in every group."""
    carry_out([f"CALL pgherd.reference({_quoted(table)})"], state)


def carry_out(statements: list[str], state: StateOption) -> None:
    """Run statements through the gateway, with their progress as a spinner and their notices below."""
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
