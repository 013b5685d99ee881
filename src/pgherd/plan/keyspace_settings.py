"""ALTER TABLE users SET (pgherd.autosplit = off): settings of a table's keyspace, in the form of PostgreSQL's storage parameters.

They belong to the table and not to a session, so SET of the same name says where they go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import postgast.pg_query_pb2 as pb

from pgherd.balance.settings import NAMES, RULE_NAMES
from pgherd.errors import NoSessionSetting, Refused
from pgherd.plan.plans import Call, Const
from pgherd.sql.rewrite import quote
from pgherd.sql.statement import Statement
from pgherd.sql.tree import Tree, find, strings

SPACE: Final = "pgherd"
_CHANGES: Final = (pb.AT_SetRelOptions, pb.AT_ResetRelOptions)


def no_session_setting(name: str) -> None:
    """Raises NoSessionSetting for `pgherd.` and the name of a setting that a keyspace or the whole cluster has."""
    space, _, rest = name.partition(".")
    if space != SPACE:
        return
    if rest in NAMES:
        raise NoSessionSetting(
            f'"{name}" is a setting of a table\'s keyspace, not of a session',
            hint=f"ALTER TABLE users SET ({name} = ...), or CALL pgherd.set_keyspace('users', '{rest}', '...').",
        )
    if rest in RULE_NAMES:
        raise NoSessionSetting(
            f'"{name}" is a setting of the whole cluster, not of a session',
            hint=f"CALL pgherd.set_balancing('{rest}', '...').",
        )


def check(statement: Statement) -> None:
    """Refuse ALTER ROLE and ALTER DATABASE SET of such a name: it would be kept, and mean nothing. Raises NoSessionSetting."""
    if statement.kind in ("alter_role_set_stmt", "alter_database_set_stmt"):
        change = statement.tree.setstmt
        if change.kind in (pb.VAR_SET_VALUE, pb.VAR_SET_CURRENT):
            no_session_setting(change.name.lower())


def changes(statement: Statement) -> Call | None:
    """The settings of ours that an ALTER TABLE sets or resets; None: it has none. Raises Refused."""
    tree = statement.tree
    if not any(option.defnamespace == SPACE for option in find(tree, "DefElem")):
        return None
    args: list[Const] = []
    for node in tree.cmds:
        command = node.alter_table_cmd
        items = getattr(command, "def").list.items if command.subtype in _CHANGES else ()
        options = [item.def_elem for item in items]
        if not options or any(option.defnamespace != SPACE for option in options):
            raise Refused(
                "settings of pgherd stand in an ALTER TABLE of their own",
                hint="ALTER TABLE users SET (pgherd.autosplit = off); and the rest in another statement.",
            )
        reset = command.subtype == pb.AT_ResetRelOptions
        args += [Const(text) for option in options for text in _pair(option, reset=reset)]
    relation = tree.relation
    table = ".".join(quote(name) for name in (relation.schemaname, relation.relname) if name)
    named = (("if_exists", Const("true")),) if tree.missing_ok else ()
    return Call(
        name="set_keyspace",
        args=(Const(table), *args),
        named=named,
        tag="ALTER TABLE",
        write=True,
        rows=False,
    )


def _pair(option: Tree, *, reset: bool) -> Iterator[str]:
    """Name and value; a value of `default` forgets the setting."""
    yield option.defname
    yield "default" if reset else _value(option.arg)


def _value(node: Tree) -> str:
    kind = node.WhichOneof("node")
    if kind is None:
        return "true"  # SET (pgherd.autosplit), as in PostgreSQL
    if kind == "type_name":
        return strings(node.type_name.names)[-1]
    if kind == "integer":
        return str(node.integer.ival)
    return node.float.fval if kind == "float" else node.string.sval
