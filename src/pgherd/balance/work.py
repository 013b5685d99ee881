"""A round of decisions while it is made, and what its parts share: which groups are taken, and how a split is begun."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from pgherd.balance import sentence
from pgherd.balance.decision import Action, Merge, Nothing, Split, left_alone
from pgherd.balance.memory import Memory, Subject
from pgherd.balance.picture import Picture, ShardPicture
from pgherd.balance.splitting import split
from pgherd.balance.spread import Spread
from pgherd.balance.standing import COPY_PART, Standing
from pgherd.catalog.model import GroupId, KeyspaceId, ShardId

HOPELESS: Final = frozenset({"hot_key", "hot_end", "no_point"})
AGAIN_ROUNDS: Final = 8


@dataclass(slots=True)
class Work:
    """A round while it is made."""

    picture: Picture
    memory: Memory
    spread: Spread
    held: frozenset[ShardId]  # by running workflows
    left: int  # workflows that may begin yet
    actions: list[Action] = field(default_factory=list[Action])
    nothings: list[Nothing] = field(default_factory=list[Nothing])
    passed_over: dict[Subject, str] = field(
        default_factory=dict[Subject, str]
    )  # told before, and surely still so
    counts: dict[KeyspaceId, int] = field(default_factory=dict[KeyspaceId, int])  # see `shards_of`

    @property
    def blocked(self) -> set[GroupId]:
        return self.spread.blocked

    def act(self, action: Action) -> None:
        self.actions.append(action)
        self.left -= 1
        self.blocked.add(action.group)
        if not isinstance(action, Merge):
            self.blocked.add(action.to_group)


def hopeless(work: Work, shard: ShardPicture) -> bool:
    """Whether a split was found to be of no help lately: that is looked at again in one round of `AGAIN_ROUNDS`."""
    code = work.memory.told.get(("shard", shard.id))
    if code not in HOPELESS or (work.memory.rounds + shard.id) % AGAIN_ROUNDS == 0:
        return False
    work.passed_over["shard", shard.id] = code
    return True


def shards_of(work: Work, keyspace: KeyspaceId) -> int:
    """How many shards a keyspace has when all splits are done that run, or begin in this round."""
    if not work.counts:
        running = [one for one in work.picture.running if one.kind == "split" and one.groups]
        split_now = frozenset(shard for one in running for shard in one.shards)
        for shard in work.picture.shards:
            more = 2 if shard.id in split_now else 1
            work.counts[shard.keyspace] = work.counts.get(shard.keyspace, 0) + more
    begun = sum(isinstance(one, Split) and one.keyspace == keyspace for one in work.actions)
    return work.counts.get(keyspace, 0) + begun


def try_split(work: Work, shard: ShardPicture, balance: str) -> Split | Nothing:
    verdict = split(work.picture, shard, balance=balance)
    source = work.spread.standings[shard.group]
    if isinstance(verdict, Split) and not source.fits(shard.bytes):
        verdict = no_room(
            shard, source, shard.bytes
        )  # both parts are copied, at least one of them beside the shard
    if isinstance(verdict, Nothing):
        work.nothings.append(verdict)
    elif work.left > 0:
        verdict = _placed(work, shard, verdict)
        work.act(verdict)
    return verdict


def _placed(work: Work, shard: ShardPicture, verdict: Split) -> Split:
    """The split with its right part where that does the balance good: both parts are copied anyway."""
    source = work.spread.standings[shard.group]
    if not work.picture.keyspaces[shard.keyspace].settings.automove:
        return verdict
    share = verdict.right_share
    load = shard.write_share * shard.appended if verdict.code == "grows" else share
    right = replace(
        shard,
        bytes=int(shard.bytes * share),
        seconds=shard.seconds * load,
        statements=shard.statements * load,
    )
    target = work.spread.better_place(right, source, shard.bytes)
    if target is None:
        return verdict
    work.spread.hand_over(right, source, target)
    reason = f"{verdict.reason}; the right part goes to group {target.group.id}, which carries less"
    return replace(verdict, to_group=target.group.id, reason=reason)


def no_room(shard: ShardPicture, target: Standing, size: int) -> Nothing:
    """A copy of `size` bytes, of the shard or a part of it, does not fit on a group's disk."""
    free, needs = max(int(target.room), 0), int(size * COPY_PART)
    text = (
        f"no room on group {target.group.id} for a copy of shard {shard.id}: {sentence.size(free)} free beside what "
        f"must stay free, needs {sentence.size(needs)}"
    )
    return Nothing(
        code="no_room", reason=text, keyspace=shard.keyspace, shard=shard.id, group=target.group.id,
        figures={"free": free, "needs": needs, "bytes": shard.bytes},
    )  # fmt: skip


def too_many(work: Work, shard: ShardPicture) -> Nothing | None:
    most, count = work.picture.keyspaces[shard.keyspace].settings.shards_max, shards_of(work, shard.keyspace)
    if count < most:
        return None
    text = f"the keyspace has {count} shards, and shards_max is {most}"
    return left_alone(shard, "shards_max", text)
