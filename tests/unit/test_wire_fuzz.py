"""Whatever bytes arrive, reading them ends in a value or in one of two named errors."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgherd.errors import BadEncoding, ProtocolViolation, TooLarge
from pgherd.gateway import wire

READERS: list[Callable[[bytes], Any]] = [
    getattr(wire, name) for name in wire.__all__ if name.startswith("read_")
]

wellformed = st.sampled_from(
    [
        wire.parse("s", "select $1", [23, 25]),
        wire.bind("p", "s", [b"1", None], formats=[1, 0], result_formats=[1]),
        wire.row_description([wire.Field("a", 23), wire.Field("b", 25)]),
        wire.data_row([b"abc", None, b""]),
        wire.error_response({"S": "ERROR", "C": "42601", "M": "no"}),
        wire.execute("p", 10),
        wire.negotiate_protocol_version(wire.VERSION_3_2, ["_pq_.x"]),
        wire.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x"),
        b"    " + wire.startup({"user": "u"}),
    ]
).map(lambda message: message[5:])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good body with some bytes changed, cut off or added: nearer to the code's branches than noise is."""
    body = bytearray(draw(wellformed))
    for _ in range(draw(st.integers(0, 3))):
        if body:
            body[draw(st.integers(0, len(body) - 1))] = draw(st.sampled_from([0, 1, 3, 0x7F, 0x80, 0xFF]))
    return bytes(body[: draw(st.integers(0, len(body)))]) + draw(st.binary(max_size=4))


@pytest.mark.parametrize("read", READERS, ids=lambda reader: reader.__name__)
@settings(max_examples=120, deadline=None)
@given(body=damaged() | st.binary(max_size=60))
@example(body=b"")
@example(body=b"\xff" * 20)
@example(body=b"\0\0\xff\xff")
def test_bodies(read: Callable[[bytes], Any], body: bytes) -> None:
    try:
        read(body)
    except (ProtocolViolation, BadEncoding) as error:
        assert error.message


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_streams(chunks: list[bytes]) -> None:
    splitter = wire.Splitter(1000)
    try:
        for chunk in chunks:
            splitter.feed(chunk)
            assert splitter.pending < 1000
    except (ProtocolViolation, TooLarge) as error:
        assert error.message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_startups(data: bytes) -> None:
    try:
        split = wire.split_startup(data)
        if split is not None:
            wire.read_startup(split[0])
    except (ProtocolViolation, BadEncoding) as error:
        assert error.message
