"""A table's change of kind as a workflow: single to distributed and back, while it is in use.

distribute:   prepare (every row is checked, online) → adopt (the table becomes its own only shard, at once) → spread (a workflow of its own
              copies, verifies, cuts over) → join (tables of the same key share a keyspace).
undistribute: part → gather (again a workflow of its own) → release (the only shard becomes a single table, at once); its undo: distribution_undo.
Each step may be repeated after a kill at any point: what has been done is seen in the map.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from pgherd.catalog.text import call, literal
from pgherd.errors import NullKey, PgherdError, ServerError
from pgherd.reshard import distribution_changes as changes
from pgherd.reshard import distribution_undo as undo
from pgherd.reshard import records
from pgherd.reshard.announcing import announce, withdraw
from pgherd.reshard.cutover import Changed
from pgherd.reshard.distribution_model import KINDS, PHASES, STEPS, Order, next_workflow, same, whole
from pgherd.reshard.model import Piece, Workflow
from pgherd.reshard.running import HOME, Run, Stopped
from pgherd.transaction import recovery

log = logging.getLogger(__name__)
LOOK_S = 0.3
LOCKS_MAX = 200

__all__ = ["KINDS", "ride"]


async def ride(run: Run) -> None:
    """One such workflow until its end, a pause, or an error that time may heal."""
    try:
        await recovery.recover(run.places, run.places.groups)
        async with run.places.link(HOME) as link:
            run.workflow = await records.load(link, run.workflow.id)
        if run.workflow.state in ("waiting", "paused"):
            await run.note(state="running", error=None, hint=None)
        if run.workflow.going == "forward":
            await _forward(run)
        else:
            await _back(run)
    except Stopped as stopped:
        await _stopped(run, str(stopped))
    except (PgherdError, OSError, TimeoutError) as error:
        log.info("workflow %s: %s: %s", run.workflow.id, type(error).__name__, error)
        await _failed(run, error)


async def _forward(run: Run) -> None:
    steps = STEPS[run.workflow.kind]
    done = steps.index(run.workflow.step) + 1 if run.workflow.step in steps else 0
    order = Order.read(run.workflow.memory)
    while done < len(steps):
        step = steps[done]
        run.check()
        await run.begin_phase(PHASES[step])
        try:
            await _STEPS[step](run, order)
        except Changed:
            if step != "adopt":
                raise
            done = 0  # a definition came in between: check again
            continue
        except changes.NotAlike:
            done -= 1  # shards were split or moved in between
            continue
        await run.point(f"{step}: done")
        if run.workflow.step != step:
            await run.note(step=step)
        await run.point(f"{step}: recorded")
        done += 1
    if run.workflow.kind == "undistribute":
        await undo.keep(run)
        if run.workflow.going == "undo":
            await _back(run)
        return
    await _keep(run, order)


# ---- the steps -----------------------------------------------------------------------------------------------


def _side(workflow: Workflow) -> str:
    return f"pgherd_w{workflow.id}"


async def _prepare(run: Run, order: Order) -> None:
    """A condition that every row meets, which PostgreSQL checks while the table is in use."""
    async with run.places.link(HOME) as link:
        await link.run(f"SET lock_timeout = {max(run.workflow.limits.max_pause_ms // 2, 1)}")
        text = call(
            "prepare_distribution",
            literal(_side(run.workflow)),
            order.both,
            literal(order.partition),
            literal(order.bound),
        )
        await _locking(run, link, text)
        await run.point("prepare: constraint added")
        try:
            await link.run(
                f"SET lock_timeout = 0; ALTER TABLE {order.full_name} VALIDATE CONSTRAINT pgherd_bound"
            )
        except ServerError as error:
            if error.code == "23514":
                raise NullKey(
                    f'"{order.name}" has rows without a value in its key',
                    hint="Every row of a distributed table needs one: update or delete them.",
                ) from error
            raise
    shape = await changes.shape_of(lambda sql: run.places.ask(HOME, sql), order, _side(run.workflow))
    cluster = await run.places.refresh()
    aim = changes.goal(cluster, shape, run.places.groups, order.shards)
    changes.checked(aim, cluster, shape)
    text = await changes.text_of(lambda sql: run.places.ask(HOME, sql), order)
    await run.remember(text=text)


async def _locking(run: Run, link: Any, text: str) -> None:
    """Run a text that needs a short lock, again until it gets it without making anybody wait for long."""
    for _ in range(LOCKS_MAX):
        run.check()
        try:
            await link.run(text)
            return
        except ServerError as error:
            if error.code not in ("55P03", "40P01"):
                raise
        await asyncio.sleep(0.1)
    raise changes.TooBusy("the table is never free for a moment: end long transactions on it")


async def _announce(run: Run, order: Order) -> None:
    """All of the table is about to be cut over; 0 stands for one that has no shards yet."""
    table = run.places.map.tables.get((order.schema, order.name))
    shards = (
        [0]
        if table is None or table.kind != "distributed"
        else [int(s.id) for s in run.places.map.keyspace_of(table).shards]
    )
    await announce(run, shards)


async def _adopt(run: Run, order: Order) -> None:
    if await _kind(run, order) == "single":
        await _announce(run, order)
        await changes.adopt(run, order, _side(run.workflow))


async def _kind(run: Run, order: Order) -> str:
    cluster = await run.places.refresh()
    table = cluster.tables.get((order.schema, order.name))
    if table is None:
        raise Changed(f"table {order.full_name} is gone")
    return table.kind


async def _spread(run: Run, order: Order) -> None:
    memory = run.workflow.memory
    if memory.get("joins"):
        wanted = await changes.pieces_of(lambda sql: run.places.ask(HOME, sql), memory["joins"])
    else:
        wanted = tuple(map(Piece.read, memory["layout"]))
    await _lay_out(run, order, wanted, keep_s=0.0 if memory.get("joins") else run.workflow.limits.keep_for_s)


async def _gather(run: Run, order: Order) -> None:
    keyspace = await _keyspace(run, order)
    have = await changes.pieces_of(lambda sql: run.places.ask(HOME, sql), keyspace)
    one = whole(have[0].strategy)
    piece = Piece(
        id=have[0].id,
        keyspace=keyspace,
        strategy=have[0].strategy,
        group=HOME,
        modulus=one.modulus,
        remainder=one.remainder,
    )
    await _lay_out(run, order, (piece,), keep_s=0.0)


async def _keyspace(run: Run, order: Order) -> str:
    cluster = await run.places.refresh()
    return cluster.keyspace_of(cluster.tables[order.schema, order.name]).name


async def _lay_out(run: Run, order: Order, wanted: Sequence[Piece], *, keep_s: float) -> None:
    """Have workflows carried out until the table's shards lie like `wanted`."""
    while True:
        keyspace = await _keyspace(run, order)
        child = run.workflow.memory.get("child")
        if child is not None:
            await _follow(run, int(child), ("kept", "done") if keep_s else ("done",))
        have = await changes.pieces_of(lambda sql: run.places.ask(HOME, sql), keyspace)
        if same(have, wanted):
            return
        await _record(run, keyspace, have, wanted, keep_s)


