"""CALL pgherd.distribute and undistribute, online: recorded as a workflow, and watched until the table is in its new form."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from pgherd.catalog import naming
from pgherd.catalog.admin.arguments import Arguments
from pgherd.catalog.ddl.rules import check_foreign_keys
from pgherd.catalog.model import ClusterMap, GroupId, KeyspaceId, Table
from pgherd.catalog.text import array, call, literal, qualified
from pgherd.engine.work import Work
from pgherd.errors import BadSetting, Refused
from pgherd.reshard.asking import Asking, asking, truth
from pgherd.reshard.distribution_model import KINDS, PHASES, STEPS, Order
from pgherd.reshard.estimate import COPY_BYTES_S, SCAN_BYTES_S
from pgherd.reshard.model import Limits
from pgherd.reshard.watching import watch

SMALL_BYTES: Final = 256 * 1024
__all__ = ["KINDS", "is_small", "request"]


async def request(
    work: Work, name: str, arguments: Arguments, cluster: ClusterMap, path: tuple[str, ...]
) -> None:
    """Record what was asked for and watch it. Raises Refused with every obstacle, WorkflowFailed, or why it cannot be."""
    async with asking(work, cluster, path, name) as session:
        table = await session.any_table(arguments)
        order = await _order(session, name, table, arguments)
        obstacles = [text async for text in _obstacles(session, name, table, order)]
        if obstacles:
            raise Refused(
                f"{len(obstacles)} things stand in the way: " + "; ".join(obstacles)
                if len(obstacles) > 1
                else obstacles[0],
                hint="Nothing was changed. Put them right and try again.",
            )
        settings = await session.settings(arguments)
        if truth(arguments, "dry_run"):
            await _show(session, name, table, settings)
            return
        memory = {"by": order.by, "key": list(order.key), "shards": order.shards}
        rows = await session.ask(
            f"SELECT pgherd.request_distribution({literal(name)}, {order.both}, {literal(json.dumps(memory))}::jsonb, {literal(json.dumps(settings))}::jsonb)"
        )
        number = int(rows[0][0] or 0)
        if "wait" in arguments.values and not truth(arguments, "wait"):
            work.notice(f"workflow {number} is recorded: SELECT * FROM pgherd.workflows shows how far it is")
            return
        await watch(session, number)


async def _order(session: Asking, name: str, table: Table, arguments: Arguments) -> Order:
    wanted = "single" if name == "distribute" else "distributed"
    if table.kind != wanted:
        hint = f"CALL pgherd.undistribute('{table.name}') first." if table.kind == "distributed" else None
        raise Refused(f'"{table.name}" is a {table.kind} table or view, not a {wanted} table', hint=hint)
    if name == "undistribute":
        return Order(schema=table.schema, name=table.name)
    by = naming.strategy(arguments.text("by"))
    count = arguments.optional_number("shards")
    if count is not None and (by != "hash" or count < 1):
        raise BadSetting(
            "pgherd.distribute: shards is a positive number, for by => 'hash'",
            hint="Range keyspaces begin with one shard; CALL pgherd.split(...) cuts it.",
        )
    key = await naming.key(session.ask, table, arguments.text("key"))
    return Order(schema=table.schema, name=table.name, by=by, key=key, shards=count)


async def _obstacles(session: Asking, name: str, table: Table, order: Order) -> AsyncIterator[str]:
    """Each obstacle as one line. Whether every row has its key is seen while the workflow prepares."""
    rel = f"{literal(order.full_name)}::regclass"
    shape = json.loads((await session.ask(f"SELECT pgherd.inspect({rel})"))[0][0] or "{}")
    if name == "distribute":
        if shape["relkind"] != "r":
            yield f'"{table.name}" is not an ordinary table'
            return
        for row in await session.ask(f"SELECT pgherd.not_distributable({rel}, {array(order.key)})"):
            yield row[0] or ""
        me = Table(
            schema=table.schema, name=table.name, kind="distributed", key=order.key, keyspace=KeyspaceId(-1)
        )
        for fk in shape["foreign_keys"]:
            if (fk["from_schema"], fk["from_name"]) == (table.schema, table.name):
                text = _refused(session.cluster, {**shape, "foreign_keys": [fk]}, me)
                if text is not None:
                    yield text
    else:
        views = (await session.ask(call("dependent_views", rel)))[0][0]
        if views:
            yield f"views read it: {views}"
        text = _refused(session.cluster, shape, Table(schema=table.schema, name=table.name, kind="single"))
        if text is not None:
            yield text
    rows = await session.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start < now() - interval '5 min'"
    )
    if int(rows[0][0] or 0):
        yield f"{rows[0][0]} transactions in group 0 have written and run for more than 300 s: no snapshot can be taken until they end"


def _refused(cluster: ClusterMap, shape: dict[str, Any], me: Table) -> str | None:
    try:
        check_foreign_keys(cluster, shape, me)
    except Refused as error:
        return f"{error.message} ({error.hint})"
    return None


async def _show(session: Asking, name: str, table: Table, settings: dict[str, Any]) -> None:
    """A dry run: each step as a notice, with what it would cost. Nothing is created."""
    limits = Limits.read(settings)
    size = await _size(session, table)
    session.work.notice(f"{name} {table.name}: {size / 1e6:.1f} MB")
    seconds = {
        "prepare": size / SCAN_BYTES_S,
        "spread": size / COPY_BYTES_S * 1.6,
        "gather": size / COPY_BYTES_S * 1.6,
    }
    for number, step in enumerate(STEPS[name], 1):
        cost = (
            f", about {seconds[step]:.1f} s"
            if step in seconds
            else f", writers pause for at most {limits.max_pause_ms} ms"
        )
        if step in ("spread", "gather"):
            cost += f", as a workflow of its own, in which writers pause for at most {limits.max_pause_ms} ms"
        session.work.notice(f"{number}. {PHASES[step]}{cost}")


async def _size(session: Asking, table: Table) -> int:
    names = [(0, qualified(table.schema, table.name))]
    if table.kind == "distributed":
        names = [
            (
                int(shard.group),
                qualified(
                    f"shard_{shard.id}" if table.schema == "public" else f"shard_{shard.id}_{table.schema}",
                    table.name,
                ),
            )
            for shard in session.cluster.keyspace_of(table).shards
        ]
    total = 0
    for group, full_name in names:
        rows = await session.elsewhere(
            GroupId(group), f"SELECT coalesce(pg_relation_size(to_regclass({literal(full_name)})), 0)"
        )
        total += int(rows[0][0] or 0)
    return total


async def is_small(
    work: Work, name: str, arguments: Arguments, cluster: ClusterMap, path: tuple[str, ...]
) -> bool:
    """Whether the table holds so little that it is changed sooner than a workflow would have begun."""
    async with asking(work, cluster, path, name) as session:
        return await _size(session, await session.any_table(arguments)) <= SMALL_BYTES
