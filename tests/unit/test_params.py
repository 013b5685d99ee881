import struct
from uuid import UUID

import pytest

from pgherd.catalog.keys import Undecodable
from pgherd.engine.params import BoundParams
from pgherd.errors import BadEncoding, BadKey, OutOfRange, ProtocolViolation
from pgherd.gateway import wire

ID = UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


def test_text_and_binary_give_the_same_key() -> None:
    params = BoundParams((0, 23, 2950, 1043), (0, 1, 1, 0), [b"42", struct.pack(">i", 42), ID.bytes, b"N"])
    assert params.key(1, "integer") == params.key(2, "bigint") == 42
    assert params.key(3, "uuid") == ID.bytes
    assert params.key(4, "text") == "N"


def test_null_and_missing() -> None:
    params = BoundParams(values=[None])
    assert params.key(1, "text") is None
    with pytest.raises(ProtocolViolation, match=r"there is no parameter \$2"):
        params.key(2, "text")


def test_a_parameter_of_another_family_is_left_to_the_server() -> None:
    for code, value in ((0, b"1.5"), (1, b"\0\1")):
        with pytest.raises(Undecodable):
            BoundParams((1700,), (code,), [value]).key(1, "integer")


def test_a_bigint_parameter_may_be_too_large_for_an_integer_column() -> None:
    assert BoundParams((20,), (), [b"3000000000"]).key(1, "integer") == 3_000_000_000
    with pytest.raises(OutOfRange):
        BoundParams((), (), [b"3000000000"]).key(1, "integer")


def test_wrong_values_speak_as_postgres_does() -> None:
    with pytest.raises(BadKey, match='invalid input syntax for type integer: "x"'):
        BoundParams((), (), [b"x"]).key(1, "integer")
    with pytest.raises(BadEncoding):
        BoundParams((), (), [b"\xff"]).key(1, "text")


def test_select_renumbers_and_tail_rebuilds() -> None:
    params = BoundParams((23, 25), (1, 0), [b"\0\0\0\1", b"x"], (1,))
    chosen = params.select([2, 1, 2])
    assert chosen == BoundParams((25, 23, 25), (0, 1, 0), [b"x", b"\0\0\0\1", b"x"], (1,))
    tail = chosen.bind_tail()
    assert BoundParams.from_tail((25, 23, 25), tail) == chosen
    assert wire.read_bind(wire.rebind(tail, "p", "s")[5:]).values == list(chosen.values)
    assert BoundParams.from_tail((), params.as_text().bind_tail()).result_formats == ()
    assert BoundParams((), (1,), [b"a", b"b"]).select([2]).formats == (1,)