async def _record(
    run: Run, keyspace: str, have: Sequence[Piece], wanted: Sequence[Piece], keep_s: float
) -> None:
    """Record a workflow of its own and, with the same statement, its number."""
    kind, new, number = next_workflow(have, wanted, keyspace)
    old_text, new_text = (literal(json.dumps([piece.row() for piece in pieces])) for pieces in (have, new))
    limits = run.workflow.limits
    settings = {
        "keep_for_s": keep_s,
        **{name: getattr(limits, name) for name in ("max_pause_ms", "verify", "announce_s")},
    }
    await run.places.ask(
        HOME,
        f"WITH made AS MATERIALIZED (SELECT pgherd.request_workflow({literal(kind)}, {literal(keyspace)}, {old_text}::jsonb, {new_text}::jsonb,"
        f" {literal(json.dumps(settings))}::jsonb, {literal(number)}) AS id)"
        f" UPDATE pgherd.workflows w SET memory = w.memory || jsonb_build_object('child', made.id) FROM made WHERE w.id = {run.workflow.id}",
    )
    async with run.places.link(HOME) as link:
        run.workflow = await records.load(link, run.workflow.id)


async def _follow(run: Run, child: int, until: tuple[str, ...]) -> str:
    """Wait for a workflow of its own, pass on what is wanted and say how far it is. Answers its state; raises Stopped."""
    while True:
        rows = await run.places.ask(
            HOME,
            f"SELECT state, phase, progress, pause_ms, error, hint, wanted FROM pgherd.workflows WHERE id = {child}",
        )
        state, phase, progress, pause, error, hint, wanted = (
            rows[0] if rows else ("done", "", "{}", None, None, None, "run")
        )
        async with run.places.link(HOME) as link:
            run.workflow = await records.load(link, run.workflow.id)
        if state in until or state in ("done", "undone"):
            worst = max(float(pause or 0), float(run.workflow.memory.get("pause_ms", 0)))
            await run.remember(child=None, last=child, pause_ms=worst)
            await run.note(pause_ms=worst)
            return state or ""
        if state in ("failed", "cancelled"):
            await run.remember(child=None)
            raise Ended(f"workflow {child} is {state}" + (f": {error}" if error else ""), hint=hint)
        if (
            run.workflow.wanted in ("pause", "cancel")
            and wanted != run.workflow.wanted
            and run.workflow.going == "forward"
        ):
            await run.places.ask(HOME, f"SELECT pgherd.want({child}, {literal(run.workflow.wanted)})")
        if state == "paused" and run.workflow.wanted == "pause":
            raise Stopped("pause")
        if state == "paused" and run.workflow.wanted == "run" and wanted == "pause":
            await run.places.ask(HOME, f"SELECT pgherd.want({child}, 'run')")
        told = json.loads(progress or "{}")
        await run.note(phase=f"workflow {child}: {phase or state}", progress=told)
        await asyncio.sleep(LOOK_S)


