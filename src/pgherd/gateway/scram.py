"""SCRAM-SHA-256, both sides: RFC 5802 and 7677, as PostgreSQL speaks it (manual, "SASL Authentication").

The gateway never sees a password. From a client's proof it learns the role's client key, and with it (and the server key
of the verifier) it can log in to any server that holds the same verifier: `ScramKeys`.
No channel binding is offered, since gateway and servers have different certificates.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Final

from pgherd.errors import BadPassword, BadSetting, ProtocolViolation

MECHANISM: Final = "SCRAM-SHA-256"
_VERIFIER: Final = re.compile(
    r"SCRAM-SHA-256\$([0-9]{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
)
_CLIENT_FIRST: Final = re.compile(rb"([ny]),,(n=[^,]*,r=([!-+\--~]+)(?:,.*)?)")
_CLIENT_FINAL: Final = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[^p].*)?),p=([A-Za-z0-9+/=]+)")
_SERVER_FIRST: Final = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,.*)?")
_ITERATIONS_MAX: Final = 2_000_000  # a hostile server must not keep us busy for minutes


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What proves a role's identity without its password. As secret as the password itself."""

    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "ScramKeys(...)"


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server stores of a password (pg_authid.rolpassword)."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        salt, stored, server = (
            b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=True))


def saslprep(password: str) -> str:
    """RFC 4013. As in PostgreSQL, a password that it forbids is used as it is."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    text = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return text if text and not _forbidden(text) else password


def _forbidden(text: str) -> bool:
    tables = (
        stringprep.in_table_a1, stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
        stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
        stringprep.in_table_c8, stringprep.in_table_c9,
    )  # fmt: skip
    if any(table(char) for table in tables for char in text):
        return True
    right_to_left = [stringprep.in_table_d1(char) for char in text]
    if not any(right_to_left):
        return False
    return any(map(stringprep.in_table_d2, text)) or not (right_to_left[0] and right_to_left[-1])


def _keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    salted = hashlib.pbkdf2_hmac(
        "sha256", saslprep(password).encode("utf-8", "surrogateescape"), salt, iterations
    )
    return ScramKeys(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


def make_verifier(password: str, iterations: int = 4096, salt: bytes | None = None) -> str:
    """The verifier to store for a password."""
    salt = secrets.token_bytes(16) if salt is None else salt
    keys = _keys(password, salt, iterations)
    return str(Verifier(iterations, salt, _sha256(keys.client_key), keys.server_key))


def parse_verifier(text: str) -> Verifier:
    """What pg_authid.rolpassword holds. Raises BadSetting for any other kind (MD5)."""
    found = _VERIFIER.fullmatch(text)
    if found is None:
        raise BadSetting(
            "the role's stored password is not a SCRAM-SHA-256 verifier",
            hint="Set password_encryption to scram-sha-256 and the password anew.",
        )
    try:
        salt, stored, server = (b64decode(part, validate=True) for part in found.groups()[1:])
    except Base64Error:
        raise BadSetting("the role's stored password is damaged", hint="Set the password anew.") from None
    if len(stored) != 32 or len(server) != 32 or not int(found[1]):
        raise BadSetting("the role's stored password is damaged", hint="Set the password anew.")
    return Verifier(int(found[1]), salt, stored, server)


def fake_verifier(user: str, secret: bytes) -> str:
    """A verifier that no password fits, the same each time: nobody can tell an unknown role from a known one."""
    parts = [
        _hmac(secret, f"{what}:{user}".encode("utf-8", "replace")) for what in ("salt", "stored", "server")
    ]
    return str(Verifier(4096, parts[0][:16], parts[1], parts[2]))


class ScramServer:
    """Checks one client. `keys` is set once the proof was right; every wrong proof raises the same BadPassword."""

    def __init__(self, verifier: str, nonce: str | None = None, user: str = "") -> None:
        self._verifier = parse_verifier(verifier)
        self._nonce = (nonce or secrets.token_urlsafe(18)).encode()
        self._user = user
        self._header = b""
        self._bare = b""
        self._first = b""
        self._full_nonce = b""
        self.keys: ScramKeys | None = None

    def first(self, message: bytes) -> bytes:
        """The answer to the client's first message. Raises ProtocolViolation."""
        found = _CLIENT_FIRST.fullmatch(message)
        if found is None:
            if message.startswith(b"p="):
                raise ProtocolViolation("the client asks for channel binding, which was not offered")
            raise ProtocolViolation("malformed SCRAM message")
        self._header = found[1] + b",,"
        self._bare = found[2]
        self._full_nonce = found[3] + self._nonce
        salt = b64encode(self._verifier.salt)
        self._first = b"r=%b,s=%b,i=%d" % (self._full_nonce, salt, self._verifier.iterations)
        return self._first

    def final(self, message: bytes) -> bytes:
        """The answer to the client's proof. Raises BadPassword, ProtocolViolation."""
        found = _CLIENT_FINAL.fullmatch(message)
        if found is None or not self._first:
            raise ProtocolViolation("malformed SCRAM message")
        if _decoded(found[2]) != self._header or found[3] != self._full_nonce:
            raise ProtocolViolation("SCRAM nonce or channel binding does not match")
        proof = _decoded(found[4])
        signed = b",".join((self._bare, self._first, found[1]))
        stored = self._verifier.stored_key
        if len(proof) != len(stored):
            raise ProtocolViolation("malformed SCRAM message")
        client_key = _xor(proof, _hmac(stored, signed))
        if not hmac.compare_digest(_sha256(client_key), stored):
            raise BadPassword(f'password authentication failed for user "{self._user}"')
        self.keys = ScramKeys(client_key, self._verifier.server_key)
        return b"v=" + b64encode(_hmac(self._verifier.server_key, signed))


