"""The table of transitions, read as a table; and the names of prepared transactions."""

from __future__ import annotations

import pytest

from pgherd.catalog.model import GroupId
from pgherd.testing.twin import World
from pgherd.transaction import two_phase
from pgherd.transaction.two_phase import (
    FINAL,
    TRANSITIONS,
    Ask,
    Decide,
    Finish,
    Gid,
    Phase,
    Prepare,
    Result,
    Undo,
)

HOME, OTHER, THIRD = GroupId(0), GroupId(1), GroupId(2)
ID = two_phase.make_id(HOME, 1_700_000_000, 7)


def test_every_phase_that_is_not_final_has_a_way_out_for_every_result_it_can_meet() -> None:
    meets = {
        Phase.PREPARING: {Result.DONE, Result.REFUSED, Result.LOST},
        Phase.DECIDING: {Result.DONE, Result.REFUSED, Result.LOST},
        Phase.ASKING: {Result.SAYS_COMMITTED, Result.SAYS_ABORTED, Result.LOST},
        Phase.FINISHING: {Result.DONE, Result.LOST},
        Phase.UNDOING: {Result.DONE, Result.LOST},
    }
    assert {(phase, result) for phase, results in meets.items() for result in results} == set(TRANSITIONS)
    assert set(meets) | FINAL == set(Phase)


def test_only_a_decision_leads_to_finishing() -> None:
    into = {key for key, after in TRANSITIONS.items() if after is Phase.FINISHING}
    assert into == {(Phase.DECIDING, Result.DONE), (Phase.ASKING, Result.SAYS_COMMITTED)}


def test_a_commit_step_by_step() -> None:
    protocol = two_phase.begin(ID, HOME, 99, (OTHER, THIRD))
    seen: list[list[type]] = []
    while not protocol.final:
        effects = protocol.effects()
        seen.append([type(effect) for effect in effects])
        protocol = protocol.advance(dict.fromkeys(effects, Result.DONE))
    assert seen == [[Prepare, Prepare], [Decide], [Finish, Finish]]
    assert protocol.phase is Phase.COMMITTED


def test_a_refused_prepare_undoes_all_and_rolls_the_refused_branch_back_plainly() -> None:
    protocol = two_phase.begin(ID, HOME, 99, (OTHER, THIRD))
    first, second = protocol.effects()
    protocol = protocol.advance({first: Result.DONE, second: Result.REFUSED})
    assert protocol.phase is Phase.UNDOING
    undo = {effect.group: effect.sql for effect in protocol.effects()}
    assert undo[HOME] == undo[THIRD] == "ROLLBACK"
    assert undo[OTHER] == f"ROLLBACK PREPARED 'pgherd:{ID}:1:99'"


def test_a_lost_prepare_may_have_happened() -> None:
    protocol = two_phase.begin(ID, HOME, 99, (OTHER, THIRD))
    protocol = protocol.advance(dict(zip(protocol.effects(), (Result.LOST, Result.REFUSED), strict=True)))
    undo = [effect for effect in protocol.effects() if isinstance(effect, Undo)]
    assert [(effect.group, effect.prepared) for effect in undo] == [(OTHER, True), (THIRD, False)]


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        (Result.SAYS_COMMITTED, Phase.FINISHING),
        (Result.SAYS_ABORTED, Phase.UNDOING),
        (Result.LOST, Phase.UNKNOWN),
    ],
)
def test_a_lost_decision_is_asked_for(answer: Result, phase: Phase) -> None:
    protocol = two_phase.begin(ID, HOME, 99, (OTHER,))
    protocol = protocol.advance(dict.fromkeys(protocol.effects(), Result.DONE))
    protocol = protocol.advance(dict.fromkeys(protocol.effects(), Result.LOST))
    (effect,) = protocol.effects()
    assert isinstance(effect, Ask)
    assert protocol.advance({effect: answer}).phase is phase


@pytest.mark.parametrize(
    "text", ["pgherd", "pgherd:1", "x" + str(Gid(ID, OTHER, 5)), "pgherd:1-2-3:1:1", "citus_0_1_2_3"]
)
def test_what_is_not_ours_is_no_gid(text: str) -> None:
    assert two_phase.parse_gid(text) is None


def test_names_and_back() -> None:
    gid = Gid(ID, THIRD, 4711)
    assert two_phase.parse_gid(str(gid)) == gid
    assert two_phase.home_of(ID) == HOME
    assert two_phase.born_of(ID) == 1_700_000_000
    assert (
        len(str(Gid(two_phase.make_id(GroupId(999_999_999), 2**40, 2**64 - 1), GroupId(999_999_999), 2**31)))
        < 200
    )


STEPS = [Phase.PREPARING, Phase.DECIDING, Phase.FINISHING]


@pytest.mark.parametrize("phase", STEPS)
@pytest.mark.parametrize("fate", ["answered", "answer lost", "lost", "late"])
@pytest.mark.parametrize("victim", ["coordinator", "home", "participant"])
def test_cut_after_every_message_of_every_step(phase: Phase, fate: str, victim: str) -> None:
    world = World(3)
    actor = world.begin(1, (HOME, OTHER, THIRD))
    while actor.protocol.phase is not phase:
        world.deliver(actor, actor.waiting[0], "answered")
    world.deliver(actor, actor.waiting[0], fate)
    if victim == "coordinator":
        world.kill(actor)
    else:
        world.crash(world.groups[HOME if victim == "home" else OTHER])
    world.check()
    world.settle_everything()
    world.check_settled()
