"""Roles: once for each server (groups of one server share them), with one password verifier for all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stringprep
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

from pgherd.catalog.ddl.change import Change, copy_of, written
from pgherd.catalog.model import GroupId
from pgherd.catalog.text import call, literal
from pgherd.errors import Refused

_ITERATIONS: Final = 4096  # PostgreSQL's own default


def server_groups(change: Change) -> tuple[GroupId, ...]:
    """One group for each PostgreSQL server, the lowest that lives there."""
    seen: dict[tuple[str, int], GroupId] = {}
    for group in change.work.groups:
        node = change.cluster.groups[group].primary
        seen.setdefault((node.host, node.port), group)
    return tuple(seen.values())


async def once_per_server(change: Change) -> None:
    """The text in one group of each server."""
    await change.run(server_groups(change), change.text)


def _prepared(password: str) -> str:
    """The password as SASLprep (RFC 4013) makes it; PostgreSQL takes it as it is where that is not defined."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    return unicodedata.ucd_3_2_0.normalize("NFKC", mapped)


def verifier(password: str, salt: bytes | None = None) -> str:
    """The SCRAM-SHA-256 verifier of a password, as PostgreSQL stores it (RFC 5803)."""
    if password.startswith(("SCRAM-SHA-256$", "md5")) and len(password) > 30:
        return password
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password).encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _with_verifier(kind: str, tree: Any, text: str) -> str:
    """The statement with its password turned into a verifier, so that every server stores the same."""
    copy = copy_of(tree)
    found = False
    for node in copy.options:
        option = node.def_elem
        if option.defname == "password" and option.arg.HasField("string"):
            option.arg.string.sval = verifier(option.arg.string.sval)
            found = True
    return written(kind, copy) if found else text


async def create_role(change: Change) -> None:
    """CREATE ROLE / USER / GROUP."""
    text = _with_verifier("create_role_stmt", change.tree, change.text)
    await change.run(server_groups(change), text + "\n;\n" + call("map_role", literal(change.tree.role)))


async def alter_role(change: Change) -> None:
    """ALTER ROLE, with or without a password."""
    await change.run(server_groups(change), _with_verifier("alter_role_stmt", change.tree, change.text))


async def alter_role_set(change: Change) -> None:
    """ALTER ROLE ... SET: settings of the role, not of one database."""
    if change.tree.database:
        raise Refused(
            "ALTER ROLE ... IN DATABASE is not supported",
            hint="Leave out IN DATABASE: the cluster is one database.",
        )
    await once_per_server(change)


async def drop_role(change: Change) -> None:
    """DROP ROLE: its user mappings go first."""
    roles = [node.role_spec.rolename for node in change.tree.roles]
    await change.everywhere("SELECT", *_unmap(roles))
    await once_per_server(change)


def _unmap(roles: Iterable[str]) -> list[str]:
    return [call("unmap_role", literal(role)) for role in roles]
