"""SCRAM-SHA-256 against RFC 7677's example, against itself, and against everything that may be tampered with."""

from base64 import b64decode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgherd.errors import BadPassword, BadSetting, ProtocolViolation
from pgherd.gateway.scram import (
    ScramClient,
    ScramServer,
    fake_verifier,
    make_verifier,
    parse_verifier,
    saslprep,
)

FAST = make_verifier("pencil", iterations=1, salt=b"salt")


def talk(client: ScramClient, server: ScramServer) -> None:
    client.verify(server.final(client.final(server.first(client.first()))))


def test_example_of_the_rfc() -> None:
    server = ScramServer(
        make_verifier("pencil", 4096, b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")),
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    )  # fmt: skip
    first = server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    proof = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert server.final(proof) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@example("I\u00adX")
@example("\u00aa")
def test_password_and_then_keys(password: str) -> None:
    verifier = make_verifier(password, iterations=2)
    server = ScramServer(verifier)
    talk(ScramClient("u", password=password), server)
    assert server.keys is not None
    again = ScramServer(verifier)
    talk(ScramClient("u", keys=server.keys), again)
    assert again.keys == server.keys
    assert repr(server.keys) == "ScramKeys(...)"  # as secret as the password


def test_wrong_password_and_unknown_role_sound_the_same() -> None:
    messages: list[str] = []
    for verifier in (FAST, fake_verifier("u", b"secret")):
        server = ScramServer(verifier, user="u")
        with pytest.raises(BadPassword) as caught:
            talk(ScramClient("u", password="wrong"), server)
        assert server.keys is None
        messages.append(caught.value.message)
    assert messages == ['password authentication failed for user "u"'] * 2
    assert fake_verifier("u", b"secret") == fake_verifier("u", b"secret") != fake_verifier("v", b"secret")
    real, fake = (parse_verifier(text) for text in (make_verifier("x"), fake_verifier("u", b"s")))
    assert (real.iterations, len(real.salt)) == (fake.iterations, len(fake.salt))


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    client = ScramClient("u", password="pencil")
    server = ScramServer(FAST)
    client.final(server.first(client.first()))
    with pytest.raises(BadPassword):
        client.verify(b"v=AAAA")
    with pytest.raises(BadPassword):
        ScramClient("u", password="pencil").verify(b"v=")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,n=,r=",
        b"p=tls-server-end-point,,n=,r=abc",
        b"n,a=other,n=,r=abc",
        b"n,,m=x,n=,r=abc",
        b"\xff\0",
        b"x,,n=,r=abc",
    ],
)
def test_malformed_first_message(first: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        ScramServer(FAST).first(first)


def test_binding_flag_and_nonce_are_bound() -> None:
    for change in (
        lambda final: final.replace(b"c=biws", b"c=eSws"),
        lambda final: final.replace(b",p=", b"x,p="),
        lambda final: final[:-4],
        lambda final: b"",
        lambda final: final.replace(b"p=", b"p=%"),
    ):
        client, server = ScramClient("u", password="pencil"), ScramServer(FAST)
        final = client.final(server.first(client.first()))
        with pytest.raises(ProtocolViolation):
            server.final(change(final))


def test_a_client_that_could_bind_but_was_not_offered_it() -> None:
    server, client = ScramServer(FAST), ScramClient("u", password="pencil")
    server.first(b"y" + client.first()[1:])
    with pytest.raises(ProtocolViolation):  # c= still says n
        server.final(client.final(ScramServer(FAST).first(client.first())))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_noise(first: bytes, final: bytes) -> None:
    server, client = ScramServer(FAST), ScramClient("u", password="x")
    for attempt in (
        lambda: server.first(first),
        lambda: server.final(final),
        lambda: client.final(first),
        lambda: client.verify(final),
    ):
        try:
            attempt()
        except (ProtocolViolation, BadPassword) as error:
            assert error.message


def test_hostile_iterations() -> None:
    client = ScramClient("u", password="x", nonce="abc")
    with pytest.raises(ProtocolViolation, match="999999999"):
        client.final(b"r=abcdef,s=AAAA,i=999999999")


def test_verifier_text() -> None:
    text = make_verifier("x", 4096, b"0123456789abcdef")
    assert str(parse_verifier(text)) == text
    for bad in (
        "md5" + "0" * 32,
        "",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        text.replace("4096", "0"),
        text + "x",
    ):
        with pytest.raises(BadSetting):
            parse_verifier(bad)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0007", "\u0007"),  # forbidden: as it is
        ("\u0627\u0031", "\u0627\u0031"),  # right to left, but does not end so: as it is
        ("\u00ad", "\u00ad"),  # nothing would be left
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared
