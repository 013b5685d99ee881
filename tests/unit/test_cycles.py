"""The checker of list-append histories must find what is wrong in hand-made ones, and nothing in good ones."""

from __future__ import annotations

import pytest

from pgherd.testing.cycles import Append, Done, Read, check

X, Y = 1, 2

GOOD = {
    "serial": [Done(1, (Append(X, 1),)), Done(2, (Read(X, (1,)), Append(X, 2))), Done(3, (Read(X, (1, 2)),))],
    "write skew": [
        Done(1, (Read(X, ()), Append(Y, 1))),
        Done(2, (Read(Y, ()), Append(X, 2))),
        Done(3, (Read(X, (2,)), Read(Y, (1,)))),
    ],
    "unknown that was seen": [Done(1, (Append(X, 1),), "unknown"), Done(2, (Read(X, (1,)),))],
    "aborted that was not seen": [Done(1, (Append(X, 1),), "aborted"), Done(2, (Read(X, ()),))],
    "own append read": [Done(1, (Append(X, 1), Read(X, (1,)), Append(X, 2)))],
}

BAD = {
    "lost update": (
        "cycle",
        [
            Done(1, (Read(X, ()), Append(X, 1))),
            Done(2, (Read(X, ()), Append(X, 2))),
            Done(3, (Read(X, (1, 2)),)),
        ],
    ),
    "fractured read": (
        "cycle",
        [
            Done(1, (Append(X, 1), Append(Y, 2))),
            Done(2, (Read(X, (1,)), Read(Y, ()))),
            Done(3, (Read(Y, (2,)),)),
        ],
    ),
    "long fork": (
        "cycle",
        [
            Done(1, (Append(X, 1),)),
            Done(2, (Append(Y, 2),)),
            Done(3, (Read(X, (1,)), Read(Y, ()))),
            Done(4, (Read(X, ()), Read(Y, (2,)))),
        ],
    ),
    "circular information flow": (
        "cycle",
        [Done(1, (Append(X, 1), Read(Y, (2,)))), Done(2, (Append(Y, 2), Read(X, (1,))))],
    ),
    "dirty write": (
        "cycle",
        [
            Done(1, (Append(X, 1), Append(Y, 1))),
            Done(2, (Append(X, 2), Append(Y, 2))),
            Done(3, (Read(X, (1, 2)), Read(Y, (2, 1)))),
        ],
    ),
    "aborted read": ("aborted read", [Done(1, (Append(X, 1),), "aborted"), Done(2, (Read(X, (1,)),))]),
    "value from nowhere": ("aborted read", [Done(1, (Read(X, (7,)),))]),
    "intermediate read": (
        "intermediate read",
        [Done(1, (Append(X, 1), Append(X, 2))), Done(2, (Read(X, (1,)),))],
    ),
    "orders that contradict": (
        "incompatible order",
        [
            Done(1, (Append(X, 1),)),
            Done(2, (Append(X, 2),)),
            Done(3, (Read(X, (1, 2)),)),
            Done(4, (Read(X, (2, 1)),)),
        ],
    ),
    "own write unseen": ("own write unseen", [Done(1, (Append(X, 1), Read(X, ())))]),
    "lost append": (
        "lost append",
        [Done(1, (Append(X, 1),)), Done(2, (Read(X, ()),)), Done(9, (Read(X, ()),))],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    kind, history = BAD[name]
    assert kind in {anomaly.kind for anomaly in check(history)}
