"""The commit protocol under chance: seeded simulation, and a hypothesis state machine over the same twin."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pgherd.catalog.model import GroupId
from pgherd.testing import twin
from pgherd.testing.coverage import covered
from pgherd.testing.twin import Violation, World, simulate
from pgherd.transaction import two_phase
from pgherd.transaction.two_phase import Phase, Result

SEEDS = 250


def test_simulation() -> None:
    crashes: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            world = simulate(seed)
        except Violation as error:
            pytest.fail(f"seed {seed}: {error}")
        crashes += world.crashes
        ends += Counter(phase.value for phase in world.acknowledged.values())
    covered("simulated transactions that ended", ends)
    covered("simulated crashes", crashes)
    assert {"committed", "aborted", "pending", "unknown"} <= set(ends)
    assert all(
        crashes[f"coordinator dies while {phase.value}"]
        for phase in (Phase.PREPARING, Phase.DECIDING, Phase.FINISHING)
    )


@pytest.mark.parametrize(
    "mutation",
    [
        {(Phase.DECIDING, Result.LOST): Phase.UNDOING},  # a lost decision taken for a refusal
        {(Phase.PREPARING, Result.LOST): Phase.DECIDING},  # a lost PREPARE taken for success
        {(Phase.FINISHING, Result.LOST): Phase.COMMITTED},  # told "committed" before every group shows it
        {(Phase.ASKING, Result.LOST): Phase.FINISHING},  # no answer taken for yes
    ],
)
def test_the_simulation_finds_a_wrong_protocol(
    mutation: dict[tuple[Phase, Result], Phase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_phase, "TRANSITIONS", {**two_phase.TRANSITIONS, **mutation})
    with pytest.raises(Violation):
        for seed in range(SEEDS):
            simulate(seed)


class Histories(RuleBasedStateMachine):
    """Any order of steps, faults and recoveries; after each, and at the end, all promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(3)
        self.begun = 0

    def running(self) -> list[twin.Actor]:
        return [actor for actor in self.world.actors if not actor.protocol.final]

    @precondition(lambda self: self.begun < 4)
    @rule(order=st.permutations([GroupId(0), GroupId(1), GroupId(2)]), size=st.integers(2, 3))
    def begin(self, order: list[GroupId], size: int) -> None:
        self.begun += 1
        self.world.begin(self.begun, tuple(order[:size]))

    @precondition(lambda self: self.running())
    @rule(
        data=st.data(),
        fate=st.sampled_from(["answered", "answered", "answered", "answer lost", "lost", "late"]),
    )
    def deliver(self, data: st.DataObject, fate: str) -> None:
        actor = data.draw(st.sampled_from(self.running()))
        self.world.deliver(actor, data.draw(st.sampled_from(actor.waiting)), fate)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.world.kill(data.draw(st.sampled_from(self.running())))

    @precondition(lambda self: self.world.in_doubt())
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        id_, gids = data.draw(st.sampled_from(sorted(self.world.in_doubt().items())))
        self.world.recover(id_, gids)

    @precondition(lambda self: self.world.late)
    @rule(data=st.data())
    def deliver_late(self, data: st.DataObject) -> None:
        self.world.deliver_late(data.draw(st.integers(0, len(self.world.late) - 1)))

    @rule(group=st.integers(0, 2))
    def crash(self, group: int) -> None:
        self.world.crash(self.world.groups[GroupId(group)])

    @rule(group=st.integers(0, 2))
    def come_back(self, group: int) -> None:
        self.world.groups[GroupId(group)].up = True

    @invariant()
    def nothing_is_broken(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.settle_everything()
        self.world.check_settled()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
