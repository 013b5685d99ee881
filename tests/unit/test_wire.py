"""Every message that the codec makes, it reads back; and what it makes, libpq's own server side understands elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.errors import BadEncoding, ProtocolViolation, ServerError, StaleMap, TooLarge
from pgherd.gateway import wire

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
values = st.lists(st.none() | st.binary(max_size=20), max_size=6)
oids = st.lists(st.integers(0, 2**32 - 1), max_size=5)
formats = st.integers(0, 1)


def body(message: bytes) -> bytes:
    """The body of one whole message, after checking that it is exactly one."""
    [(_, content)] = wire.Splitter(1 << 20).feed(message)
    return content


@given(texts, texts, oids)
def test_parse(name: str, sql: str, types: list[int]) -> None:
    assert wire.read_parse(body(wire.parse(name, sql, types))) == wire.Parse(name, sql, tuple(types))


@given(texts, texts, values, formats, st.lists(formats, max_size=3))
def test_bind_and_rebind(
    portal: str, statement: str, row: list[bytes | None], code: int, results: list[int]
) -> None:
    message = wire.bind(portal, statement, row, formats=[code] * len(row), result_formats=results)
    read = wire.read_bind(body(message))
    assert (read.portal, read.statement, read.values) == (portal, statement, row)
    assert (read.formats, read.result_formats) == ((code,) * len(row), tuple(results))
    assert wire.rebind(read.tail, portal, statement) == message
    again = wire.read_bind(body(wire.rebind(read.tail, "other", "names")))
    assert (again.portal, again.statement, again.values) == ("other", "names", row)


@given(values)
def test_data_row(row: list[bytes | None]) -> None:
    assert wire.read_data_row(body(wire.data_row(row))) == row


fields = st.builds(
    wire.Field,
    texts,
    st.integers(0, 2**32 - 1),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(-(2**31), 2**31 - 1),
    formats,
    st.integers(0, 2**32 - 1),
    st.integers(-10, 1600),
)


@given(st.lists(fields, max_size=5))
def test_row_description(columns: list[wire.Field]) -> None:
    assert wire.read_row_description(body(wire.row_description(columns))) == tuple(columns)


@given(st.dictionaries(st.sampled_from("SVCMDHPpqWstcndFLR"), texts))
def test_error_fields(given_fields: dict[str, str]) -> None:
    assert wire.read_error(body(wire.error_response(given_fields))) == given_fields
    assert wire.read_error(body(wire.notice_response(given_fields))) == given_fields
    assert wire.read_error(body(wire.error_response_from(ServerError(given_fields)))) == given_fields


def test_own_error() -> None:
    error = StaleMap("old", hint="again", detail="epoch 3", position=7)
    error.context = "COPY users, line 3"
    assert wire.read_error(body(wire.error_response_from(error, "FATAL"))) == {
        "S": "FATAL", "V": "FATAL", "C": "PH001", "M": "old", "D": "epoch 3", "H": "again",
        "W": "COPY users, line 3", "P": "7",
    }  # fmt: skip


@given(texts, texts)
def test_short_messages(one: str, two: str) -> None:
    assert wire.read_parameter_status(body(wire.parameter_status(one, two))) == (one, two)
    assert wire.read_cstring(body(wire.query(one))) == one
    assert wire.read_cstring(body(wire.copy_fail(one))) == one
    assert wire.read_cstring(body(wire.password_message(one))) == one
    assert wire.read_command_complete(body(wire.command_complete(one))) == one
    assert wire.read_describe(body(wire.describe_portal(one))) == ("P", one)
    assert wire.read_describe(body(wire.close_statement(one))) == ("S", one)
    assert wire.read_execute(body(wire.execute(one, 5))) == (one, 5)
    assert wire.read_notification(body(wire.notification_response(9, one, two))) == (9, one, two)
    assert wire.read_sasl_initial(body(wire.sasl_initial_response(one, b"x"))) == wire.SaslInitial(one, b"x")


@given(oids, st.binary(min_size=4, max_size=256))
def test_numbers(types: list[int], key: bytes) -> None:
    assert wire.read_parameter_description(body(wire.parameter_description(types))) == tuple(types)
    assert wire.read_backend_key_data(body(wire.backend_key_data(77, key))) == (77, key)
    assert wire.read_copy_response(body(wire.copy_in_response(binary=True, columns=2))) == wire.CopyResponse(
        True, (1, 1)
    )
    version = wire.negotiate_protocol_version(wire.VERSION_3_2, ["_pq_.x"])
    assert wire.read_negotiate_protocol_version(body(version)) == (wire.VERSION_3_2, ("_pq_.x",))
    assert wire.read_ready_for_query(body(wire.ready_for_query("T"))) == "T"


def test_authentication() -> None:
    offered = wire.read_authentication(body(wire.authentication_sasl(["SCRAM-SHA-256", "OTHER"])))
    assert (offered.code, offered.mechanisms) == (10, ("SCRAM-SHA-256", "OTHER"))
    assert wire.read_authentication(body(wire.authentication_sasl_continue(b"r=1"))).data == b"r=1"
    assert wire.read_authentication(body(wire.authentication_sasl_final(b"v=1"))).code == 12
    assert wire.read_authentication(body(wire.AUTHENTICATION_OK)).code == 0


def test_startup_packets() -> None:
    def read(packet: bytes) -> wire.StartupPacket:
        assert wire.split_startup(packet[:-1]) is None
        split = wire.split_startup(packet + b"more")
        assert split is not None and split[1] == len(packet)
        return wire.read_startup(split[0])

    packet = wire.startup({"user": "ann", "_pq_.new": "1", "database": "d"}, wire.VERSION_3_2)
    assert read(packet) == wire.Startup(3, 2, {"user": "ann", "database": "d"}, ("_pq_.new",))
    assert read(wire.SSL_REQUEST) == wire.SslRequest()
    assert read(wire.GSSENC_REQUEST) == wire.GssEncRequest()
    assert read(wire.cancel_request(5, b"k" * 32)) == wire.CancelRequest(5, b"k" * 32)
    with pytest.raises(ProtocolViolation):
        wire.split_startup((10_001).to_bytes(4, "big"))


@given(st.lists(st.tuples(st.sampled_from(b"QPBX"), st.binary(max_size=30)), max_size=8), st.data())
def test_splitter_does_not_care_where_the_stream_is_cut(
    messages: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(wire.message(bytes([kind]), content) for kind, content in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter = wire.Splitter()
    seen: list[tuple[int, bytes]] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += splitter.feed(stream[start:end])
    assert seen == messages
    assert splitter.pending == 0


def test_splitter_bounds() -> None:
    with pytest.raises(TooLarge):
        wire.Splitter(100).feed(b"Q" + (101).to_bytes(4, "big"))
    with pytest.raises(ProtocolViolation):
        wire.Splitter().feed(b"Q\0\0\0\x03")
    assert wire.Splitter(100).feed(wire.message(b"Q", b"x" * 96)) == [(ord("Q"), b"x" * 96)]


def test_wrong_encoding_says_so_like_postgres() -> None:
    with pytest.raises(BadEncoding, match='invalid byte sequence for encoding "UTF8": 0xff'):
        wire.read_cstring(b"select '\xff'\0")


def test_a_zero_byte_cannot_slip_into_a_text() -> None:
    with pytest.raises(ProtocolViolation):
        wire.query("select 1\0; drop table users")
