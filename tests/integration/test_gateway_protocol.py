"""The gateway against raw bytes: startup, malformed messages, pipelining, limits, TLS and SCRAM."""

from __future__ import annotations

import datetime
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pgherd.deploy.gateway import GatewayProcess
from pgherd.deploy.local import LocalCluster
from pgherd.errors import BadSetting
from pgherd.gateway import wire
from pgherd.gateway.settings import GatewaySettings
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(60)


class Raw:
    """A client that says exactly what it is told to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""

    def login(self, **parameters: str) -> list[tuple[str, bytes]]:
        self.socket.sendall(wire.startup({"user": "postgres", "database": "pgherd", **parameters}))
        return self.until("Z")

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def message(self) -> tuple[str, bytes] | None:
        """The next message, None at the end of the stream."""
        while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack(">I", self.buffer[1:5])[0]:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self.buffer += more
        end = 1 + struct.unpack(">I", self.buffer[1:5])[0]
        kind, body, self.buffer = chr(self.buffer[0]), self.buffer[5:end], self.buffer[end:]
        return kind, body

    def until(self, kind: str) -> list[tuple[str, bytes]]:
        """All messages up to the first of this kind, or to the end of the stream."""
        found: list[tuple[str, bytes]] = []
        while (message := self.message()) is not None:
            found.append(message)
            if message[0] == kind:
                break
        return found

    def close(self) -> None:
        self.socket.close()


def kinds(messages: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in messages)


@pytest.fixture(scope="module")
def herd(yard: Yard) -> LocalCluster:
    return yard.cluster("gateway_protocol", embedded=True, groups=2)


@pytest.fixture(scope="module")
def port(herd: LocalCluster) -> int:
    with psycopg.connect(herd.dsn(herd.existing()), autocommit=True) as db:
        db.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text) PARTITION BY HASH (id)")
        db.execute("INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 100) n")
    return psycopg.conninfo.conninfo_to_dict(herd.dsn(herd.existing()))["port"]  # type: ignore[return-value]


@pytest.fixture
def raw(port: int) -> Iterator[Raw]:
    client = Raw(int(port))
    yield client
    client.close()


def test_startup_reports_parameters(raw: Raw) -> None:
    found = raw.login(application_name="me")
    assert kinds(found).startswith("RS")
    assert kinds(found).endswith("KZ")
    assert (b"application_name\0me\0") in [body for kind, body in found if kind == "S"]


def test_protocol_3_2_is_negotiated(raw: Raw) -> None:
    raw.send(wire.startup({"user": "postgres", "database": "pgherd", "_pq_.x": "1"}, version=0x30002))
    found = raw.until("Z")
    assert found[0][0] == "v"
    assert found[0][1][:4] == struct.pack(">I", 0x30000)  # the newest version that is offered
    assert b"_pq_.x" in found[0][1]
    assert found[-1] == ("Z", b"I")


def test_ssl_and_gss_requests_are_answered(raw: Raw) -> None:
    raw.send(struct.pack(">II", 8, 80877104))
    assert raw.socket.recv(1) == b"N"
    raw.send(struct.pack(">II", 8, 80877103))
    assert raw.socket.recv(1) == b"N"
    assert raw.login()[-1] == ("Z", b"I")


def test_wrong_database(raw: Raw) -> None:
    raw.send(wire.startup({"user": "postgres", "database": "other"}))
    found = raw.until("E")
    assert b"C3D000" in found[-1][1]
    assert raw.message() is None


def test_pipelined_batches_keep_their_order(raw: Raw) -> None:
    raw.login()
    batch = b""
    for number in range(1, 51):
        batch += wire.parse("", "SELECT v FROM t WHERE id = $1") + wire.bind("", "", [str(number).encode()])
        batch += wire.execute("") + b"S\0\0\0\4"
    raw.send(batch)
    values: list[bytes] = []
    for _ in range(50):
        for kind, body in raw.until("Z"):
            if kind == "D":
                values.append(body[6:])
    assert values == [f"v{number}".encode() for number in range(1, 51)]


def test_an_error_skips_to_the_sync(raw: Raw) -> None:
    raw.login()
    raw.send(wire.parse("", "SELECT 1/0 FROM t WHERE id = 5"), wire.bind("", "", []), wire.execute(""))
    raw.send(wire.parse("x", "SELECT 1"), b"S\0\0\0\4", wire.query("SELECT 2"))
    assert kinds(raw.until("Z")) == "12EZ"
    assert kinds(raw.until("Z")) == "TDCZ"


def test_row_limits_suspend_the_portal(raw: Raw) -> None:
    raw.login()
    raw.send(wire.query("BEGIN"))
    raw.until("Z")
    raw.send(wire.parse("", "SELECT v FROM t ORDER BY id"), wire.bind("p", "", []))
    raw.send(wire.execute("p", 30), wire.execute("p", 60), wire.execute("p", 0), b"S\0\0\0\4")
    assert kinds(raw.until("Z")) == "12" + "D" * 30 + "s" + "D" * 60 + "s" + "D" * 10 + "CZ"
    raw.send(wire.query("ROLLBACK"))
    assert raw.until("Z")[-1] == ("Z", b"I")


def test_describe_before_execute(raw: Raw) -> None:
    raw.login()
    raw.send(wire.parse("s", "SELECT id, v FROM t WHERE id = $1"), wire.describe_statement("s"), b"H\0\0\0\4")
    found = raw.until("T")
    assert kinds(found) == "1tT"
    assert struct.unpack(">HI", found[1][1]) == (1, 20)
    raw.send(wire.bind("", "s", [b"7"]), wire.describe_portal(""), wire.execute(""), b"S\0\0\0\4")
    assert kinds(raw.until("Z")) == "2TDCZ"


@pytest.mark.parametrize(
    "message",
    [
        b"Q\0\0\0\3",
        b"Q\0\0\0\5a",
        b"P\0\0\0\6ab",
        b"B\0\0\0\x0c\0\0\0\5\0\0\0\1",
        b"D\0\0\0\6X\0",
        b"E\0\0\0\5\0",
        b"\0\0\0\0\4",
        b"z\0\0\0\4",
        b"Q\xff\xff\xff\xff",
        b"F\0\0\0\4",
    ],
)
def test_malformed_messages_are_named_and_nothing_hangs(raw: Raw, message: bytes) -> None:
    raw.login()
    raw.send(message, b"S\0\0\0\4")
    found = raw.until("Z")
    errors = [body for kind, body in found if kind == "E"]
    assert errors
    assert b"Traceback" not in errors[0]
    assert b"internal error" not in errors[0]


def test_random_bytes_do_no_harm(port: int) -> None:
    seed = 20_240
    choice = random.Random(seed)
    for _ in range(60):
        client = Raw(int(port))
        if choice.random() < 0.7:
            client.login()
            junk = bytes([choice.choice(b"QPBDEHSCdcfFpX")]) + struct.pack(
                ">I", choice.choice((4, 5, 9, 12, 40))
            )
            client.send(junk + choice.randbytes(choice.randrange(60)))
        else:
            client.send(choice.randbytes(choice.randrange(1, 60)))
        client.socket.shutdown(socket.SHUT_WR)
        while (message := client.message()) is not None:
            assert b"internal error" not in message[1], f"seed {seed}"
        client.close()
    survivor = Raw(int(port))
    assert survivor.login()[-1] == ("Z", b"I")
    survivor.close()


def test_too_long_before_login(port: int) -> None:
    client = Raw(int(port))
    client.send(struct.pack(">II", 50_000_000, 196608) + b"x" * 20_000)
    assert client.until("Z") == [] or client.buffer == b""
    client.close()


# ---- TLS and SCRAM -----------------------------------------------------------------------------------------


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key_file.chmod(0o600)
    return cert_file, key_file


@pytest.fixture(scope="module")
def guarded(yard: Yard) -> Iterator[tuple[str, int, Path]]:
    """A cluster with passwords, and a second gateway in front of it that also speaks TLS: password, port, certificate."""
    herd = yard.cluster("gateway_guarded", embedded=False, groups=2, auth="scram")
    current = herd.existing()
    cert, key = certificate(yard.directory)
    password = herd.password()
    assert password is not None
    settings = {
        **herd.gateway_settings(current),
        "port": yard.port(),
        "tls_cert": str(cert),
        "tls_key": str(key),
    }
    directory = yard.directory / "tls_gateway"
    directory.mkdir()
    second = GatewayProcess(directory=directory, mortal=True)
    second.start(settings)
    yield password, settings["port"], cert
    second.stop()


def test_scram_over_tls(guarded: tuple[str, int, Path]) -> None:
    password, port, cert = guarded
    with psycopg.connect(
        host="localhost", port=port, user="postgres", password=password, dbname="pgherd", sslmode="verify-full",
        sslrootcert=str(cert), autocommit=True,
    ) as db:  # fmt: skip
        assert db.pgconn.ssl_in_use
        db.execute("CREATE TABLE s (id bigint PRIMARY KEY, v text) PARTITION BY HASH (id)")
        db.execute("INSERT INTO s SELECT n, 'x' FROM generate_series(1, 50) n")
        assert db.execute("SELECT count(*) FROM s").fetchone() == (50,)
        db.execute("CREATE ROLE clerk LOGIN PASSWORD 'secret word'")
        db.execute("GRANT SELECT ON s TO clerk")
    with psycopg.connect(
        host="localhost", port=port, user="clerk", password="secret word", dbname="pgherd", autocommit=True
    ) as db:
        assert db.execute("SELECT count(*) FROM s").fetchone() == (50,)
        assert db.execute("SELECT count(*) FROM s a JOIN s b ON a.v = b.v").fetchone() == (2500,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("DELETE FROM s WHERE id = 5")
    for user in ("postgres", "nobody_here"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(host="localhost", port=port, user=user, password="wrong", dbname="pgherd")


def test_no_listening_elsewhere_without_authentication() -> None:
    with pytest.raises(BadSetting, match="without authentication"):
        GatewaySettings(seeds=("postgresql://x@127.0.0.1/pgherd",), listen="0.0.0.0")
