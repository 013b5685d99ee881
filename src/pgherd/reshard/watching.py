"""Watching a workflow on behalf of whoever asked for it: progress as notices, its end as the statement's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pgherd.errors import Cancelled, WorkflowFailed
from pgherd.reshard.asking import Asking

EVERY_S = 0.25
LONELY_S = 15.0

# the controller's lock (controller.duties.LOCK), as pg_locks shows it
_CONTROLLED = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = {0x7069 << 16} AND objid = 0"

_ROW = (
    "SELECT state, going, phase, progress, error, hint, pause_ms, to_char(kept_until, 'HH24:MI:SS TZ'), step,"
    " extract(epoch FROM clock_timestamp() - updated_at), wanted FROM pgherd.workflows WHERE id = {number}"
)


async def watch(session: Asking, number: int, *, until: tuple[str, ...] = ("kept", "done")) -> None:
    """Until it is in one of those states. Raises WorkflowFailed if it ends otherwise, Cancelled if the user gives up watching."""
    said = ""
    while True:
        rows = await session.ask(_ROW.format(number=number))
        state, going, phase, progress, error, hint, pause_ms, kept, _, still, wanted = rows[0]
        if state in until:
            _tell_end(session, number, state or "", pause_ms, kept)
            return
        if state == "kept" and "undone" in until and wanted == "run" and error:
            raise WorkflowFailed(f"workflow {number} could not be undone: {error}", hint=hint)
        resting = state == "paused" and wanted == "pause"  # else it was asked to go on, and is about to
        if resting or state in ("failed", "cancelled", "undone", "done"):
            raise WorkflowFailed(
                f"workflow {number} is {state}" + (f": {error}" if error else ""),
                hint=hint
                or (
                    f"CALL pgherd.resume({number}) goes on."
                    if state == "paused"
                    else "Everything is as it was before."
                ),
            )
        if getattr(session.work.tx, "cancel_asked", False):
            raise Cancelled(
                f"watching workflow {number} was given up; it goes on",
                hint=f"CALL pgherd.cancel({number}) ends it.",
            )
        if state == "waiting" and float(still or 0) > LONELY_S and said != "lonely":
            said = "lonely"
            if not await session.ask(_CONTROLLED):
                raise WorkflowFailed(
                    f"workflow {number} is recorded, but no gateway runs that could carry it out",
                    hint=f"It begins when one does. CALL pgherd.cancel({number}) ends it; offline => true needs none, and locks the tables.",
                )
            session.work.notice(f"workflow {number} waits for another workflow in its groups")
        _tell_progress(session, number, phase or state or "", json.loads(progress or "{}"), going or "")
        await asyncio.sleep(EVERY_S)


def _tell_end(session: Asking, number: int, state: str, pause_ms: str | None, kept: str | None) -> None:
    pause = f"writers paused for {float(pause_ms):.0f} ms" if pause_ms else "switched over"
    back = f"; until {kept} CALL pgherd.undo({number}) takes it back" if state == "kept" and kept else ""
    session.work.notice(f"workflow {number} is done, {pause}{back}")


def _tell_progress(session: Asking, number: int, phase: str, progress: dict[str, Any], going: str) -> None:
    done, total = (
        progress.get("bytes", progress.get("done", 0)),
        progress.get("total_bytes", progress.get("total", 0)),
    )
    parts = [text for text in (_rate(progress), _lag(progress), progress.get("waiting_for")) if text]
    more = f" ({', '.join(parts)})" if parts else ""
    session.work.progress(
        f"workflow {number}{' back' if going != 'forward' else ''}: {phase}{more}", int(done), int(total)
    )


def _rate(progress: dict[str, Any]) -> str:
    if "rate" not in progress:
        return ""
    return f"{progress['rate'] / 1e6:.1f} MB/s, {progress.get('eta_s', 0):.0f} s left"


def _lag(progress: dict[str, Any]) -> str:
    return f"{progress['lag_bytes'] / 1e6:.1f} MB behind" if progress.get("lag_bytes") else ""
