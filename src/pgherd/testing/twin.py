"""An in-memory twin of the groups for the commit protocol, and a seeded simulation over it.

The twin does what PostgreSQL does to each effect, in a few lines. The simulation lets coordinators and recovering
processes race, loses and delays messages, kills coordinators at any step and crashes groups. At the end everything must
be settled, and alike everywhere.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from pgherd.catalog.model import GroupId
from pgherd.transaction import two_phase
from pgherd.transaction.two_phase import (
    Ask,
    Decide,
    Effect,
    Finish,
    Gid,
    Phase,
    Prepare,
    Protocol,
    Result,
    Undo,
    UndoHome,
)


class Violation(AssertionError):
    """The protocol broke a promise."""


@dataclass(slots=True)
class TwinGroup:
    """One group: open branches die with a crash; prepared ones, decisions and what was committed stay."""

    id: GroupId
    up: bool = True
    open: set[str] = field(default_factory=set[str])
    prepared: dict[str, Gid] = field(default_factory=dict[str, Gid])
    decisions: dict[str, str] = field(default_factory=dict[str, str])
    committed: set[str] = field(default_factory=set[str])
    undone: set[str] = field(default_factory=set[str])

    def execute(self, effect: Effect) -> Result:
        """What the server does with one effect, atomically."""
        match effect:
            case Prepare(gid=gid):
                if gid.id not in self.open:
                    return Result.REFUSED
                self.open.discard(gid.id)
                self.prepared[gid.id] = gid
            case Decide(id=id_):
                if id_ not in self.open:
                    return Result.REFUSED
                self.open.discard(id_)
                if id_ in self.decisions:
                    self.undone.add(id_)
                    return Result.REFUSED
                self.decisions[id_] = "committed"
                self.committed.add(id_)
            case Ask(id=id_):
                said = self.decisions.setdefault(id_, "aborted")
                return Result.SAYS_COMMITTED if said == "committed" else Result.SAYS_ABORTED
            case Finish(gid=gid):
                if self.prepared.pop(gid.id, None) is not None:
                    self.committed.add(gid.id)
            case Undo(gid=gid, prepared=True):
                if self.prepared.pop(gid.id, None) is not None:
                    self.undone.add(gid.id)
            case Undo(gid=gid):
                self.end_branch(gid.id)
            case UndoHome():
                pass  # the caller ends the branch: the effect does not carry the id
        return Result.DONE

    def end_branch(self, id_: str) -> None:
        """Roll back an open branch, as a lost connection does."""
        if id_ in self.open:
            self.open.discard(id_)
            self.undone.add(id_)

    def crash(self) -> None:
        """Restart: open branches are gone."""
        self.up = False
        for id_ in tuple(self.open):
            self.end_branch(id_)


@dataclass(slots=True)
class Actor:
    """One coordinator or recovering process, in the midst of a step. `waiting`: effects without an answer yet."""

    protocol: Protocol
    coordinator: bool
    waiting: list[Effect] = field(default_factory=list[Effect])
    results: dict[Effect, Result] = field(default_factory=dict[Effect, Result])
    lost: set[GroupId] = field(default_factory=set[GroupId])
    alive: bool = True

    def start_step(self) -> None:
        self.waiting = list(self.protocol.effects())
        self.results = {}

    def answered(self, effect: Effect, result: Result) -> None:
        """Note a result; with the last one the protocol advances."""
        self.waiting.remove(effect)
        self.results[effect] = result
        if not self.waiting:
            self.advance()

    def advance(self) -> None:
        """Go on through steps that have no effects."""
        self.protocol = self.protocol.advance(self.results)
        self.start_step()
        while not self.protocol.final and not self.waiting:
            self.protocol = self.protocol.advance({})
            self.start_step()


class World:
    """Groups, actors and messages under way. Every choice is the caller's; nothing here is left to chance."""

    def __init__(self, groups: int) -> None:
        self.groups = {GroupId(g): TwinGroup(GroupId(g)) for g in range(groups)}
        self.actors: list[Actor] = []
        self.late: list[tuple[Effect, str]] = []  # messages that arrive after their sender gave them up
        self.participants: dict[str, tuple[GroupId, ...]] = {}
        self.acknowledged: dict[str, Phase] = {}
        self.crashes: Counter[str] = Counter()

    def begin(self, number: int, groups: tuple[GroupId, ...]) -> Actor:
        """A transaction that has written in `groups` and starts to commit; the first is home."""
        id_ = two_phase.make_id(groups[0], 1_700_000_000, number)
        for group in groups:
            self.groups[group].open.add(id_)
        self.participants[id_] = groups
        return self._add(Actor(two_phase.begin(id_, groups[0], 0, groups[1:]), coordinator=True))

    def recover(self, id_: str, gids: tuple[Gid, ...]) -> Actor:
        """A process that met these prepared transactions."""
        return self._add(Actor(two_phase.recover(id_, gids), coordinator=False))

    def _add(self, actor: Actor) -> Actor:
        actor.start_step()
        self.actors.append(actor)
        return actor

    def in_doubt(self) -> dict[str, tuple[Gid, ...]]:
        """What recovery sees in the groups that are up."""
        found: dict[str, list[Gid]] = {}
        for group in self.groups.values():
            if group.up:
                for id_, gid in group.prepared.items():
                    found.setdefault(id_, []).append(gid)
        return {id_: tuple(gids) for id_, gids in sorted(found.items())}

    def deliver(self, actor: Actor, effect: Effect, fate: str) -> None:
        """Carry out one effect. `fate`: "answered", "answer lost", "lost", "late" (executed at some later moment)."""
        group = self.groups[effect.group]
        own = isinstance(effect, Prepare | Decide | UndoHome)
        if own and effect.group in actor.lost:
            fate = "lost"
        if not group.up:
            fate = "lost"
        result = Result.LOST
        if fate in ("answered", "answer lost"):
            done = self._execute(effect, actor.protocol.id)
            result = done if fate == "answered" else Result.LOST
        elif fate == "late":
            self.late.append((effect, actor.protocol.id))
        if result is Result.LOST and own:
            actor.lost.add(effect.group)
            if fate != "late":
                group.end_branch(actor.protocol.id)  # its connection is gone
        if isinstance(effect, UndoHome):
            result = Result.DONE
        actor.answered(effect, result)
        if actor.coordinator and actor.protocol.final:
            self.acknowledged[actor.protocol.id] = actor.protocol.phase

    def _execute(self, effect: Effect, id_: str) -> Result:
        group = self.groups[effect.group]
        if isinstance(effect, UndoHome):
            group.end_branch(id_)
        return group.execute(effect)

    def deliver_late(self, at: int) -> None:
        """A message that its sender gave up arrives after all, and then its connection ends."""
        effect, id_ = self.late.pop(at)
        if self.groups[effect.group].up:
            self._execute(effect, id_)
            self.groups[effect.group].end_branch(id_)

    def kill(self, actor: Actor) -> None:
        """kill -9: its connections close, and PostgreSQL rolls back its open branches."""
        self.crashes[
            f"{'coordinator' if actor.coordinator else 'recovery'} dies while {actor.protocol.phase.value}"
        ] += 1
        actor.alive = False
        self.actors.remove(actor)
        if actor.coordinator:
            for group in self.groups.values():
                group.end_branch(actor.protocol.id)

    def crash(self, group: TwinGroup) -> None:
        """A group goes down."""
        self.crashes["group goes down"] += 1
        group.crash()

    def settle_everything(self) -> None:
        """All groups come back, all actors end or die, recovery runs: after that nothing may be in doubt."""
        for group in self.groups.values():
            group.up = True
        while self.late:
            self.deliver_late(0)
        for actor in list(self.actors):
            while not actor.protocol.final:
                self.deliver(actor, actor.waiting[0], "answered")
        for id_, gids in self.in_doubt().items():
            actor = self.recover(id_, gids)
            while not actor.protocol.final:
                self.deliver(actor, actor.waiting[0], "answered")

    def check(self) -> None:
        """No transaction is committed here and undone there; what was acknowledged holds. True at any moment."""
        for id_, groups in self.participants.items():
            committed = {g for g in groups if id_ in self.groups[g].committed}
            undone = {g for g in groups if id_ in self.groups[g].undone}
            if committed and undone:
                raise Violation(f"{id_}: committed in {sorted(committed)}, undone in {sorted(undone)}")
            said = self.acknowledged.get(id_)
            if said is Phase.COMMITTED and committed != set(groups):
                raise Violation(f"{id_}: acknowledged, but only {sorted(committed)} of {groups} show it")
            if said is Phase.ABORTED and committed:
                raise Violation(f"{id_}: reported as rolled back, but {sorted(committed)} committed")

    def check_settled(self) -> None:
        """After `settle_everything`: every transaction ended, nothing is left prepared or open."""
        self.check()
        for group in self.groups.values():
            if group.prepared or group.open:
                raise Violation(
                    f"group {group.id} keeps {sorted(group.prepared)} prepared and {sorted(group.open)} open"
                )
        for id_, groups in self.participants.items():
            ends = {id_ in self.groups[g].committed for g in groups}
            if len(ends) > 1:
                raise Violation(f"{id_}: half committed")


