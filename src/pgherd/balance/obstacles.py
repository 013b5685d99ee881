"""What stands in the way of changing a shard now: settings, the daily window, a recent change, a workflow."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

from pgherd.balance import sentence
from pgherd.balance.decision import Nothing, NothingCode, left_alone
from pgherd.balance.picture import Picture, ShardPicture
from pgherd.catalog.model import GroupId, KeyspaceId, ShardId

Change = Literal["split", "move", "merge"]


def held_back(picture: Picture, shard: ShardPicture, change: Change, blocked: set[GroupId]) -> Nothing | None:
    """Why this change of a shard may not begin now, or None. `blocked` groups take part in a workflow."""
    settings = picture.keyspaces[shard.keyspace].settings
    if not settings.autosplit:
        return _nothing(shard, "off", "autosplit is off for this keyspace")
    if change == "move" and not settings.automove:
        return _nothing(shard, "off", "automove is off for this keyspace")
    if settings.window is not None and not settings.window.holds(picture.now_s):
        return _nothing(shard, "window", f"waits for the daily window, {settings.window} UTC")
    wait_s = cooling_s(picture, shard, change)
    if wait_s > 0:
        ago = sentence.seconds(picture.now_s - shard.changed_s)
        text = f"was changed {ago} ago: cooled down in {sentence.seconds(wait_s)}"
        return _nothing(shard, "cooling", text, round(wait_s))
    if shard.group in blocked:
        return _nothing(shard, "busy", f"waits for the workflow that group {shard.group} takes part in")
    return None


class Movable:
    """Which shards may move as far as settings, window, cool-down and workflows go: `held_back` without its sentences, for thousands."""

    def __init__(self, picture: Picture, held: Container[ShardId]) -> None:
        self._now_s, self._held = picture.now_s, held
        self._waits: dict[KeyspaceId, tuple[float, float]] = {}
        for keyspace in picture.keyspaces.values():
            settings = keyspace.settings
            window = settings.window is None or settings.window.holds(picture.now_s)
            if settings.autosplit and settings.automove and window:
                self._waits[keyspace.id] = settings.cooldown_s, max(settings.cooldown_s, settings.stay_s)

    def __call__(self, shard: ShardPicture) -> bool:
        waits = self._waits.get(shard.keyspace)
        if waits is None or shard.born_s + waits[0] > self._now_s or shard.moved_s + waits[1] > self._now_s:
            return False
        return shard.id not in self._held


def cooling_s(picture: Picture, shard: ShardPicture, change: Change) -> float:
    """How long a shard is to be left alone yet: after any change, and longer in its group after a move."""
    settings = picture.keyspaces[shard.keyspace].settings
    wait_s = shard.changed_s + settings.cooldown_s - picture.now_s
    if change == "move":
        wait_s = max(wait_s, shard.moved_s + settings.stay_s - picture.now_s)
    return wait_s


def _nothing(shard: ShardPicture, code: NothingCode, reason: str, wait_s: int | None = None) -> Nothing:
    figures = {"bytes": shard.bytes, "load": round(shard.load, 4)}
    if wait_s is not None:
        figures["wait_s"] = wait_s
    return left_alone(shard, code, reason, figures)
