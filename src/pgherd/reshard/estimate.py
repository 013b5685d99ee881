"""A dry run: the steps of a workflow with what they would cost. Nothing is created."""

from __future__ import annotations

from typing import Any

from pgherd.reshard.asking import Asking
from pgherd.reshard.model import Limits, Piece
from pgherd.reshard.phases import PHASES

COPY_BYTES_S = 25e6  # a cautious figure for one stream
SCAN_BYTES_S = 100e6


async def show(
    session: Asking, kind: str, old: tuple[Piece, ...], new: tuple[Piece, ...], settings: dict[str, Any]
) -> None:
    """Tell each step as a notice. New shards that have no number yet have 0."""
    limits = Limits.read(settings)
    bytes_ = 0
    for piece in old:
        rows = await session.elsewhere(
            piece.group,
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.relkind = 'r' AND (n.nspname = 'shard_{piece.id}' OR starts_with(n.nspname, 'shard_{piece.id}_'))",
        )
        bytes_ += int(float(rows[0][0] or 0))
    seconds = {
        "copy": bytes_ / COPY_BYTES_S, "index": bytes_ / COPY_BYTES_S / 3, "catch_up": bytes_ / COPY_BYTES_S / 4, "verify": bytes_ / SCAN_BYTES_S,
    }  # fmt: skip
    session.work.notice(
        f"{kind}: {_pieces(old)} to {_pieces(new)}, {bytes_ / 1e6:.1f} MB in all, about {sum(seconds.values()) + 3:.0f} s"
    )
    for number, (step, phase) in enumerate(PHASES.items(), 1):
        cost = f", about {seconds[step]:.1f} s" if step in seconds else ""
        if step == "cutover":
            cost = f", writers pause for at most {limits.max_pause_ms} ms"
        if step == "keep":
            cost = f", for {limits.keep_for_s:.0f} s, with {bytes_ / 1e6:.1f} MB in the old place"
        session.work.notice(f"{number}. {phase}{cost}")


def _pieces(pieces: tuple[Piece, ...]) -> str:
    names = (f"shard {piece.id}" if piece.id else "a new shard" for piece in pieces)
    return " and ".join(f"{name} in group {piece.group}" for name, piece in zip(names, pieces, strict=True))
