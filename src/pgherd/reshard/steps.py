"""The steps of a workflow, as a table of transitions: what each does, how it is undone.

Each may be repeated after a kill at any point. Until the cutover, undoing goes through the table backwards; after it, the same table's
cutover brings the old shards back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pgherd.catalog.model import GroupId
from pgherd.catalog.text import call, literal
from pgherd.errors import PgherdError, Refused, ServerError
from pgherd.reshard import copying
from pgherd.reshard.announcing import announce, withdraw
from pgherd.reshard.cutover import Cut, cut_over
from pgherd.reshard.model import Direction, pieces_text
from pgherd.reshard.preflight import preflight
from pgherd.reshard.replication import drop_slot
from pgherd.reshard.running import HOME, Run
from pgherd.reshard.stream import SourceReplaced
from pgherd.reshard.verify import verify

Act = Callable[[Run], Awaitable[None]]
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`name`: as in `phases`. `undo`: takes away what it made, whether or not it was finished."""

    name: str
    do: Act
    undo: Act


async def _nothing(run: Run) -> None:
    del run


async def _preflight(run: Run) -> None:
    await preflight(run)
    shape = await run.places.ask(HOME, call("shape_of", run.keyspace))
    conditions: dict[str, str] = {}
    direction = run.workflow.forward
    if len(direction.sources) > 1:
        for piece in (*direction.sources, *direction.targets):
            if piece not in direction.sources:
                continue
            for table in run.tables:
                rows = await run.places.ask(
                    piece.group,
                    call("shard_condition", literal(table.schema), literal(table.name), str(piece.id)),
                )
                conditions[f"{piece.id}.{table.schema}.{table.name}"] = rows[0][0] or "true"
    await run.remember(shape=shape[0][0], conditions=conditions)


# ---- staging --------------------------------------------------------------------------------------------


async def _stage(run: Run) -> None:
    direction = run.workflow.forward
    for group in direction.target_groups:
        await run.places.ask(
            group, call("stage", literal(direction.side), run.keyspace, pieces_text(direction.targets))
        )


async def _unstage(run: Run) -> None:
    for group in run.workflow.forward.target_groups:
        await _drop_side(run, run.workflow.forward, group)


async def _drop_side(run: Run, direction: Direction, group: GroupId) -> None:
    streams = ", ".join(literal(direction.stream(route)) for route in direction.routes)
    await run.places.ask(
        group,
        f"{call('unstage', literal(direction.side))}; DELETE FROM pgherd.applied WHERE stream IN ({streams})",
    )


# ---- publications and slots ------------------------------------------------------------------------------


async def _publish(run: Run) -> None:
    direction = run.workflow.forward
    for group in direction.source_groups:
        names = ", ".join(
            table.in_shard(piece.id)
            for piece in direction.sources
            if piece.group == group
            for table in run.tables
        )
        await run.places.ask(
            group,
            f"DROP PUBLICATION IF EXISTS {direction.side}; CREATE PUBLICATION {direction.side} FOR TABLE {names}",
        )


async def _unpublish(run: Run) -> None:
    await _drop_publications(run, run.workflow.forward)


async def _drop_publications(run: Run, direction: Direction) -> None:
    for group in direction.source_groups:
        await run.places.ask(
            group,
            f"SET client_min_messages = warning; DROP PUBLICATION IF EXISTS {direction.side}; RESET client_min_messages",
        )


async def _drop_slots(run: Run, direction: Direction) -> None:
    await run.stop_streams(direction)
    for route in direction.routes:
        slot = direction.slot(route, run.places.cluster_id)
        if not await drop_slot(run.places, route.source, slot):
            await run.leave(route.source, slot)


async def _uncopy(run: Run) -> None:
    await _drop_slots(run, run.workflow.forward)


# ---- following ----------------------------------------------------------------------------------------


async def _catch_up(run: Run) -> None:
    streams = run.start_streams(run.workflow.forward)
    began, first = time.monotonic(), None
    while True:
        behind = await run.behind(streams)
        first = behind if first is None else first
        rate = (first - behind) / max(time.monotonic() - began, 0.001)
        await run.progress(
            lag_bytes=behind,
            rows=sum(stream.rows for stream in streams),
            eta_s=round(behind / rate, 1) if rate > 0 else None,
        )
        if behind <= run.workflow.limits.calm_bytes:
            return
        await asyncio.sleep(0.1)


async def _verify(run: Run) -> None:
    if run.workflow.limits.verify:
        await verify(run)


# ---- the way back ----------------------------------------------------------------------------------------


async def _prepare_back(run: Run) -> None:
    """Slots where the new shards will live, so that from the cutover on the old tables can be kept in step."""
    back = run.workflow.back
    for group in back.source_groups:
        await run.places.ask(
            group,
            f"SET client_min_messages = warning; DROP PUBLICATION IF EXISTS {back.side}; CREATE PUBLICATION {back.side}; RESET client_min_messages",
        )
    for route in back.routes:
        await drop_slot(run.places, route.source, back.slot(route, run.places.cluster_id))
        keeper = await run.places.open(route.source, replication=True)
        try:
            lsn, _ = await copying.make_slot(run, back, route, keeper)
        finally:
            keeper.close()
        await run.point("prepare_back: slot made")
        await run.places.ask(route.target, copying.begins(back, route, lsn))


