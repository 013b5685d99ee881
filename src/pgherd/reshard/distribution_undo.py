"""The way back of an undistribution: the table is distributed again as it was, online, with everything that was written since.

There is nothing to switch back to: the shards' tables cannot follow a single table, whose rows no shard key divides, and which may be
redefined in any way. So its former layout is remembered, and `undo` goes the way of `distribute`, with a copy of the rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pgherd.catalog.text import literal
from pgherd.errors import PgherdError
from pgherd.reshard import distribution_changes as changes
from pgherd.reshard import records
from pgherd.reshard.announcing import withdraw
from pgherd.reshard.cutover import Changed
from pgherd.reshard.distribution_model import PHASES, STEPS, Order
from pgherd.reshard.model import Piece
from pgherd.reshard.running import HOME, Run

LOOK_S = 0.3
Do = Callable[[Run, Order], Awaitable[None]]
WAY = STEPS["distribute"]


class NotUndone(PgherdError):
    """The table is not what it was: it cannot be distributed as before."""

    sqlstate = "55000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What the steps of `distribute` do, and two things of theirs: to make shards lie as wanted, and to take away what `prepare` made."""

    steps: Mapping[str, Do]
    lay_out: Callable[[Run, Order, tuple[Piece, ...]], Awaitable[None]]
    tidy: Do


# ---- what is remembered ----------------------------------------------------------------------------------


async def remember_layout(run: Run, order: Order) -> None:
    """How the table is distributed, before anything is changed."""
    cluster = await run.places.refresh()
    table = cluster.tables.get((order.schema, order.name))
    if table is None or table.kind != "distributed" or "before" in run.workflow.memory:
        return
    keyspace = cluster.keyspace_of(table)
    pieces = await changes.pieces_of(lambda sql: run.places.ask(HOME, sql), keyspace.name)
    shared = sum(other.keyspace == table.keyspace for other in cluster.tables.values()) > 1
    before = {
        "by": keyspace.strategy,
        "key": list(table.key),
        "keyspace": keyspace.name if shared else None,
        "layout": [piece.row() for piece in pieces],
    }
    await run.remember(before=before)


async def remember_table(run: Run, order: Order) -> None:
    """Which table it has become: another one of its name is not meant."""
    before = run.workflow.memory.get("before")
    if before is not None and "oid" not in before:
        await run.remember(before={**before, "oid": await _oid(run, order)})


async def _oid(run: Run, order: Order) -> str | None:
    return (await run.places.ask(HOME, f"SELECT to_regclass({literal(order.full_name)})::oid"))[0][0]


async def keep(run: Run) -> None:
    """Until somebody confirms or undoes, or the time is over."""
    if "before" not in run.workflow.memory:
        await run.note(state="done", phase="", progress={})  # it was begun by an older version
        return
    if run.workflow.state != "kept":
        until = time.time() + run.workflow.limits.keep_for_s
        text = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(until))
        await run.note(
            state="kept", phase="it can be distributed again as it was", progress={}, kept_until=text
        )
    while run.workflow.wanted != "confirm" and time.time() < (run.workflow.kept_until or 0):
        if run.workflow.wanted == "undo":
            await run.note(going="undo", error=None, hint=None)
            return
        await asyncio.sleep(LOOK_S)
        async with run.places.link(HOME) as link:
            run.workflow = await records.load(link, run.workflow.id)
    await run.note(state="done", phase="", progress={}, kept_until=None)


# ---- the way -----------------------------------------------------------------------------------------------


def _order(run: Run) -> Order:
    known, before = Order.read(run.workflow.memory), run.workflow.memory["before"]
    return replace(known, by=before["by"], key=tuple(before["key"]))


async def go_back(run: Run, ways: Ways) -> None:
    """The steps of `distribute`, from wherever it was. Raises NotUndone, or what they raise."""
    if "given_up" in run.workflow.memory:
        await _stay(run, ways)
        return
    order = _order(run)
    done = WAY.index(run.workflow.step) + 1 if run.workflow.step in WAY else 0
    while done < len(WAY):
        step = WAY[done]
        await run.begin_phase(PHASES[step])
        try:
            await _step(run, order, step, ways)
        except Changed:
            if step != "adopt":
                raise
            done = 0
            continue
        except changes.NotAlike:
            done -= 1
            continue
        await run.point(f"undo {step}: done")
        if run.workflow.step != step:
            await run.note(step=step)
        done += 1
    await withdraw(run)
    await run.note(state="undone", phase="", progress={}, step="", kept_until=None, error=None, hint=None)


async def _step(run: Run, order: Order, step: str, ways: Ways) -> None:
    if step in ("prepare", "adopt"):
        cluster = await run.places.refresh()
        table = cluster.tables.get((order.schema, order.name))
        adopted = step == "adopt" and table is not None and table.kind == "distributed"
        if not adopted and await _oid(run, order) != run.workflow.memory["before"].get("oid"):
            raise NotUndone(
                f"table {order.full_name} is not the one that was undistributed",
                hint="CALL pgherd.distribute(...) distributes any single table.",
            )
    if step == "spread":
        await ways.lay_out(run, order, await _wanted(run))
    else:
        await ways.steps[step](run, order)


async def _wanted(run: Run) -> tuple[Piece, ...]:
    """The former shards; those of the keyspace that it shared, if that is still there. `joins`: the keyspace that the last step joins."""
    before: dict[str, Any] = run.workflow.memory["before"]
    cluster = await run.places.refresh()
    shared = before["keyspace"]
    there = any(one.name == shared and one.strategy == before["by"] for one in cluster.keyspaces.values())
    await run.remember(joins=shared if there else None)
    if there:
        return await changes.pieces_of(lambda sql: run.places.ask(HOME, sql), shared)
    pieces = tuple(map(Piece.read, before["layout"]))
    return tuple(piece if piece.group in cluster.groups else replace(piece, group=HOME) for piece in pieces)


async def given_up(run: Run, error: BaseException) -> bool:
    """After an error on the way back that would come again: the table shall be, or stay, a single one."""
    if (
        run.workflow.kind != "undistribute"
        or run.workflow.going != "undo"
        or "given_up" in run.workflow.memory
    ):
        return False
    adopted = run.workflow.step in WAY[1:]
    await run.remember(given_up={"told": records.told(error), "adopted": adopted})
    return True


async def _stay(run: Run, ways: Ways) -> None:
    """Single again, with the reason why it could not be undone; it may be tried again."""
    order = _order(run)
    memory = {name: value for name, value in run.workflow.memory.items() if name != "given_up"}
    given = run.workflow.memory["given_up"]
    if given["adopted"]:
        cluster = await run.places.refresh()
        table = cluster.tables.get((order.schema, order.name))
        if table is not None and table.kind == "distributed":
            await ways.steps["gather"](run, order)
            await ways.steps["release"](run, order)
        memory = {**memory, "before": {**memory["before"], "oid": await _oid(run, order)}}
    await ways.tidy(run, order)
    await withdraw(run)
    phase = "it can be distributed again as it was"
    await run.note(
        going="forward",
        wanted="run",
        step="release",
        phase=phase,
        progress={},
        memory=memory,
        **given["told"],
    )
