"""Writing a workflow down: from then on it is carried out, whatever becomes of who asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pgherd.catalog.text import literal
from pgherd.engine.link import Link
from pgherd.reshard.model import Piece


async def write_down(
    link: Link, kind: str, old: tuple[Piece, ...], new: tuple[Piece, ...], settings: Mapping[str, Any]
) -> int:
    """Record a workflow. New shards of a split or merge get their numbers here."""
    before, after = (literal(json.dumps([piece.row() for piece in pieces])) for pieces in (old, new))
    rows = await link.run(
        f"SELECT pgherd.request_workflow({literal(kind)}, {literal(old[0].keyspace)}, {before}::jsonb, {after}::jsonb,"
        f" {literal(json.dumps(dict(settings)))}::jsonb, {literal(kind != 'move')})"
    )
    return int(rows[0][0] or 0)
