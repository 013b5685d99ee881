"""Why a shard is as it is: what would be decided about it now, in sentences with figures."""

from __future__ import annotations

from dataclasses import replace

from pgherd.balance import sentence
from pgherd.balance.decide import decide
from pgherd.balance.decision import Decision, Merge, Nothing, left_alone
from pgherd.balance.memory import Memory
from pgherd.balance.picture import Picture, ShardPicture
from pgherd.balance.standing import standings
from pgherd.catalog.model import ShardId


def explain(picture: Picture, memory: Memory, shard_id: ShardId) -> tuple[Decision, ...]:
    """Everything that a round would say about the shard, or that it is within its limits. Raises KeyError: there is no such shard."""
    shard = {shard.id: shard for shard in picture.shards}[shard_id]
    made = decide(picture, replace(memory, told={}))  # nothing is passed over as known
    found = tuple(
        decision
        for decision in (*made.actions, *made.nothings)
        if decision.shard == shard_id or (isinstance(decision, Merge) and decision.right == shard_id)
    )
    return found or (within_limits(picture, shard),)


def within_limits(picture: Picture, shard: ShardPicture) -> Nothing:
    """How far a shard is from its limits, and how its group stands."""
    settings = picture.keyspaces[shard.keyspace].settings
    stands = standings(picture)[shard.group]
    text = (
        f"within its limits: {sentence.size(shard.bytes)} of {sentence.size(settings.size_max)}, a load of "
        f"{sentence.load(shard.load)} of {sentence.load(settings.load_max)}; group {shard.group} carries "
        f"{stands.load:.2f} times its part of the load and {stands.bytes:.2f} of the bytes"
    )
    figures = {
        "bytes": shard.bytes, "size_max": settings.size_max, "load": round(shard.load, 4), "load_max": settings.load_max,
        "group_load": round(stands.load, 4), "group_bytes": round(stands.bytes, 4),
    }  # fmt: skip
    return left_alone(shard, "within_limits", text, figures)
