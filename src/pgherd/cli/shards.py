"""`pgherd shards`: which shard holds what, where, and how much."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from pgherd.cli.console import output, print_json, size, table
from pgherd.cli.place import JsonOption, StateOption, cluster


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("shards")(shards)


def shards(
    table_name: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="Only this table's shards.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count the rows instead of estimating them.")
    ] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show the shards of every distributed table: range, group, rows and bytes."""
    from pgherd.cli.asking import at_group_0  # here: the other commands start faster without it
    from pgherd.deploy import measure

    local = cluster(state)
    cluster_map = at_group_0(local, measure.load_map)
    tables = measure.chosen(cluster_map, table_name)
    measured = asyncio.run(measure.measure(cluster_map, tables, password=local.password(), exact=exact))
    if json:
        print_json([asdict(line) for line in measured])
        return
    if not measured:
        output.print(
            "There are no distributed tables yet. One is made by CREATE TABLE … PARTITION BY RANGE or HASH.",
            highlight=False,
        )
        return
    shown = table(
        "table", "shard", "holds", "group", "rows", "size", right=("shard", "group", "rows", "size")
    )
    for line in measured:
        rows = f"{'' if line.exact else '~'}{line.rows:,}"
        shown.add_row(line.table, str(line.shard), line.holds, str(line.group), rows, size(line.bytes))
    output.print(shown)
