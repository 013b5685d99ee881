"""What a decision looks at: the cluster's groups and shards with their sizes and loads, at one moment.

Load is measured in busy seconds per second: the time that servers spend on a shard's statements. Samples of keys are
kept apart from the shards, since only the few that are near a limit are ever looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgherd.balance.settings import KeyspaceSettings, Rules
from pgherd.catalog.model import GroupId, Key, KeyspaceId, ShardId, Strategy

STATEMENT_S: Final = 50e-6  # what a statement costs a server beside its execution


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPicture:
    """A group. `weight`: its capacity against other groups. `bytes` is what its shards take, `free_bytes` what its disk has left.

    A `draining` group shall become empty; a `busy` one takes part in a workflow, and starts no other.
    """

    id: GroupId
    weight: float = 1.0
    free_bytes: int = 1 << 62
    disk_bytes: int = 1 << 62
    draining: bool = False
    busy: bool = False
    reachable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPicture:
    """A shard. `lower` and `upper` as in the cluster map (canonical values), or `modulus` and `remainder`.

    `statements` and `seconds` are per second, `write_share` the writes' part of the statements, `growth` bytes per second.
    `appended` is the part of the keys written lately that were above every key before them, and `highest` the highest one;
    it went up by `advance` per second (numbers, dates and times only). Times are seconds since 1970: `born_s` when the shard came
    to be by a split or merge, `moved_s` when it came to its group, 0 for long ago; `seen_s` when the controller first saw it.
    """

    id: ShardId
    keyspace: KeyspaceId
    group: GroupId
    lower: Key | None = None
    upper: Key | None = None
    modulus: int = 0
    remainder: int = 0
    bytes: int = 0
    rows: int = 0
    statements: float = 0.0
    seconds: float = 0.0
    write_share: float = 0.0
    growth: float = 0.0
    appended: float = 0.0
    highest: Key | None = None
    advance: float = 0.0
    born_s: float = 0.0
    moved_s: float = 0.0
    seen_s: float = 0.0

    @property
    def load(self) -> float:
        """Busy seconds per second: execution, and a little for each statement."""
        return self.seconds + self.statements * STATEMENT_S

    @property
    def changed_s(self) -> float:
        """When it was last split, merged or moved."""
        return self.born_s if self.born_s > self.moved_s else self.moved_s


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspacePicture:
    """A keyspace and its settings."""

    id: KeyspaceId
    name: str
    strategy: Strategy
    key_types: tuple[str, ...]
    settings: KeyspaceSettings = field(default_factory=KeyspaceSettings)


@dataclass(frozen=True, slots=True)
class KeySample:
    """Keys with weights: of load (seconds) or of rows. A key may come several times; the order does not matter."""

    keys: tuple[Key, ...] = ()
    weights: tuple[float, ...] = ()

    @staticmethod
    def even(keys: Sequence[Key], weight: float = 1.0) -> KeySample:
        """A sample in which every key weighs the same."""
        return KeySample(tuple(keys), (weight,) * len(keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A workflow at work: the shards and groups that it holds."""

    id: int
    kind: str
    shards: frozenset[ShardId]
    groups: frozenset[GroupId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything that one round of decisions looks at.

    `load_samples` are keys weighted by load, `row_samples` keys at even distances of rows (such as a column's
    histogram); either may lack a shard, and may be made only when it is asked for.
    """

    now_s: float
    groups: tuple[GroupPicture, ...]
    keyspaces: Mapping[KeyspaceId, KeyspacePicture]
    shards: tuple[ShardPicture, ...]
    load_samples: Mapping[ShardId, KeySample] = field(default_factory=dict[ShardId, KeySample])
    row_samples: Mapping[ShardId, KeySample] = field(default_factory=dict[ShardId, KeySample])
    running: tuple[Running, ...] = ()
    rules: Rules = field(default_factory=Rules)
