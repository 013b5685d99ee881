"""One parsed statement: its own text and its tree. The only shape in which SQL travels between stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`text`: this statement alone, no semicolon. `tree`: libpg_query's node inside `Node` (SelectStmt, InsertStmt ...).

    `kind`: the protobuf field name ("select_stmt", "create_stmt", ...). Locations in the tree are byte offsets into
    `text` encoded as UTF-8.
    """

    text: str
    kind: str
    tree: Any
