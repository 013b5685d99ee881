"""Trust, freshness, sessions and nearness against a dumb twin that knows exactly what every node holds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from topology_world import GROUP, Server, Watcher, World

from pgherd.catalog.model import GroupId, Node
from pgherd.errors import BadToken
from pgherd.topology.choose import Candidate, choose, qualifies, staleness
from pgherd.topology.freshness import Freshness
from pgherd.topology.history import PAIRS_MAX, History
from pgherd.topology.positions import Position, Positions
from pgherd.topology.views import smoothed

SESSION, EVENTUAL = Freshness("session"), Freshness("eventual")
BOUNDS = [Freshness("bounded", bound) for bound in (0.05, 0.3, 1.0, 5.0)]
_STEPS: dict[tuple[Any, ...], int] = {
    **{("ask", watcher, number): 6 for watcher in (0, 1) for number in range(4)},
    **{("write", number): 1 for number in range(4)},
    **{("stream", number, count): 2 for number in range(4) for count in (1, 9)},
    **{("replay", number, count): 2 for number in range(4) for count in (1, 9)},
    ("renew",): 12,
    ("cut off",): 1,
    ("fail over",): 1,
    ("take over",): 1,
    **{("rejoin", number): 1 for number in range(4)},
    ("session",): 6,
}  # fmt: skip
Schedule = list[tuple[tuple[Any, ...], float]]


def schedule(seed: int, length: int, longest_s: float) -> Schedule:
    """Steps and the time after each. Long ones are where something happens, so they are not left to hypothesis."""
    dice = random.Random(seed)
    steps = dice.choices(list(_STEPS), list(_STEPS.values()), k=length)
    return [(step, dice.choice([0.0, 0.001, longest_s * dice.random() ** 2])) for step in steps]


_schedules = st.builds(
    schedule, st.integers(0, 2**32), st.integers(1, 800), st.sampled_from([0.02, 0.1, 0.4])
)


def take(world: World, step: tuple[Any, ...]) -> None:
    """One step of a schedule."""
    match step:
        case ("ask", watcher, number):
            world.ask(world.watchers[watcher], world.servers[number])
        case ("write", number):
            world.write(world.servers[number])
        case ("stream", number, count):
            world.stream(world.servers[number], count)
        case ("replay", number, count):
            world.replay(world.servers[number], count)
        case ("renew",):
            world.renew()
        case ("cut off",):
            world.leader.cut_off = True
        case ("fail over",):
            world.fail_over()
        case ("take over",):
            world.take_over()
        case ("rejoin", number):
            world.rejoin(world.servers[number])


@settings(max_examples=120, deadline=None)
@given(_schedules)
def test_nobody_but_the_primary_is_trusted(steps: Schedule) -> None:
    world = World()
    for step, pause in steps:
        take(world, step)
        world.now += pause
        for watcher in world.watchers:
            trust = watcher.trust(world.now)
            assert trust.conflict == ()
            if trust.view is not None:
                event("somebody is trusted")
                assert trust.view.node == world.leader.node
                assert world.now < trust.until


@settings(max_examples=120, deadline=None)
@given(_schedules)
def test_freshness_is_never_overstated(steps: Schedule) -> None:
    world = World()
    for step, pause in steps:
        take(world, step)
        world.now += pause
        for watcher in world.watchers:
            for candidate in watcher.candidates(world.now):
                check_bounds(world, candidate)


def check_bounds(world: World, candidate: Candidate) -> None:
    server = world.servers[candidate.node.id]
    since = world.lacks_since(server)
    truth = 0.0 if since is None else world.now - since
    for bound in BOUNDS:
        if qualifies(candidate, bound, None, world.now):
            event(f"{candidate.role} within {bound.bound_s:g} s")
            assert truth <= bound.bound_s
    if not qualifies(candidate, EVENTUAL, None, world.now):
        return
    shown = staleness(candidate, world.now)
    assert shown is None or truth <= shown
    if qualifies(candidate, Freshness(), None, world.now):
        assert truth == 0.0


class Session:
    """Writes on the trusted primary, reads where `choose` says, and remembers what it must see again."""

    def __init__(self, world: World, watcher: Watcher) -> None:
        self.world = world
        self.watcher = watcher
        self.positions = Positions()
        self.wrote: set[int] = set()
        self.seen: set[int] = set()
        self.used: int | None = None

    def turn(self) -> None:
        """A write and a read where that is possible."""
        world = self.world
        leader = self.trusted()
        if leader is not None:
            self.wrote.add(world.write(leader))
            self.positions.wrote(GROUP)
        for _ in range(2):
            self.read()
            world.stream(world.sync, 1)
            world.replay(world.sync, 1)

    def trusted(self) -> Server | None:
        view = self.watcher.trust(self.world.now).view
        return None if view is None else self.world.servers[view.node.id]

    def read(self) -> None:
        leader = self.trusted()
        if GROUP in self.positions.dirty:
            if leader is None:
                return  # it waits
            self.positions.settled(GROUP, leader.at)
        found = self.watcher.candidates(self.world.now)
        choice = choose(found, SESSION, self.positions.get(GROUP), self.used, self.world.now)
        if choice.node is None:
            return
        event(f"session reads on the {choice.role}")
        self.used = choice.node.id
        server = self.world.servers[choice.node.id]
        acknowledged = self.world.acknowledged.keys()
        assert (self.wrote | self.seen) & acknowledged <= set(server.visible)
        self.seen |= set(server.visible)
        if choice.role == "replica":
            self.positions.saw(GROUP, server.at)
        else:
            self.positions.wrote(GROUP)


@settings(max_examples=120, deadline=None)
@given(_schedules)
def test_sessions_read_what_they_wrote_and_never_go_back(
    steps: Schedule,
) -> None:
    world = World()
    first, second = (Session(world, watcher) for watcher in world.watchers)
    for number, (step, pause) in enumerate(steps):
        if step == ("session",):
            first.turn()
            if number % 3 == 0 and not first.positions.dirty:  # somebody goes on where the first one was
                second.positions.merge(first.positions.token())
                second.wrote |= first.wrote
                second.seen |= first.seen
                second.read()
        else:
            take(world, step)
        world.now += pause


# ---- the history of pairs ------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, PAIRS_MAX * 3), st.floats(0, 1))
def test_a_thinned_history_only_understates(seed: int, length: int, share: float) -> None:
    dice = random.Random(seed)
    history, pairs, now, position = History(), [], 0.0, 0
    for _ in range(length):
        now, position = now + dice.random(), position + dice.choice([0, 1, 5])
        history.note(now, Position(1, position))
        pairs.append((now, position))
    for replayed in (int(position * share), position):
        truth = max((sent for sent, at in pairs if at <= replayed), default=float("-inf"))
        found = history.complete_until(Position(1, replayed))
        assert found <= truth
        if replayed == position:
            assert found == truth
    assert len(history._pairs) <= PAIRS_MAX


# ---- nearness ------------------------------------------------------------------------------------------


def candidate(number: int, rtt_s: float, role: Any = "replica", distance: int = 0) -> Candidate:
    node = Node(id=number, group=GROUP, host="h", port=1, database="d")
    return Candidate(
        node=node, role=role, distance=distance, rtt_s=rtt_s, at=Position(1, 1), complete_until=0.0, usable_until=1e9
    )  # fmt: skip


@given(st.integers(0, 2**32), st.sampled_from([0.0003, 0.002, 0.08]), st.booleans())
def test_noise_makes_nobody_flap(seed: int, base_s: float, first_leads: bool) -> None:
    dice = random.Random(seed)
    nodes = [base_s * dice.uniform(0.8, 1.4) for _ in range(4)]
    used: int | None = None
    switches = 0
    for _ in range(100):
        noisy = [rtt_s * dice.uniform(0.96, 1.04) for rtt_s in nodes]
        found = [
            candidate(number, rtt_s, "primary" if first_leads and number == 0 else "replica")
            for number, rtt_s in enumerate(noisy)
        ]
        node = choose(found, EVENTUAL, None, used, 1.0).node
        assert node is not None
        switches += used is not None and node.id != used
        used = node.id
    assert switches <= len(nodes)  # each is to one that is nearer for good, but for one from the primary


@given(
    st.lists(st.tuples(st.floats(0.0001, 0.2), st.integers(0, 2)), min_size=1, max_size=5), st.integers(0, 4)
)
def test_the_nearest_is_taken_but_for_a_fifth(nodes: list[tuple[float, int]], used: int) -> None:
    found = [candidate(number, *nearness[:1], distance=nearness[1]) for number, nearness in enumerate(nodes)]
    node = choose(found, EVENTUAL, None, used, 1.0).node
    assert node is not None
    rtt_s, distance = nodes[node.id]
    assert distance == min(distance for _, distance in nodes)
    best_s = min(rtt for rtt, place in nodes if place == distance)
    assert rtt_s <= max(best_s / 0.8, best_s + 0.0005) * 1.000001


@given(st.floats(0, 1), st.floats(0, 100))
def test_one_spike_moves_the_round_trip_little(known_s: float, measured_s: float) -> None:
    after_s = smoothed(known_s, measured_s)
    assert 0.8 * known_s <= after_s * 1.000001
    assert after_s <= known_s * 1.2 + 0.0001001


def test_a_lasting_change_gets_through() -> None:
    known_s = 0.001
    for _ in range(40):
        known_s = smoothed(known_s, 0.08)
    assert known_s > 0.07


# ---- tokens --------------------------------------------------------------------------------------------

_positions = st.builds(Position, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
_vectors = st.dictionaries(st.integers(0, 2**31 - 1).map(GroupId), _positions, max_size=20)


def vector(positions: Positions) -> dict[GroupId, Position | None]:
    return {group: positions.get(group) for group in positions}


def session(known: dict[GroupId, Position]) -> Positions:
    made = Positions()
    for group, position in known.items():
        made.saw(group, position)
    return made


@given(_vectors, _vectors)
def test_a_token_carries_the_vector(one: dict[GroupId, Position], other: dict[GroupId, Position]) -> None:
    taken = session(other)
    taken.merge(session(one).token())
    expected = {group: max(each[group] for each in (one, other) if group in each) for group in one | other}
    assert vector(taken) == expected


@given(_vectors, st.data())
def test_a_damaged_token_is_refused(known: dict[GroupId, Position], data: st.DataObject) -> None:
    token = session(known).token()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(["", "A", "x", "9", "_", " ", "é", "\0"]))
    damaged = token[:at] + other + token[at + 1 :]
    taken = Positions()
    try:
        taken.merge(damaged)
    except BadToken as error:
        assert error.hint
        assert vector(taken) == {}
    else:
        assert vector(taken) == known  # only bits that mean nothing have changed


@given(st.one_of(st.text(), st.text(alphabet="ABCDabcd0189-_").map("pgherd1.".__add__)))
def test_garbage_is_no_token(text: str) -> None:
    with pytest.raises(BadToken):
        Positions().merge(text)
