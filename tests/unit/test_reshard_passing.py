"""Which errors a workflow waits for, how long, and which end it."""

from __future__ import annotations

import pytest

from pgherd.errors import (
    ConnectionLost,
    GroupDown,
    OutcomeUnknown,
    PgherdError,
    Refused,
    ServerError,
    SnapshotBusy,
)
from pgherd.reshard.passing import PAUSE_MAX_S, PAUSE_S, TRIES, Fate, Patience, fate
from pgherd.reshard.preflight import NotReady
from pgherd.reshard.running import TooHeavy
from pgherd.reshard.stream import SourceReplaced


def told(code: str, severity: str = "ERROR") -> ServerError:
    return ServerError({"C": code, "V": severity, "M": "told"})


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("lost"),
        GroupDown("down"),
        OutcomeUnknown("who knows"),
        ConnectionResetError(),
        TimeoutError(),
        told("57P01", "FATAL"),
        told("57P03", "FATAL"),
        told("53300", "FATAL"),
        told("57P01"),  # as a foreign server says it of its own
        told("08006"),
        told("25006"),
    ],
)
def test_a_lost_server_is_waited_for(error: BaseException) -> None:
    assert fate(error) is Fate.LOST
    patience = Patience(lambda: 1.0)
    pauses = [patience.pause_s("copy", error) for _ in range(10 * TRIES)]
    assert pauses[:3] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert pauses == sorted(pauses) and pauses[-1] == PAUSE_MAX_S
    assert patience.has(error)


@pytest.mark.parametrize(
    "error",
    [
        *map(told, ("40P01", "40001", "55P03", "55006", "57014", "53300", "53400", "XX000")),
        SnapshotBusy("busy"),
    ],
)
def test_what_is_in_the_way_is_waited_for_within_a_bound(error: PgherdError) -> None:
    assert fate(error) is Fate.BUSY
    patience = Patience(lambda: 0.0)
    for _ in range(TRIES - 1):
        patience.pause_s("cutover", error)
        assert patience.has(error)
    patience.pause_s("cutover", error)
    assert not patience.has(error)
    assert patience.has(GroupDown("down"))
    assert patience.pause_s("keep", error) == PAUSE_S / 2  # headway was made
    assert patience.has(error)


@pytest.mark.parametrize(
    "error",
    [
        *map(told, ("23505", "42P01", "42501", "53100", "XX001")),
        TooHeavy("heavy"),
        NotReady("not ready"),
        Refused("no"),
        SourceReplaced("another"),
    ],
)
def test_what_would_be_the_same_the_next_time_is_final(error: PgherdError) -> None:
    assert fate(error) is Fate.FINAL
    patience = Patience(lambda: 1.0)
    patience.pause_s("copy", error)
    assert not patience.has(error)