async def _unprepare_back(run: Run) -> None:
    back = run.workflow.back
    await _drop_slots(run, back)
    await _drop_publications(run, back)
    for group in run.workflow.groups:
        await _drop_side(run, back, group)


async def _announce(run: Run) -> None:
    await announce(run, [piece.id for piece in run.workflow.old])


async def _way_back_is_there(run: Run) -> bool:
    """Whether the slots for the way back are where they were made: a failover of a target loses them."""
    back, known = run.workflow.back, run.workflow.memory.get("timelines", {})
    for route in back.routes:
        slot = literal(back.slot(route, run.places.cluster_id))
        rows = await run.places.ask(
            route.source,
            f"SELECT pgherd.timeline() FROM pg_replication_slots WHERE slot_name = {slot}",
        )
        if not rows or int(rows[0][0] or 0) != known.get(back.stream(route)):
            return False
    return True


async def _cut(run: Run) -> None:
    if not await _way_back_is_there(run):
        await _prepare_back(run)
    workflow = run.workflow
    await cut_over(
        run,
        Cut(direction=workflow.forward, aside=workflow.back.side, then={"step": "cutover", "state": "kept"}),
    )


async def _keep(run: Run) -> None:
    """The old tables follow the new ones until somebody confirms, or undoes, or the time is over."""
    workflow = run.workflow
    await _drop_slots(run, workflow.forward)
    if workflow.kept_until is None:
        await run.note(kept_until=_in(workflow.limits.keep_for_s))
    await finish_tables(run, workflow.forward)
    try:
        await _follow(run)
    except (Refused, SourceReplaced, ServerError) as error:
        if run.patience.has(error):
            raise
        await let_go(run, error)


async def _follow(run: Run) -> None:
    back = run.workflow.back
    for group in back.target_groups:
        await run.places.ask(
            group, call("adopt", literal(back.side), run.keyspace, pieces_text(run.workflow.old))
        )
    await run.point("keep: adopted")
    streams = run.start_streams(back)
    while run.workflow.wanted not in ("undo", "confirm") and time.time() < (run.workflow.kept_until or 0):
        await run.progress(lag_bytes=await run.behind(streams))
        await asyncio.sleep(POLL_S)


async def let_go(run: Run, error: PgherdError) -> None:
    """The old tables cannot follow any more (tables or the primary changed): from now on nothing can be undone."""
    await run.stop_streams()
    await withdraw(run)
    await run.note(
        memory={**run.workflow.memory, "lost": True},
        error=f"the old copy cannot be kept in step any more: {error.message}",
        hint="The new placement is in use. It cannot be undone; move or split again.",
    )


def _in(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(time.time() + seconds))


async def finish_tables(run: Run, direction: Direction) -> None:
    """Foreign keys that the cutover took on trust are checked; statistics of the tables now in use are fresh."""
    for group in direction.target_groups:
        for table in run.tables:
            await run.places.ask(group, call("sync_table", literal(table.schema), literal(table.name)))
        for piece in direction.targets_in(group):
            await run.places.ask(
                group, "; ".join(f"ANALYZE {table.in_shard(piece.id)}" for table in run.tables)
            )


async def clean(run: Run) -> None:
    """Nothing is left but the shards in use; again is fine."""
    await run.stop_streams()
    for direction in (run.workflow.forward, run.workflow.back):
        await _drop_slots(run, direction)
        await _drop_publications(run, direction)
        for group in sorted(run.workflow.groups):
            await _drop_side(run, direction, group)
            await run.point("clean: group")


async def cut_back(run: Run) -> None:
    """The cutover the other way round: the old shards are in use again."""
    workflow = run.workflow
    await announce(run, [piece.id for piece in workflow.new])
    await cut_over(
        run,
        Cut(
            direction=workflow.back,
            aside=workflow.forward.side,
            then={"step": "undone", "going": "undo"},
            undo=True,
        ),
    )


STEPS: Final[tuple[Step, ...]] = (
    Step(name="preflight", do=_preflight, undo=_nothing),
    Step(name="stage", do=_stage, undo=_unstage),
    Step(name="publish", do=_publish, undo=_unpublish),
    Step(name="copy", do=copying.copy, undo=_uncopy),
    Step(name="index", do=copying.index, undo=_nothing),
    Step(name="catch_up", do=_catch_up, undo=_nothing),
    Step(name="verify", do=_verify, undo=_nothing),
    Step(name="prepare_back", do=_prepare_back, undo=_unprepare_back),
    Step(name="announce", do=_announce, undo=withdraw),
    Step(name="cutover", do=_cut, undo=_nothing),
    Step(name="keep", do=_keep, undo=_nothing),
    Step(name="clean", do=clean, undo=_nothing),
)
