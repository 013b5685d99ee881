"""Watching the controller at work: what it begins and ends, told as it happens, with the load's bars where somebody looks."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgherd.demo.screen import duration
from pgherd.demo.session import Session
from pgherd.demo.traffic import Level, Piece, Traffic, level, rows_of

EVERY_S = 0.25
SPAN_LOOKS = 8  # so many looks back the live bars reach
OVER = ("kept", "done")
FAILED = ("failed", "cancelled", "undone")

WORKFLOWS = """SELECT id, kind, state, phase, pause_ms, error, progress::text AS progress, old::text AS old, new::text AS new
FROM pgherd.workflows WHERE id > $1 ORDER BY id"""
SHARDS = """SELECT id, group_id, range_start[1], range_end[1] FROM pgherd.shards
WHERE keyspace = 'people' ORDER BY range_start NULLS FIRST"""


@dataclass(slots=True)
class Scene:
    """What is watched: the traffic, workflows and decisions after the given numbers; `missed`: what did not come true."""

    session: Session
    traffic: Traffic
    workflows: int
    decisions: int
    shards: int  # before
    began: float = field(default_factory=time.monotonic)
    missed: list[str] = field(default_factory=list[str])
    told: dict[int, str] = field(default_factory=dict[int, str])
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    now: Level = field(default_factory=lambda: Level(shards=(), groups={0: 0.0}))
    looks: deque[tuple[float, Counter[str]]] = field(
        default_factory=lambda: deque[tuple[float, Counter[str]]](maxlen=SPAN_LOOKS)
    )

    @property
    def idle(self) -> bool:
        """Whether no workflow runs."""
        return all(row["state"] in (*OVER, *FAILED) for row in self.seen)

    async def groups(self) -> Sequence[int]:
        """The cluster's groups."""
        return [
            row[0] for row in await self.session.connection.fetch("SELECT id FROM pgherd.groups ORDER BY id")
        ]

    async def placement(self) -> tuple[Sequence[Piece], Sequence[int]]:
        """Where the shards are, and all groups."""
        return rows_of(await self.session.connection.fetch(SHARDS)), await self.groups()

    async def look(self) -> None:
        """Read what is there now."""
        rows = await self.session.connection.fetch(WORKFLOWS, self.workflows)
        self.seen = [dict(row) for row in rows]
        pieces, groups = await self.placement()
        self.looks.append((time.monotonic(), self.traffic.names.copy()))
        since, before = self.looks[0]
        sent = self.traffic.names - before
        self.now = level(pieces, groups, sent, max(time.monotonic() - since, EVERY_S))


async def begin(session: Session, traffic: Traffic) -> Scene:
    """A scene that begins now."""
    connection = session.connection
    workflows: Any = await connection.fetchval("SELECT coalesce(max(id), 0) FROM pgherd.workflows")
    decisions: Any = await connection.fetchval("SELECT coalesce(max(id), 0) FROM pgherd.decisions_log")
    shards = len(await connection.fetch(SHARDS))
    return Scene(session, traffic, workflows, decisions, shards)


async def was_split(scene: Scene) -> bool:
    """Whether there are more shards than before."""
    return scene.idle and len(scene.now.shards) > scene.shards


async def until(
    scene: Scene,
    what: str,
    done: Callable[[Scene], Awaitable[bool]],
    *,
    begins_s: float,
    ends_s: float,
) -> bool:
    """Watch until it is done. If nothing new begins within `begins_s`, or it is not done within `ends_s`, that is said, and noted as missed."""
    scene.began, known = time.monotonic(), len(scene.seen)
    scene.looks.clear()
    with scene.session.screen.live() as show:
        while True:
            await scene.look()
            _tell(scene)
            if await done(scene):
                return True
            passed = time.monotonic() - scene.began
            begun = len(scene.seen) > known or not scene.idle
            if passed > (ends_s if begun else begins_s):
                break
            show(bars(scene.now), _line(scene, passed))
            await asyncio.sleep(EVERY_S)
    bound = f"the controller did not {what} within {passed:.0f} s"
    scene.missed.append(bound)
    scene.session.screen.say(
        f"[bold]{bound[0].upper()}{bound[1:]}[/] (is the machine very busy?). The story goes on without."
    )
    return False


def bars(found: Level) -> Sequence[tuple[str, int, str]]:
    """A bar for each shard, with its group's part; and one for each group that has none."""
    total = found.total or 1.0
    shown = [
        (
            piece.holds,
            round(rate),
            f"shard {piece.id}, group {piece.group} (in all {100 * found.groups[piece.group] / total:.0f} %)",
        )
        for piece, rate in found.shards
    ]
    held = {piece.group for piece, _ in found.shards}
    return [*shown, *(("", 0, f"group {group} is empty") for group in found.groups if group not in held)]


def _tell(scene: Scene) -> None:
    """Say what has begun and what has ended since the last look."""
    for row in scene.seen:
        state = row["state"]
        stage = "over" if state in OVER else state if state in FAILED else "begun"
        if scene.told.get(row["id"]) == stage:
            continue
        if row["id"] not in scene.told:
            _line_of(scene, row, f"begins: {_pieces(row)}")
        scene.told[row["id"]] = stage
        if stage == "over":
            pause = f"; writers waited {row['pause_ms']:.0f} ms" if row["pause_ms"] is not None else ""
            _line_of(scene, row, f"is in use{pause}")
        elif stage in FAILED:
            _line_of(scene, row, f"{state}: {row['error']}")


def _line_of(scene: Scene, row: dict[str, Any], text: str) -> None:
    passed = time.monotonic() - scene.began
    when = "meanwhile" if passed < EVERY_S else f"after {duration(passed)}"
    scene.session.screen.lines([f"{when}: {row['kind']} (workflow {row['id']}) {text}"])


def _pieces(row: dict[str, Any]) -> str:
    """The shards before and after: "shard 2 (group 0) → 4 (group 0), 5 (group 1)"."""
    old, new = (
        ", ".join(f"{piece['id']} (group {piece['group_id']})" for piece in json.loads(row[name]))
        for name in ("old", "new")
    )
    return f"shard {old} → {new}"


def _line(scene: Scene, passed: float) -> str:
    running = [row for row in scene.seen if row["state"] not in (*OVER, *FAILED)]
    doing = ", ".join(f"{row['kind']}: {row['phase'] or row['state']}{_part(row)}" for row in running)
    return f"{passed:.0f} s · {doing or 'the controller looks'} · {scene.traffic.told()}"


def _part(row: dict[str, Any]) -> str:
    progress = json.loads(row["progress"] or "{}")
    total = progress.get("total_bytes", progress.get("total", 0))
    return f" {100 * progress.get('bytes', progress.get('done', 0)) / total:.0f} %" if total else ""
