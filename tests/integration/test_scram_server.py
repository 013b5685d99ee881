"""SCRAM-SHA-256 between ours and PostgreSQL's: our client and verifiers at a real server, libpq at our server side."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from pgherd.deploy.server import Server
from pgherd.errors import BadPassword, PgherdError, ServerError
from pgherd.gateway import wire
from pgherd.gateway.scram import ScramClient, ScramKeys, ScramServer, make_verifier
from pgherd.testing.servers import Yard

PASSWORDS = {"plain": "open sesame", "odd": "I\u00adX \u2168\u00a0%,=", "forbidden": "a\u0007\u00e9"}


@pytest.fixture(scope="module")
def locked(yard: Yard) -> Server:
    """A server that asks everybody for a password; roles whose verifiers PostgreSQL made, and roles with ours."""
    server = yard.server("locked", auth="scram", password="secret")
    for role, password in PASSWORDS.items():
        quoted = password.replace("'", "''")
        server.ask(f"CREATE ROLE {role}_theirs LOGIN PASSWORD '{quoted}'", password="secret")
        server.ask(f"CREATE ROLE {role}_ours LOGIN PASSWORD '{make_verifier(password)}'", password="secret")
    return server


def read(sock: socket.socket, splitter: wire.Splitter) -> Iterator[tuple[int, bytes]]:
    while data := sock.recv(65536):
        yield from splitter.feed(data)


def login(port: int, user: str, *, password: str | None = None, keys: ScramKeys | None = None) -> str:
    """Log in with our client; answers what the server calls us. Raises ServerError."""
    client = ScramClient(user, password=password, keys=keys)
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as sock:
        sock.sendall(wire.startup({"user": user, "database": "postgres"}))
        for kind, body in read(sock, wire.Splitter(1 << 20)):
            match chr(kind):
                case "R":
                    asked = wire.read_authentication(body)
                    if asked.code == 10:
                        assert asked.mechanisms == ("SCRAM-SHA-256",)
                        sock.sendall(wire.sasl_initial_response("SCRAM-SHA-256", client.first()))
                    elif asked.code == 11:
                        sock.sendall(wire.sasl_response(client.final(asked.data)))
                    elif asked.code == 12:
                        client.verify(asked.data)
                        sock.sendall(wire.query("SELECT current_user"))
                case "D":
                    return wire.text_row(body)[0] or ""
                case "E":
                    raise ServerError(wire.read_error(body))
                case _:
                    pass
    raise AssertionError("the server hung up")


@pytest.mark.parametrize("role", [f"{name}_{whose}" for name in PASSWORDS for whose in ("theirs", "ours")])
def test_any_client_any_verifier(locked: Server, role: str) -> None:
    password = PASSWORDS[role.partition("_")[0]]
    assert login(locked.port, role, password=password) == role
    with psycopg.connect(
        host="127.0.0.1", port=locked.port, user=role, password=password, dbname="postgres"
    ) as their_client:
        assert their_client.execute("SELECT current_user").fetchone() == (role,)
    with pytest.raises(ServerError, match="password authentication failed"):
        login(locked.port, role, password=password + "x")


def test_keys_learned_from_a_proof_open_the_server(locked: Server) -> None:
    verifier = locked.ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'odd_theirs'", password="secret")
    server = ScramServer(verifier, user="odd_theirs")
    client = ScramClient("odd_theirs", password=PASSWORDS["odd"])
    client.verify(server.final(client.final(server.first(client.first()))))
    assert server.keys is not None
    assert login(locked.port, "odd_theirs", keys=server.keys) == "odd_theirs"
    with pytest.raises(ServerError, match="password authentication failed"):
        login(locked.port, "plain_theirs", keys=server.keys)


@contextmanager
def doorkeeper(verifier: str, errors: list[PgherdError]) -> Iterator[int]:
    """A port where our server side lets clients in, and then answers every query with nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        with closing(sock):
            sock.settimeout(10)
            data = b""
            while (packet := wire.split_startup(data)) is None:
                data += sock.recv(65536)
            started = wire.read_startup(packet[0])
            assert isinstance(started, wire.Startup)
            if started.minor:
                sock.sendall(wire.negotiate_protocol_version(wire.VERSION_3_0, started.options))
            server = ScramServer(verifier, user=started.parameters["user"])
            sock.sendall(wire.authentication_sasl(["SCRAM-SHA-256"]))
            messages = read(sock, wire.Splitter())
            try:
                initial = wire.read_sasl_initial(next(messages)[1])
                sock.sendall(wire.authentication_sasl_continue(server.first(initial.data or b"")))
                sock.sendall(wire.authentication_sasl_final(server.final(next(messages)[1])))
            except PgherdError as error:
                errors.append(error)
                sock.sendall(wire.error_response_from(error, "FATAL"))
                return
            shown = wire.parameter_status("client_encoding", "UTF8") + wire.backend_key_data(1, b"1234")
            sock.sendall(wire.AUTHENTICATION_OK + shown + wire.ready_for_query("I"))
            for kind, _ in messages:
                if kind == ord("Q"):
                    sock.sendall(wire.EMPTY_QUERY_RESPONSE + wire.ready_for_query("I"))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(timeout=20)
        listener.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("name", PASSWORDS)
def test_libpq_logs_in_to_our_side(name: str) -> None:
    with doorkeeper(make_verifier(PASSWORDS[name]), errors := []) as port:
        dsn = f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable gssencmode=disable"
        with psycopg.connect(dsn, password=PASSWORDS[name], autocommit=True) as connection:
            connection.execute("")
    assert errors == []


def test_libpq_is_told_why_not() -> None:
    with doorkeeper(make_verifier("right"), errors := []) as port:
        dsn = f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable gssencmode=disable"
        with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "u"'):
            psycopg.connect(dsn, password="wrong")
    assert [type(error) for error in errors] == [BadPassword]


def test_newer_libpq_accepts_our_negotiation(server: Server) -> None:
    with doorkeeper(make_verifier("right"), []) as port:
        dsn = f"host=127.0.0.1 port={port} user=u dbname=d password=right sslmode=disable max_protocol_version=3.2"
        psql = subprocess.run(
            [server.binaries.path("psql"), "-Xqc", "", "-d", dsn], capture_output=True, text=True, timeout=20
        )
    assert (psql.returncode, psql.stderr) == (0, "")
