"""`pgherd why`: what was decided about a shard or a table's shards, and why, or why not; and what would be decided now."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.console import output, print_json
from pgherd.cli.place import JsonOption, StateOption, cluster

if TYPE_CHECKING:
    from pgherd.backend.connection import ServerLink
    from pgherd.balance.assemble import Seen

WORD = {"split": "split", "move": "moved", "merge": "merged", "nothing": "left as it is"}
Found = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("why")(why)


def why(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[SHARD|TABLE]", help="A shard's number, or a table; none: the whole log."),
    ] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many decisions, the latest first.")] = 20,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show what would be decided about a shard now, and the decisions so far with their reasons, the latest first."""
    from pgherd.cli import pictures  # here: the other commands start faster without them
    from pgherd.cli.asking import at_group_0

    local = cluster(state)

    async def job(link: ServerLink) -> Found:
        seen = await pictures.seen(link, local.password())
        shard, keyspace = _meant(subject, seen)
        rows = await link.run(query(shard, last, keyspace))
        log = [json_text.loads(row[0] or "{}") for row in rows]
        return list(_now(seen, shard, keyspace)), log

    now, log = at_group_0(local, job)
    if json:
        print_json({"now": now, "log": log})
        return
    number = int(subject) if subject is not None and subject.isdigit() else None
    for line in [*(f"now  shard {one['shard']}: {one['reason']}" for one in now), *lines(number, log)]:
        output.print(line, highlight=False, markup=False)


def _meant(subject: str | None, seen: Seen) -> tuple[int | None, str | None]:
    """The shard, or the name of the keyspace. Raises DeployError."""
    if subject is None:
        return None, None
    if subject.isdigit():  # one that is no more has its log yet
        return int(subject), None
    from pgherd.cli.pictures import keyspace_of

    return None, keyspace_of(seen, subject).name


def _now(seen: Seen, shard: int | None, keyspace: str | None) -> Iterator[dict[str, Any]]:
    """What would be decided about each shard meant, if it was seen often enough."""
    from pgherd.balance.assemble import log_rows, picture
    from pgherd.balance.memory import Memory
    from pgherd.balance.why import explain

    names = {one.id: one.name for one in seen.cluster.keyspaces.values()}
    shown = picture(seen)
    for one in shown.shards:
        if one.id == shard or (keyspace is not None and names[one.keyspace] == keyspace):
            yield from log_rows(explain(shown, Memory(), one.id), names)


def query(shard: int | None, last: int, keyspace: str | None = None) -> str:
    """The text that reads the log: a shard's own rows and those of the shards that it came from, or a keyspace's."""
    where, before = "", ""
    if shard is not None:
        before = (
            f"WITH RECURSIVE kin (id) AS (SELECT {shard} UNION SELECT (o->>'id')::integer FROM kin JOIN pgherd.workflows w"
            " ON w.new @> jsonb_build_array(jsonb_build_object('id', kin.id)) CROSS JOIN jsonb_array_elements(w.old) o) "
        )
        where = (
            "WHERE l.shard IN (SELECT id FROM kin) OR (l.figures->>'right')::integer IN (SELECT id FROM kin)"
        )
    elif keyspace is not None:
        where = "WHERE l.keyspace = '" + keyspace.replace("'", "''") + "'"
    return (
        f"{before}SELECT to_jsonb(l) || jsonb_build_object('at', to_char(l.at, 'YYYY-MM-DD HH24:MI:SS'))"
        f" FROM pgherd.decisions_log l {where} ORDER BY l.id DESC LIMIT {last}"
    )


def lines(shard: int | None, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The log's rows as sentences."""
    if not rows:
        about = (
            "Nothing has been decided yet"
            if shard is None
            else f"Nothing has been decided about shard {shard} yet"
        )
        return [f"{about}: within its limits, and its group has no more than its part."]
    found: list[str] = []
    for row in rows:
        subject = f"shard {row['shard']}" if row["shard"] is not None else f"group {row['from_group']}"
        if row["shard"] is None and row["from_group"] is None:
            subject = f"keyspace {row['keyspace']}" if row["keyspace"] else "cluster"
        workflow = f", workflow {row['workflow']}" if row["workflow"] is not None else ""
        found += [
            f"{row['at']}  {subject} {WORD[row['kind']]} ({row['code']}{workflow})",
            f"    {row['reason']}",
        ]
    return found
