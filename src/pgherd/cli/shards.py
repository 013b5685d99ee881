"""`pgherd shards`: which shard holds what, where, and how much."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from json import loads
from typing import TYPE_CHECKING, Annotated

import typer

from pgherd.balance.sentence import size
from pgherd.cli.console import output, print_json, table
from pgherd.cli.place import JsonOption, StateOption, cluster

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink
    from pgherd.balance.picture import ShardPicture


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
    """Show the shards of every distributed table: range, group, rows, bytes, and the load of the shard, all its tables together."""
    from pgherd.cli.asking import at_group_0  # here: the other commands start faster without it
    from pgherd.deploy import measure

    local = cluster(state)
    cluster_map = at_group_0(local, measure.load_map)
    tables = measure.chosen(cluster_map, table_name)
    measured = asyncio.run(measure.measure(cluster_map, tables, password=local.password(), exact=exact))
    use = at_group_0(local, _use)
    if json:
        print_json([{**asdict(line), **_figures(use, line.shard)} for line in measured])
        return
    if not measured:
        output.print(
            "There are no distributed tables yet. One is made by CREATE TABLE … PARTITION BY RANGE or HASH.",
            highlight=False,
        )
        return
    columns = ("table", "shard", "holds", "group", "rows", "size", "statements/s", "load")
    shown = table(*columns, right=("shard", "group", "rows", "size", "statements/s", "load"))
    for line in measured:
        rows = f"{'' if line.exact else '~'}{line.rows:,}"
        rate, load = (
            f"{figure:,.{digits}f}"
            for figure, digits in zip(_figures(use, line.shard).values(), (1, 3), strict=True)
        )
        shown.add_row(
            line.table, str(line.shard), line.holds, str(line.group), rows, size(line.bytes), rate, load
        )
    output.print(shown)


async def _use(link: ServerLink) -> dict[int, ShardPicture]:
    """How the shards are used, by their numbers. Load is in busy seconds per second."""
    from pgherd.balance import facts
    from pgherd.balance.assemble import picture
    from pgherd.catalog import store

    found = (await link.run("SELECT pgherd.balance_facts()"))[0][0]
    seen = facts.seen(loads(found or "{}"), await store.load(link), ())
    return {int(shard.id): shard for shard in picture(seen).shards}


def _figures(use: dict[int, ShardPicture], shard: int) -> dict[str, float]:
    found = use.get(shard)
    if found is None:
        return {"statements_per_s": 0.0, "load": 0.0}
    return {"statements_per_s": round(found.statements, 2), "load": round(found.load, 4)}