def simulate(seed: int, *, groups: int = 4, transactions: int = 5, steps: int = 250) -> World:
    """One run; raises Violation. The same seed gives the same run."""
    chance = random.Random(seed)
    world = World(groups)
    for step in range(steps):
        if len(world.participants) < transactions and chance.random() < 0.2:
            chosen = chance.sample(sorted(world.groups), chance.randint(2, groups))
            world.begin(seed * 1000 + step, tuple(chosen))
        _something_happens(world, chance)
        world.check()
    world.settle_everything()
    world.check_settled()
    return world


def _something_happens(world: World, chance: random.Random) -> None:
    running = [actor for actor in world.actors if not actor.protocol.final]
    draw = chance.random()
    if draw < 0.04 and running:
        world.kill(chance.choice(running))
    elif draw < 0.07:
        world.crash(world.groups[chance.choice(sorted(world.groups))])
    elif draw < 0.12:
        world.groups[chance.choice(sorted(world.groups))].up = True
    elif draw < 0.20 and world.in_doubt():
        id_ = chance.choice(sorted(world.in_doubt()))
        world.recover(id_, world.in_doubt()[id_])
    elif draw < 0.24 and world.late:
        world.deliver_late(chance.randrange(len(world.late)))
    elif running:
        actor = chance.choice(running)
        fate = chance.choices(("answered", "answer lost", "lost", "late"), (85, 6, 5, 4))[0]
        world.deliver(actor, chance.choice(actor.waiting), fate)
