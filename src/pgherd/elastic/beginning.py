"""From a decision to a workflow: the one place that knows how `reshard` is asked for something."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pgherd.balance.assemble import log_rows
from pgherd.balance.decision import Action, Merge, Move, Split
from pgherd.catalog import naming
from pgherd.catalog.ddl.change import dumps
from pgherd.catalog.model import ClusterMap, Keyspace, ShardId
from pgherd.elastic.reading import HOME, Ask
from pgherd.errors import WrongState
from pgherd.reshard.model import Piece, pieces_text


def wish(action: Action, pieces: Sequence[Piece], keyspace: Keyspace) -> tuple[tuple[Piece, ...], bool]:
    """The shards after an action, and whether they get new numbers. `pieces`: those before, the left one first."""
    one = pieces[0]
    match action:
        case Move():
            return (replace(one, group=action.to_group),), False
        case Merge() if one.strategy == "hash":
            return (replace(one, id=ShardId(0), modulus=(one.modulus or 2) // 2),), True
        case Merge():
            return (replace(one, id=ShardId(0), range_end=pieces[1].range_end),), True
        case Split():
            left, right = one.halves(None if action.at is None else naming.texts_of(keyspace, action.at))
            return (left, replace(right, group=action.to_group)), True


async def begin(ask: Ask, action: Action, cluster: ClusterMap, settings: Mapping[str, Any]) -> int:
    """Record the workflow, and the decision with its reason, in one transaction of group 0; answers the workflow's number.

    Raises WrongState if a shard is no more, ServerError 55006 if another workflow holds it.
    """
    ids = (action.shard, action.right) if isinstance(action, Merge) else (action.shard,)
    listed = ", ".join(str(int(shard)) for shard in ids)
    rows = await ask(
        HOME,
        f"SELECT to_jsonb(s) FROM pgherd.shards s WHERE id IN ({listed}) ORDER BY id = {ids[0]} DESC",
    )
    pieces = tuple(Piece.read(json.loads(row[0] or "{}")) for row in rows)
    if len(pieces) != len(ids) or pieces[0].group != action.group:
        raise WrongState("the shard has changed meanwhile")
    new, number = wish(action, pieces, cluster.keyspaces[action.keyspace])
    names = {keyspace.id: keyspace.name for keyspace in cluster.keyspaces.values()}
    row = log_rows([action], names)[0]
    made = await ask(
        HOME,
        f"SELECT pgherd.begin_decision({dumps(row)}, {pieces_text(pieces)}, {pieces_text(new)},"
        f" {dumps(dict(settings))}, {str(number).lower()})",
    )
    return int(made[0][0] or 0)
