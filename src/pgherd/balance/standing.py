"""How each group stands: its load and its bytes as parts of what would be fair, and what a move would change.

A group's fair part goes by its weight; 1 is fair. `peak` is the larger of both parts: a group is overloaded by whichever
it has too much of. Groups that drain have no fair part: all that they hold is to be spread over the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pgherd.balance.picture import GroupPicture, Picture, ShardPicture
from pgherd.balance.settings import Rules
from pgherd.catalog.model import GroupId

COPY_PART: Final = 1.2  # of a shard's bytes: what its copy takes, with what indexes need while they are built


@dataclass(frozen=True, slots=True)
class Scale:
    """What is fair for a group of weight 1: busy seconds per second, and bytes. Not below the rules' floors."""

    load: float
    bytes: float


@dataclass(slots=True)
class Standing:
    """One group's present parts. Mutable: plans put their moves into it."""

    group: GroupPicture
    load: float = 0.0
    bytes: float = 0.0
    peak: float = 0.0
    room: float = 0.0  # bytes that copies may still take here
    load_unit: float = 1.0  # busy seconds per second that make a part of 1
    bytes_unit: float = 1.0

    def parts(self, shard: ShardPicture) -> tuple[float, float]:
        """What a shard adds here: of the load, and of the bytes."""
        return shard.load / self.load_unit, shard.bytes / self.bytes_unit

    def fits(self, size: float) -> bool:
        """Whether there is room for a copy of so many bytes."""
        return size * COPY_PART <= self.room

    def take(self, shard: ShardPicture, sign: int) -> None:
        """Put a shard here (+1), or away (-1)."""
        load, size = self.parts(shard)
        self.load += sign * load
        self.bytes += sign * size
        self.peak = max(self.load, self.bytes)
        if sign > 0:  # what leaves frees its place only when the old copy is gone
            self.room -= shard.bytes * COPY_PART


def scale_of(groups: Iterable[GroupPicture], load: float, size: float, rules: Rules) -> Scale:
    """The fair parts when `load` and `size` are spread over the groups that do not drain."""
    weight = sum(group.weight for group in groups if not group.draining) or 1.0
    return Scale(max(load / weight, rules.floor_load), max(size / weight, float(rules.floor_bytes)))


def standings(picture: Picture, rules: Rules | None = None) -> dict[GroupId, Standing]:
    """All groups as they stand now."""
    rules = rules or picture.rules
    loads = {group.id: 0.0 for group in picture.groups}
    sizes = {group.id: 0 for group in picture.groups}
    for shard in picture.shards:
        group = shard.group
        loads[group] += shard.load
        sizes[group] += shard.bytes
    scale = scale_of(picture.groups, sum(loads.values()), sum(sizes.values()), rules)
    found: dict[GroupId, Standing] = {}
    for group in picture.groups:
        stands = Standing(group, room=group.free_bytes - rules.reserve * group.disk_bytes)
        weight = max(group.weight, 1e-9)
        stands.load_unit, stands.bytes_unit = scale.load * weight, scale.bytes * weight
        stands.load, stands.bytes = loads[group.id] / stands.load_unit, sizes[group.id] / stands.bytes_unit
        stands.peak = max(stands.load, stands.bytes)
        found[group.id] = stands
    return found