class Ended(PgherdError):
    """A workflow that this one waits for did not reach its end."""

    sqlstate = "55000"


async def _join(run: Run, order: Order) -> None:
    target = run.workflow.memory.get("joins")
    if target and await _keyspace(run, order) != target:
        await _announce(run, order)
        await changes.join(run, order, target)


async def _part(run: Run, order: Order) -> None:
    await undo.remember_layout(run, order)
    if await _kind(run, order) == "distributed":
        await _announce(run, order)
        await changes.part(run, order)


async def _release(run: Run, order: Order) -> None:
    if await _kind(run, order) == "distributed":
        await _announce(run, order)
        await changes.release(run, order)
    await undo.remember_table(run, order)


_STEPS = {
    "prepare": _prepare,
    "adopt": _adopt,
    "spread": _spread,
    "join": _join,
    "part": _part,
    "gather": _gather,
    "release": _release,
}


# ---- the end, and the way back ---------------------------------------------------------------------------------


async def _keep(run: Run, order: Order) -> None:
    """While the copy in group 0 is kept in step, the change can be taken back."""
    last = run.workflow.memory.get("last")
    while last is not None:
        rows = await run.places.ask(
            HOME,
            f"SELECT state, extract(epoch FROM kept_until), wanted FROM pgherd.workflows WHERE id = {last}",
        )
        state, until, _ = rows[0] if rows else ("done", None, "")
        if state != "kept":
            break
        if run.workflow.state != "kept":
            kept = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(float(until or 0)))
            await run.note(state="kept", phase="keeping the old tables in step", progress={}, kept_until=kept)
        async with run.places.link(HOME) as link:
            run.workflow = await records.load(link, run.workflow.id)
        if run.workflow.wanted == "undo":
            await run.note(going="undo")
            await _back(run)
            return
        if run.workflow.wanted == "confirm":
            await run.places.ask(HOME, f"SELECT pgherd.want({last}, 'confirm')")
            break
        await asyncio.sleep(LOOK_S)
    await run.note(state="done", phase="", progress={}, kept_until=None)


async def _back(run: Run) -> None:
    """A distribution that was cancelled or undone becomes a single table again; an undistribution that was cancelled stays distributed."""
    if run.workflow.kind == "undistribute" and run.workflow.going == "undo":
        await undo.go_back(run, _WAYS)
        return
    order = Order.read(run.workflow.memory)
    end = "undone" if run.workflow.going == "undo" else "cancelled"
    last = run.workflow.memory.get("last")
    if end == "undone" and last is not None:
        rows = await run.places.ask(HOME, f"SELECT state, wanted FROM pgherd.workflows WHERE id = {last}")
        if rows and rows[0][0] == "kept" and rows[0][1] != "undo":
            await run.places.ask(HOME, f"SELECT pgherd.want({last}, 'undo')")
        if rows and rows[0][0] != "done":
            await _follow(run, int(last), ("undone",))
    await run.note(phase="taking everything back", progress={})
    await withdraw(run)
    if run.workflow.kind == "distribute":
        cluster = await run.places.refresh()
        table = cluster.tables.get((order.schema, order.name))
        if table is not None and table.kind == "distributed" and run.workflow.step in STEPS["distribute"][1:]:
            await _gather(run, order)
            await _announce(run, order)
            await changes.release(run, order)
        await _tidy(run, order)
    told = run.workflow.memory.get("failure")
    await run.note(state="failed" if told else end, phase="", progress={}, step="", kept_until=None)


async def _tidy(run: Run, order: Order) -> None:
    async with run.places.link(HOME) as link:
        await link.run(f"SET lock_timeout = {max(run.workflow.limits.max_pause_ms // 2, 1)}")
        await _locking(run, link, call("unprepare_distribution", literal(_side(run.workflow)), order.both))
        await link.run("SET lock_timeout = 0")


async def _lay_out_again(run: Run, order: Order, wanted: tuple[Piece, ...]) -> None:
    await _lay_out(run, order, wanted, keep_s=0.0)


_WAYS = undo.Ways(steps=_STEPS, lay_out=_lay_out_again, tidy=_tidy)


async def _stopped(run: Run, wanted: str) -> None:
    if wanted == "pause":
        await run.note(state="paused")
        return
    await run.note(going="cancel")


async def _failed(run: Run, error: BaseException) -> None:
    """Go on later if the cause may pass, else take everything back; what is on its way back only goes on."""
    pause_s = run.patience.pause_s(run.place, error)
    passing = isinstance(error, Changed) or run.patience.has(error)
    try:
        if not passing and await undo.given_up(run, error):
            return
        if passing or run.workflow.going != "forward" or run.workflow.state == "kept":
            await run.note(**records.told(error))
        elif isinstance(error, Ended) and run.workflow.wanted == "cancel":
            await run.note(going="cancel")
        else:
            await run.remember(failure=True)
            await run.note(going="cancel", **records.told(error))
    except (PgherdError, OSError, TimeoutError):
        log.info("workflow %s: group 0 does not answer", run.workflow.id)
    await asyncio.sleep(pause_s)
