"""What of a pg_dump makes the user's own objects in a new group, and in which order. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import postgast

from pgherd.sql.parse import parse
from pgherd.sql.statement import Statement

# schemas that pgherd fills itself; patterns of pg_dump
OWN_SCHEMAS: Final = ("pgherd", "pgherd_*", "global", "global_*", "here", "here_*", "shard_*")

_RESTRICTION: Final = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)  # commands to psql around the dump
_OBJECTS: Final = postgast.pg_query_pb2.ObjectType
_FOREIGN: Final = frozenset({_OBJECTS.Value("OBJECT_FOREIGN_SERVER"), _OBJECTS.Value("OBJECT_FDW")})
_SKIPPED: Final = frozenset(
    {
        "variable_set_stmt",  # the session's settings are ours to choose
        "select_stmt",
        "create_foreign_server_stmt",
        "create_user_mapping_stmt",
        "create_fdw_stmt",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """Texts in order. `defaults`: default privileges, which shall not touch what pgherd makes, so they come last."""

    objects: tuple[str, ...]
    defaults: tuple[str, ...]


def definitions(dump: str, *, comments: bool) -> Definitions:
    """The statements of a schema dump that a new group needs. `comments`: with the users' comments."""
    statements = [one for one in _statements(dump) if not _is_ours(one)]
    if not comments:
        statements = [one for one in statements if one.kind != "comment_stmt"]
    late = "alter_default_privileges_stmt"
    return Definitions(
        objects=tuple(one.text for one in statements if one.kind != late),
        defaults=tuple(one.text for one in statements if one.kind == late),
    )


def roles(dump: str, present: Iterable[str]) -> tuple[str, ...]:
    """The statements of a dump of roles. Roles in `present` are left as they are: they replicate, with passwords of their own."""
    kept = set(present)
    return tuple(one.text for one in _statements(dump) if one.kind not in _SKIPPED and _role(one) not in kept)


def _statements(dump: str) -> tuple[Statement, ...]:
    return parse(_RESTRICTION.sub("", dump))


def _role(statement: Statement) -> str:
    tree: Any = statement.tree
    match statement.kind:
        case "create_role_stmt":
            return tree.role
        case "alter_role_stmt" | "alter_role_set_stmt":
            return tree.role.rolename
        case _:
            return ""


def _is_ours(statement: Statement) -> bool:
    """What joins the groups, and is made from the metadata; and what sets up the session of the dump."""
    tree: Any = statement.tree
    match statement.kind:
        case kind if kind in _SKIPPED:
            return True
        case "create_trig_stmt":
            return tree.trigname == "pgherd_guard"
        case "create_extension_stmt":
            return tree.extname == "postgres_fdw"
        case "comment_stmt":
            return (
                tree.objtype == _OBJECTS.Value("OBJECT_EXTENSION")
                and tree.object.string.sval == "postgres_fdw"
            )
        case "grant_stmt":
            return tree.objtype in _FOREIGN
        case "alter_owner_stmt":
            return tree.object_type in _FOREIGN
        case _:
            return False