class ScramClient:
    """Logs in to a server with a password, or with the keys that a `ScramServer` has learned."""

    def __init__(
        self,
        user: str,
        *,
        password: str | None = None,
        keys: ScramKeys | None = None,
        nonce: str | None = None,
    ) -> None:
        self._user = user
        self._password = password
        self._keys = keys
        self._nonce = (nonce or secrets.token_urlsafe(18)).encode()
        self._expected = b""

    def first(self) -> bytes:
        """The first message. The name is left empty: the server knows it from the startup message."""
        return b"n,,n=,r=" + self._nonce

    def final(self, message: bytes) -> bytes:
        """The proof, in answer to the server's first message. Raises BadPassword, ProtocolViolation."""
        found = _SERVER_FIRST.fullmatch(message)
        if found is None or not found[1].startswith(self._nonce) or found[1] == self._nonce:
            raise ProtocolViolation("malformed SCRAM message from the server")
        if int(found[3]) > _ITERATIONS_MAX:
            raise ProtocolViolation(f"the server asks for {int(found[3])} SCRAM iterations")
        keys = self._keys
        if keys is None:
            if self._password is None:
                raise BadPassword(f'no password supplied for user "{self._user}"')
            keys = _keys(self._password, _decoded(found[2]), int(found[3]))
        unproved = b"c=biws,r=" + found[1]
        signed = b",".join((b"n=,r=" + self._nonce, message, unproved))
        proof = _xor(keys.client_key, _hmac(_sha256(keys.client_key), signed))
        self._expected = b"v=" + b64encode(_hmac(keys.server_key, signed))
        return unproved + b",p=" + b64encode(proof)

    def verify(self, message: bytes) -> None:
        """Check the server's final message. Raises BadPassword if the server does not know the role's password either."""
        if not self._expected or not hmac.compare_digest(message.partition(b",")[0], self._expected):
            raise BadPassword(f'the server could not prove that it knows the password of user "{self._user}"')


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except Base64Error:
        raise ProtocolViolation("malformed SCRAM message") from None
