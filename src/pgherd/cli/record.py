"""`pgherd record`: how a table's shards are used, written down for `pgherd simulate --workload recorded`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.console import output, steps
from pgherd.cli.place import StateOption, cluster
from pgherd.errors import DeployError

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink
    from pgherd.balance.assemble import Seen
    from pgherd.catalog.model import Keyspace


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("record")(record)


def record(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table of the keyspace, by range.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the lines are added.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="For how long.")] = 60.0,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often.")] = 60.0,
    state: StateOption = None,
) -> None:
    """Record sizes and loads of a table's shards, with samples of their keys, for pgherd simulate --workload recorded FILE."""
    from pgherd.cli import pictures  # here: the other commands start faster without them
    from pgherd.cli.asking import at_group_0

    local = cluster(state)

    async def job(link: ServerLink) -> int:
        moments, end = 0, time.monotonic() + minutes * 60
        while True:
            seen = await pictures.seen(link, local.password())
            keyspace = _keyspace(seen, table)
            if moments == 0:
                _add(file, [{"key_types": list(keyspace.key_types)}])
            _add(file, lines(seen, keyspace))
            moments += 1
            report(f"{moments} moments recorded")
            if time.monotonic() + every > end:
                return moments
            await asyncio.sleep(every)

    with steps() as report:
        moments = at_group_0(local, job)
    output.print(f"{moments} moments are in {file}", highlight=False)


def _add(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def _keyspace(seen: Seen, name: str) -> Keyspace:
    from pgherd.cli.pictures import keyspace_of

    keyspace = keyspace_of(seen, name)
    if keyspace.strategy != "range":
        raise DeployError("only keyspaces by range can be recorded", hint="Hash spreads its keys evenly.")
    return keyspace


def lines(seen: Seen, keyspace: Keyspace) -> Iterable[dict[str, Any]]:
    """A line for each shard, as docs/balancing.md describes it. Loads of several sources are one."""
    from pgherd.balance.assemble import Size
    from pgherd.balance.load import from_json, merge_all, to_json
    from pgherd.catalog.naming import texts_of

    types = keyspace.key_types
    for shard in keyspace.shards:
        found = [from_json(document, types) for number, _, document in seen.loads if number == shard.id]
        bounds = {
            name: None if bound is None else list(texts_of(keyspace, bound))
            for name, bound in (("range_start", shard.lower), ("range_end", shard.upper))
        }
        size = seen.sizes.get(shard.id, Size()).bytes
        yield {"at": round(seen.now_s, 3), "shard": int(shard.id), **bounds, "bytes": size, "load": to_json(merge_all(found), types)}  # fmt: skip
