"""A workflow as it is recorded in pgherd.workflows, and the names of everything that it creates. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NewType

from pgherd.catalog.model import GroupId, ShardId
from pgherd.catalog.text import literal

WorkflowId = NewType("WorkflowId", int)
State = Literal["waiting", "running", "paused", "kept", "done", "cancelled", "undone", "failed"]
Going = Literal["forward", "cancel", "undo"]
Wanted = Literal["run", "pause", "cancel", "undo", "confirm"]

UNFINISHED: tuple[State, ...] = ("waiting", "running", "paused", "kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A shard as pgherd.shards has it: bounds in text form, one value for each column of the key that has one."""

    id: ShardId
    keyspace: str
    strategy: str
    group: GroupId
    range_start: tuple[str, ...] | None = None
    range_end: tuple[str, ...] | None = None
    modulus: int | None = None
    remainder: int | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Piece:
        """From the row as json."""
        start, end = row.get("range_start"), row.get("range_end")
        return cls(
            id=ShardId(row.get("id") or 0),
            keyspace=row["keyspace"],
            strategy=row["strategy"],
            group=GroupId(row["group_id"]),
            range_start=None if start is None else tuple(start),
            range_end=None if end is None else tuple(end),
            modulus=row.get("modulus"),
            remainder=row.get("remainder"),
        )

    def row(self) -> dict[str, Any]:
        """The row as json."""
        return {
            "id": int(self.id), "keyspace": self.keyspace, "strategy": self.strategy, "group_id": int(self.group),
            "range_start": None if self.range_start is None else list(self.range_start),
            "range_end": None if self.range_end is None else list(self.range_end),
            "modulus": self.modulus, "remainder": self.remainder,
        }  # fmt: skip

    def halves(self, at: tuple[str, ...] | None = None) -> tuple[Piece, Piece]:
        """The two parts of a range shard that is cut at a point, or (None) of a hash shard whose modulus doubles."""
        if at is not None:
            return replace(self, range_end=at), replace(self, range_start=at)
        left = replace(self, modulus=2 * (self.modulus or 1))
        return left, replace(left, remainder=(self.remainder or 0) + (self.modulus or 1))


def pieces_text(pieces: tuple[Piece, ...]) -> str:
    """The shards as a jsonb literal."""
    return literal(json.dumps([piece.row() for piece in pieces])) + "::jsonb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a workflow may do; settings of the workflow, with these defaults.

    `retained_bytes`: WAL that a slot may hold back on a source; from half of it on, the workflow says so. `free_part`: how much of a disk
    stays free. `calm_bytes`: how far a stream may be behind when a cutover is tried. `tries`: cutovers until it gives up. `announce_s`: how long routers have to notice that a cutover is near; they look every second.
    """

    max_pause_ms: int = 200
    keep_for_s: float = 3600.0
    retained_bytes: int = 8 << 30
    free_part: float = 0.1
    calm_bytes: int = 256 << 10
    tries: int = 1000
    verify: bool = True
    announce_s: float = 2.2

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Limits:
        known = {name: row[name] for name in cls.__slots__ if row.get(name) is not None}
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Changes of the shards `pieces`, which live in `source`, that are to arrive in `target`."""

    source: GroupId
    target: GroupId
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One row of pgherd.workflows. `old` and `new`: the shards before and after."""

    id: WorkflowId
    kind: str
    keyspace: str
    old: tuple[Piece, ...]
    new: tuple[Piece, ...]
    limits: Limits = field(default_factory=Limits)
    state: State = "waiting"
    going: Going = "forward"
    wanted: Wanted = "run"
    step: str = ""
    phase: str = ""
    memory: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kept_until: float | None = None  # seconds since 1970

    @property
    def forward(self) -> Direction:
        """From the old shards to the new ones."""
        return Direction(workflow=self.id, letter="w", sources=self.old, targets=self.new)

    @property
    def back(self) -> Direction:
        """From the new shards to the old ones, which are kept."""
        return Direction(workflow=self.id, letter="b", sources=self.new, targets=self.old)

    @property
    def groups(self) -> frozenset[GroupId]:
        """The groups that hold shards before or after."""
        return frozenset(piece.group for piece in (*self.old, *self.new))


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One way of a workflow, with the names of what it needs. `letter`: w forward, b back."""

    workflow: WorkflowId
    letter: Literal["w", "b"]
    sources: tuple[Piece, ...]
    targets: tuple[Piece, ...]

    @property
    def side(self) -> str:
        """The schema of the staged roots; also the publication's name."""
        return f"pgherd_{self.letter}{self.workflow}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """A stream for each pair of groups."""
        pairs = sorted({(s.group, t.group) for s in self.sources for t in self.targets})
        return tuple(
            Route(source=a, target=b, pieces=tuple(piece for piece in self.sources if piece.group == a))
            for a, b in pairs
        )

    @property
    def source_groups(self) -> tuple[GroupId, ...]:
        return tuple(sorted({piece.group for piece in self.sources}))

    @property
    def target_groups(self) -> tuple[GroupId, ...]:
        return tuple(sorted({piece.group for piece in self.targets}))

    def targets_in(self, group: GroupId) -> tuple[Piece, ...]:
        return tuple(piece for piece in self.targets if piece.group == group)

    def slot(self, route: Route, cluster: str) -> str:
        """The replication slot of a route. Slots are a server's, and groups (and clusters) may share one."""
        return f"{slot_prefix(cluster)}{self.letter}{self.workflow}_{route.source}_{route.target}"

    def stream(self, route: Route) -> str:
        """The row of pgherd.applied."""
        return f"{self.letter}{self.workflow}_{route.source}_{route.target}"


def slot_prefix(cluster: str) -> str:
    """How the names of all slots of a cluster (by its uuid) begin."""
    return f"pgherd_{cluster.replace('-', '')[:10]}_"
