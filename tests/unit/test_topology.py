"""Small stories of trust, choice and pauses; the large ones are properties."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.catalog.model import GroupId, Node
from pgherd.topology.choose import Candidate, Choice, Place, candidates, choose, staleness, trusted_primary
from pgherd.topology.freshness import STRONG, Freshness
from pgherd.topology.history import History
from pgherd.topology.pause import Pauses
from pgherd.topology.positions import Position, Positions
from pgherd.topology.views import Answer, NodeView, read_answer

GROUP = GroupId(1)
A, B, C = (
    Node(id=number, group=GROUP, host="h", port=number, database="d", region="eu", zone=zone)
    for number, zone in ((1, "a"), (2, "b"), (3, "c"))
)
EVENTUAL, SESSION = Freshness("eventual"), Freshness("session")


def answer(sent: float, *, standby: bool = False, lease_ms: int | None = 2000, **more: Any) -> Answer:
    values = {"rtt_s": 0.001, "timeline": 1, "position": 100} | more
    return Answer(sent=sent, in_recovery=standby, lease_ms=lease_ms, **values)


def view(node: Node, *answers: Answer) -> NodeView:
    found = NodeView(node=node)
    for each in answers:
        found = found.answered(each)
    return found


def chosen(views: list[NodeView], now: float, freshness: Freshness, **more: Any) -> Choice:
    trust = trusted_primary(views, now)
    history = more.pop("history", History())
    place = more.pop("place", Place(region="eu", zone="b"))
    found = candidates(views, trust, history, place)
    return choose(found, freshness, more.get("position"), more.get("used"), now)


# ---- trust ---------------------------------------------------------------------------------------------


def test_trust_lasts_from_the_question_on() -> None:
    views = [view(A, answer(10.0, rtt_s=0.5)), view(B, answer(10.0, standby=True))]
    assert trusted_primary(views, 11.9).view is views[0]
    assert trusted_primary(views, 11.9).until == 12.0
    assert trusted_primary(views, 12.0).view is None


@pytest.mark.parametrize("lease_ms", [None, 0])
def test_nobody_is_trusted_without_a_lease(lease_ms: int | None) -> None:
    assert trusted_primary([view(A, answer(10.0, lease_ms=lease_ms))], 10.0).view is None


def test_a_higher_timeline_wins_also_when_its_lease_is_over() -> None:
    views = [view(A, answer(10.0, lease_ms=60_000)), view(B, answer(10.0, timeline=2))]
    assert trusted_primary(views, 11.0).view is views[1]
    assert trusted_primary(views, 20.0).view is None  # A never had what was written on timeline 2


def test_two_leases_on_one_timeline_prove_nothing() -> None:
    trust = trusted_primary([view(A, answer(10.0)), view(B, answer(10.0))], 11.0)
    assert (trust.view, trust.conflict) == (None, (A, B))


def test_a_refused_connection_ends_trust_and_silence_does_not() -> None:
    known = view(A, answer(10.0))
    assert trusted_primary([known.failed("no answer", refused=False)], 11.0).view is not None
    assert trusted_primary([known.failed("refused", refused=True)], 11.0).view is None
    back = known.failed("refused", refused=True).answered(answer(11.0))
    assert trusted_primary([back], 11.5).view is back


def test_an_answer_to_an_older_question_changes_nothing() -> None:
    known = view(A, answer(10.0, position=200))
    assert known.answered(answer(9.0, standby=True)) is known


def test_an_answer_is_read_from_text() -> None:
    row = ("f", "3", "1234", "1500", "7", None, None, "f")
    assert read_answer(row, 1.0, 0.5) == answer(
        1.0, rtt_s=0.5, timeline=3, position=1234, lease_ms=1500, epoch=7
    )
    assert read_answer(("t", "3", "1", None, "7", "0", "250", "t"), 1.0, 0.5) == answer(
        1.0, rtt_s=0.5, standby=True, timeline=3, position=1, lease_ms=None, epoch=7,
        paused_in_ms=0, paused_for_ms=250, streaming=True,
    )  # fmt: skip


# ---- who may answer ------------------------------------------------------------------------------------


def test_a_standby_of_the_old_timeline_holds_nothing_new() -> None:
    """It received more bytes than the new primary had when that was promoted, so only the timeline tells."""
    history = History()
    history.note(9.0, Position(1, 100))
    history.note(10.0, Position(2, 90))
    views = [
        view(A, answer(10.0, timeline=2, position=90)),
        view(B, answer(10.0, standby=True, timeline=1, position=120)),
    ]
    seen = Position(2, 85)
    assert chosen(views, 10.1, SESSION, position=seen, history=history).node == A
    assert chosen(views, 10.1, Freshness("bounded", 60), history=history).node == A
    assert chosen(views, 10.1, EVENTUAL, history=history).node == B
    assert (
        chosen(views[1:], 10.1, SESSION, position=seen, history=history).node is None
    )  # nor without a primary
    assert not seen.held_by(Position(1, 120))


def test_a_replica_that_was_lost_or_is_silent_does_not_answer() -> None:
    """It may be back with less than it had: a crashed standby begins anew at its last restart point."""
    primary, replica = view(A, answer(10.0, lease_ms=9000)), view(B, answer(10.0, standby=True))
    assert chosen([primary, replica], 11.0, EVENTUAL).node == B
    assert chosen([primary, replica.failed("lost", refused=False)], 11.0, EVENTUAL).node == A
    assert chosen([primary, replica], 13.5, EVENTUAL).node == A


def test_a_replica_that_does_not_know_the_map_does_not_answer() -> None:
    views = [view(A, answer(10.0, epoch=7)), view(B, answer(10.0, standby=True, epoch=6))]
    found = candidates(views, trusted_primary(views, 10.0), History(), Place(), 7)
    assert [candidate.node for candidate in found] == [A]
    assert len(candidates(views, trusted_primary(views, 10.0), History(), Place(), 6)) == 2


def test_an_idle_primary_makes_nobody_look_late_and_a_paused_replica_does() -> None:
    history = History()
    for moment, position in ((1.0, 50), (2.0, 50), (3.0, 50)):
        history.note(moment, Position(1, position))
    views = [view(A, answer(3.0)), view(B, answer(3.0, standby=True, position=50))]
    assert chosen(views, 3.5, Freshness("bounded", 1), history=history).staleness_s == 0.5
    history.note(5.0, Position(1, 51))
    views = [view(A, answer(5.0)), view(B, answer(5.0, standby=True, position=50))]
    choice = chosen(views, 5.0, Freshness("bounded", 1), history=history)
    assert choice.node == A
    assert chosen(views, 5.0, Freshness("bounded", 2), history=history).staleness_s == 2.0


def test_strong_reads_have_the_primary_or_nobody() -> None:
    replica = view(B, answer(10.0, standby=True))
    assert chosen([view(A, answer(10.0)), replica], 11.0, STRONG).node == A
    assert chosen([replica], 11.0, STRONG).node is None


def test_nothing_is_known_of_a_replica_before_a_primary_answered() -> None:
    replica = view(B, answer(10.0, standby=True))
    found = candidates([replica], trusted_primary([replica], 10.0), History(), Place())
    assert staleness(found[0], 10.0) is None


# ---- nearness ------------------------------------------------------------------------------------------


def near(number: int, rtt_ms: float, role: Any = "replica", distance: int = 0) -> Candidate:
    node = Node(id=number, group=GROUP, host="h", port=1, database="d")
    return Candidate(
        node=node, role=role, distance=distance, rtt_s=rtt_ms / 1000, at=Position(1, 1), complete_until=0.0, usable_until=9
    )  # fmt: skip


def nearest(*found: Candidate, used: int | None = None) -> int:
    node = choose(found, EVENTUAL, None, used, 1.0).node
    assert node is not None
    return node.id


def test_zone_before_region_before_round_trip() -> None:
    place = Place(region="eu", zone="b")
    assert [place.distance(node) for node in (A, B)] == [1, 0]
    abroad = Node(id=9, group=GROUP, host="h", port=1, database="d", region="us", zone="b")
    assert place.distance(abroad) == 2  # zones of different regions may have one name
    assert Place().distance(A) == 2
    assert nearest(near(1, 0.1, distance=2), near(2, 9, distance=1), near(3, 20)) == 3
    assert nearest(near(1, 0.1, distance=2), near(2, 9, distance=1), near(3, 20, distance=1)) == 2


def test_the_node_used_before_is_kept_until_another_is_clearly_nearer() -> None:
    assert nearest(near(1, 1.0), near(2, 1.4), used=2) == 2  # less than 0.5 ms
    assert nearest(near(1, 20), near(2, 24), used=2) == 2  # less than a fifth
    assert nearest(near(1, 20), near(2, 26), used=2) == 1
    assert nearest(near(1, 20), near(2, 24), used=7) == 1


def test_replicas_spare_the_primary_where_they_are_as_near() -> None:
    primary = near(1, 0.3, "primary")
    assert nearest(primary, near(2, 0.6)) == 2
    assert nearest(primary, near(2, 0.6), used=1) == 1  # left only for one that is hardly farther
    assert nearest(primary, near(2, 0.5), used=1) == 2
    assert nearest(primary, near(2, 5)) == 1


def test_the_choice_explains_itself() -> None:
    history = History()
    history.note(10.0, Position(1, 100))
    views = [
        view(A, answer(10.0, rtt_s=0.002)),
        view(B, answer(10.0, standby=True, rtt_s=0.0003)),
        view(C, answer(10.0, standby=True, position=60)),
    ]
    bounded = Freshness("bounded", 5)
    said = [
        chosen(views, 10.4, bounded, history=history).why,
        chosen(views[:1], 10.4, bounded, history=history).why,
        chosen(views, 10.4, STRONG).why,
        chosen(views[1:], 10.4, EVENTUAL, place=Place(region="eu")).why,
        chosen([], 10.4, bounded).why,
        chosen(views[:1] + views[2:], 10.4, EVENTUAL, place=Place(region="us"), used=1).why,
    ]
    assert said == [
        "nearest of 2 that qualify: zone b, 0.3 ms; 0.4 s behind at most",
        "the primary: no replica qualifies for bounded 5s",
        "strong reads need the primary",
        "nearest of 2 that qualify: same region, 0.3 ms; how far behind is not known",
        "no node qualifies for bounded 5s now: wait for the primary",
        "nearest of 2 that qualify: another region, 1.0 ms; how far behind is not known",
    ]


# ---- sessions ------------------------------------------------------------------------------------------


def test_positions_only_grow_along_the_history() -> None:
    positions = Positions()
    for timeline, lsn in ((1, 50), (1, 40), (2, 45), (1, 99)):
        positions.saw(GROUP, Position(timeline, lsn))
    assert positions.get(GROUP) == Position(2, 45)
    positions.wrote(GROUP)
    assert GROUP in positions.dirty
    positions.settled(GROUP, Position(2, 60))
    assert (positions.get(GROUP), positions.dirty) == (Position(2, 60), set())


def test_a_token_says_by_which_map_the_session_worked() -> None:
    first, second = Positions(), Positions()
    first.epoch = 12
    second.merge(first.token())
    assert second.epoch == 12


# ---- pauses --------------------------------------------------------------------------------------------


def paused(sent: float, in_ms: int | None, for_ms: int | None, timeline: int = 1) -> Answer:
    return answer(sent, rtt_s=0.1, timeline=timeline, paused_in_ms=in_ms, paused_for_ms=for_ms)


def test_a_pause_begins_and_ends_by_itself() -> None:
    pauses = Pauses()
    pauses.heard(paused(10.0, 1000, 500))
    assert [pauses.paused(moment) for moment in (10.9, 11.0, 11.5, 11.6)] == [False, True, True, False]
    assert pauses.turns(10.0) == [11.0, 11.6]
    pauses.heard(paused(11.2, 0, 300))  # begun: what it says now counts from now
    assert pauses.turns(11.3) == [11.6]
    assert pauses.paused(11.1)


def test_a_pause_can_be_taken_back() -> None:
    pauses = Pauses()
    pauses.heard(paused(10.0, 1000, 500))
    assert pauses.announced(10.1)
    pauses.heard(paused(10.2, None, None))
    assert not pauses.announced(10.2)
    pauses.heard(paused(12.0, 100, 100))
    assert pauses.paused(12.1)


def test_a_new_timeline_ends_the_pause_early() -> None:
    pauses = Pauses()
    pauses.heard(paused(10.0, 0, 9000))
    assert pauses.paused(12.0)
    pauses.heard(paused(12.0, 0, 7000, timeline=2))  # the announcement was replicated
    assert not pauses.paused(12.0)
    pauses.heard(paused(13.0, 500, 1000, timeline=2))  # another one
    assert pauses.paused(13.6)
