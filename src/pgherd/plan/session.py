"""Statements about the session itself: transactions, settings, prepared statements, cursors, EXPLAIN, CALL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Literal

import postgast
import postgast.pg_query_pb2 as pb

from pgherd.errors import Refused
from pgherd.plan import keyspace_settings
from pgherd.plan.context import ZERO
from pgherd.plan.plans import (
    AnyPlan,
    Call,
    Const,
    Control,
    Deallocate,
    Declare,
    Discard,
    Execute,
    Explain,
    Expr,
    Federated,
    Fetch,
    Gather,
    OneGroup,
    Param,
    Prepare,
    SetVariable,
    Show,
    Single,
)
from pgherd.plan.values import UNTYPED, read_value
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import quote
from pgherd.sql.statement import Statement
from pgherd.sql.tokens import tokens
from pgherd.sql.tree import Tree, strings

Plan = Callable[[Statement], AnyPlan]

Isolation = Literal["", "read committed", "repeatable read", "serializable", "read uncommitted"]
_ISOLATIONS: dict[str, Isolation] = {
    "read committed": "read committed",
    "repeatable read": "repeatable read",
    "serializable": "serializable",
    "read uncommitted": "read uncommitted",
}
_DISCARDS: dict[int, Literal["all", "plans", "sequences", "temp"]] = {
    pb.DISCARD_ALL: "all",
    pb.DISCARD_PLANS: "plans",
    pb.DISCARD_SEQUENCES: "sequences",
    pb.DISCARD_TEMP: "temp",
}
_ANSWERED = frozenset({"transaction_id", "session_token", "transaction_status"})
_CURSOR_HOLD = 0x0020  # CURSOR_OPT_HOLD
_BEGINS = {pb.TRANS_STMT_BEGIN: "begin", pb.TRANS_STMT_START: "begin"}


# ---- transactions ------------------------------------------------------------------------------------------


def transaction(statement: Statement) -> Control:
    """BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their kin."""
    tree = statement.tree
    kind = tree.kind
    if kind in (pb.TRANS_STMT_PREPARE, pb.TRANS_STMT_COMMIT_PREPARED, pb.TRANS_STMT_ROLLBACK_PREPARED):
        raise Refused(
            "PREPARE TRANSACTION is not available: pgherd prepares transactions itself",
            hint="Use COMMIT; it is atomic over all groups.",
        )
    if kind in _BEGINS:
        isolation, read_only, modes = _modes(tree.options)
        tag = "BEGIN" if kind == pb.TRANS_STMT_BEGIN else "START TRANSACTION"
        return Control(
            action="begin", isolation=isolation, read_only=read_only, modes=modes, tag=tag, rows=False
        )
    name = tree.savepoint_name
    match kind:
        case pb.TRANS_STMT_COMMIT:
            return Control(action="commit", chain=tree.chain, tag="COMMIT", rows=False)
        case pb.TRANS_STMT_ROLLBACK:
            return Control(action="rollback", chain=tree.chain, tag="ROLLBACK", rows=False)
        case pb.TRANS_STMT_SAVEPOINT:
            return Control(action="savepoint", name=name, tag="SAVEPOINT", rows=False)
        case pb.TRANS_STMT_RELEASE:
            return Control(action="release", name=name, tag="RELEASE", rows=False)
        case _:
            return Control(action="rollback_to", name=name, tag="ROLLBACK", rows=False)


def _modes(options: Iterable[Tree]) -> tuple[Isolation, bool | None, str]:
    isolation: Isolation = ""
    read_only: bool | None = None
    modes: list[str] = []
    for node in options:
        option = node.def_elem
        value = option.arg.a_const
        if option.defname == "transaction_isolation":
            isolation = _ISOLATIONS[value.sval.sval.lower()]
            modes.append(f"ISOLATION LEVEL {isolation.upper()}")
        elif option.defname == "transaction_read_only":
            read_only = bool(value.ival.ival)
            modes.append("READ ONLY" if read_only else "READ WRITE")
        elif option.defname == "transaction_deferrable":
            modes.append("DEFERRABLE" if value.ival.ival else "NOT DEFERRABLE")
    return isolation, read_only, ", ".join(modes)


# ---- settings ----------------------------------------------------------------------------------------------


def set_variable(statement: Statement) -> AnyPlan:
    """SET and RESET."""
    tree = statement.tree
    if tree.kind in (pb.VAR_SET_VALUE, pb.VAR_SET_CURRENT):
        keyspace_settings.no_session_setting(tree.name.lower())
    if tree.kind == pb.VAR_SET_MULTI:
        isolation, read_only, modes = _modes(tree.args)
        if tree.name == "TRANSACTION":
            return Control(
                action="set_transaction",
                isolation=isolation,
                read_only=read_only,
                modes=modes,
                tag="SET",
                rows=False,
            )
        if tree.name == "SESSION CHARACTERISTICS":
            return SetVariable(
                sql=statement.text, name="session_characteristics", value=modes, tag="SET", rows=False
            )
        raise Refused(
            "SET TRANSACTION SNAPSHOT is not available: a snapshot belongs to one group",
            hint="Use ISOLATION LEVEL REPEATABLE READ: it reads one snapshot over all groups.",
        )
    if tree.kind in (pb.VAR_RESET, pb.VAR_RESET_ALL):
        name = "all" if tree.kind == pb.VAR_RESET_ALL else tree.name.lower()
        return SetVariable(sql=statement.text, name=name, value=None, tag="RESET", rows=False)
    value = None if tree.kind == pb.VAR_SET_DEFAULT else _setting(tree.name.lower(), tree.args)
    return SetVariable(
        sql=statement.text, name=tree.name.lower(), value=value, local=tree.is_local, tag="SET", rows=False
    )


def _setting(name: str, args: Iterable[Tree]) -> str:
    values: list[str] = []
    for node in args:
        const = (node.type_cast.arg if node.HasField("type_cast") else node).a_const
        kind = const.WhichOneof("val")
        if kind == "sval":
            values.append(quote(const.sval.sval) if name == "search_path" else const.sval.sval)
        else:
            values.append(str(const.ival.ival) if kind == "ival" else const.fval.fval)
    return ", ".join(values)


def show(statement: Statement) -> Show:
    """SHOW."""
    return Show(sql=statement.text, name=statement.tree.name.lower(), tag="SHOW")


def discard(statement: Statement) -> Discard:
    """DISCARD."""
    what = _DISCARDS[statement.tree.target]
    return Discard(what=what, tag="DISCARD", rows=False)


def _bare_call(tree: Tree) -> tuple[Tree, str] | None:
    """The call in `SELECT f(...)` or `SELECT * FROM f(...)` and nothing else, and the name of its column."""
    if tree.op != pb.SETOP_NONE or tree.HasField("with_clause") or tree.where_clause.WhichOneof("node"):
        return None
    if len(tree.target_list) != 1:
        return None
    target, alias = tree.target_list[0].res_target, ""
    node = target.val
    if len(tree.from_clause) == 1 and tree.from_clause[0].HasField("range_function"):
        function = tree.from_clause[0].range_function
        alias = (*strings(function.alias.colnames), function.alias.aliasname)[0]
        chosen = list(node.column_ref.fields) if node.HasField("column_ref") else []
        if len(chosen) == 2 and strings(chosen[:1]) == (function.alias.aliasname,):
            del chosen[0]
        node = function.functions[0].list.items[0]
        found = alias or (strings(node.func_call.funcname) or ("",))[-1]
        if len(chosen) != 1 or not (chosen[0].HasField("a_star") or strings(chosen) == (found,)):
            return None
    elif tree.from_clause:
        return None
    if not node.HasField("func_call"):
        return None
    return node.func_call, target.name or alias or strings(node.func_call.funcname)[-1]


def special_select(statement: Statement) -> AnyPlan | None:
    """A SELECT that the session answers itself: set_config with constants, functions of pgherd."""
    found = _set_config_calls(statement)
    if found is not None:
        return found
    found_call = _bare_call(statement.tree)
    if found_call is None:
        return _dump_guard(statement)
    call, column = found_call
    names = strings(call.funcname)
    if names[0] == "pgherd" and names[-1] in _ANSWERED:
        return _call(call, tag="SELECT", write=False, column=column)
    return None


def _set_config_calls(statement: Statement) -> SetVariable | None:
    """`SELECT set_config(...), ...` with constants and parameters, and nothing else."""
    tree = statement.tree
    if tree.op != pb.SETOP_NONE or tree.HasField("with_clause") or tree.where_clause.WhichOneof("node"):
        return None
    if tree.from_clause or not tree.target_list:
        return None
    calls: list[tuple[Param | Const, Param | Const, Param | Const]] = []
    for target in tree.target_list:
        node = target.res_target.val
        if not node.HasField("func_call") or target.res_target.name:
            return None
        names, args = strings(node.func_call.funcname), node.func_call.args
        if names[-1] != "set_config" or names[:-1] not in ((), ("pg_catalog",)) or len(args) != 3:
            return None
        sources = [_source(arg) for arg in args]
        if None in sources:
            return None
        calls.append(tuple(sources))  # type: ignore[arg-type]
    name, value, local = calls[0]
    plain = len(calls) == 1 and all(isinstance(source, Const) for source in calls[0])
    if not plain:
        return SetVariable(sql=statement.text, name="", value=None, calls=tuple(calls))
    keyspace_settings.no_session_setting((name.text or "").lower())  # type: ignore[union-attr]
    return SetVariable(
        sql=statement.text,
        name=(name.text or "").lower(),  # type: ignore[union-attr]
        value=value.text or "",  # type: ignore[union-attr]
        local=local.text == "true",  # type: ignore[union-attr]
    )


def _source(node: Tree) -> Param | Const | None:
    """A constant or parameter, booleans included, whatever it is cast to."""
    while node.HasField("type_cast"):
        node = node.type_cast.arg
    truth = _truth(node)
    if truth is not None:
        return Const("true" if truth else "false")
    value = read_value(node)
    return None if value is None else value.source


_DUMP_GUARD: Final = re.compile(
    r"SELECT set_config\(name, '([^']*)', false\) FROM pg_settings WHERE name = '(restrict_nonsystem_relation_kind)'"
)


def _dump_guard(statement: Statement) -> SetVariable | None:
    """How pg_dump makes a setting that older servers do not have; the session answers it."""
    found = _DUMP_GUARD.fullmatch(" ".join(statement.text.split()))
    return found and SetVariable(sql=statement.text, name=found[2], value=found[1])


def _truth(node: Tree) -> bool | None:
    if not node.HasField("a_const") or node.a_const.WhichOneof("val") != "boolval":
        return None
    return node.a_const.boolval.boolval


def call(statement: Statement) -> AnyPlan:
    """CALL: pgherd's own procedures, or a user's on group 0."""
    found = statement.tree.funccall
    if strings(found.funcname)[0] == "pgherd":
        return _call(found, tag="CALL", write=True)
    return OneGroup(why="procedures run on group 0", write=True, tag="CALL", sql=statement.text, group=ZERO)


def _call(found: Tree, *, tag: str, write: bool, column: str = "") -> Call:
    args: list[Param | Const] = []
    named: list[tuple[str, Param | Const]] = []
    for node in found.args:
        if node.HasField("named_arg_expr"):
            named.append((node.named_arg_expr.name, _argument(node.named_arg_expr.arg)))
        else:
            args.append(_argument(node))
    name = strings(found.funcname)[-1]
    return Call(
        name=name, args=tuple(args), named=tuple(named), column=column, tag=tag, write=write, rows=tag == "SELECT"
    )  # fmt: skip


def _argument(node: Tree) -> Param | Const:
    truth = _truth(node)
    if truth is not None:
        return Const("true" if truth else "false")
    cast = node
    while cast.HasField("type_cast"):
        cast = cast.type_cast.arg
    value = read_value(cast)
    if value is None:
        raise Refused(
            "arguments of pgherd's procedures must be constants or parameters", hint="Write the value itself."
        )
    return value.source


# ---- prepared statements and cursors -----------------------------------------------------------------------


def _after(statement: Statement, word: str) -> tuple[str, Statement]:
    """The text up to the first `word` outside brackets, included, and the statement behind it."""
    at = next(token.end for token in tokens(statement.text) if token.word == word and token.depth == 0)
    return statement.text[:at] + " ", parse(statement.text[at:])[0]


def prepare(statement: Statement) -> Prepare:
    """PREPARE name (types) AS statement."""
    _, inner = _after(statement, "as")
    types = tuple(_type_text(node.type_name) for node in statement.tree.argtypes)
    return Prepare(name=statement.tree.name, types=types, inner=inner, tag="PREPARE", rows=False)


def _type_text(type_name: Tree) -> str:
    result = pb.ParseResult()
    cast = result.stmts.add().stmt.select_stmt.target_list.add().res_target.val.type_cast
    cast.type_name.CopyFrom(type_name)
    cast.arg.a_const.isnull = True
    return postgast.deparse(result).removeprefix("SELECT NULL::")


def expression_text(node: Tree) -> str:
    """An expression written out again."""
    result = pb.ParseResult()
    result.stmts.add().stmt.select_stmt.target_list.add().res_target.val.CopyFrom(node)
    return postgast.deparse(result).removeprefix("SELECT ")


def execute(statement: Statement) -> Execute:
    """EXECUTE name (arguments)."""
    args: list[Const | Expr] = []
    for node in statement.tree.params:
        value = read_value(node)
        plain = value is not None and isinstance(value.source, Const) and _literal(value.type)
        args.append(value.source if plain and value else Expr(expression_text(node)))  # type: ignore[arg-type]
    return Execute(name=statement.tree.name, args=tuple(args))


def _literal(kind: str) -> bool:
    return kind == UNTYPED or kind.endswith(" literal")


def deallocate(statement: Statement) -> Deallocate:
    """DEALLOCATE name | ALL."""
    return Deallocate(name=statement.tree.name or None, tag="DEALLOCATE", rows=False)


def declare(statement: Statement, plan: Plan) -> Declare:
    """DECLARE name CURSOR FOR query: the query must run in one place."""
    prefix, inner = _after(statement, "for")
    planned = plan(inner)
    if isinstance(planned, Gather):
        planned = planned.fallback
    if not isinstance(planned, Single | OneGroup | Federated):
        raise Refused(
            "a cursor cannot be declared over a statement that runs in several groups",
            hint="Leave out FOR UPDATE, or name the shard key in WHERE.",
        )
    hold = bool(statement.tree.options & _CURSOR_HOLD)
    return Declare(
        name=statement.tree.portalname, prefix=prefix, inner=planned, hold=hold, pin=hold, write=planned.write,
        tag="DECLARE", rows=False,
    )  # fmt: skip


def fetch(statement: Statement) -> Fetch:
    """FETCH and MOVE."""
    move = statement.tree.ismove
    return Fetch(
        sql=statement.text, name=statement.tree.portalname, action="move" if move else "fetch", rows=not move,
        tag="MOVE" if move else "FETCH",
    )  # fmt: skip


def close(statement: Statement) -> Fetch:
    """CLOSE name | ALL."""
    return Fetch(
        sql=statement.text, name=statement.tree.portalname or None, action="close", rows=False, tag="CLOSE"
    )


# ---- EXPLAIN -----------------------------------------------------------------------------------------------


def explain(statement: Statement, plan: Plan) -> Explain:
    """EXPLAIN: its inner statement planned, and the words to put before each part."""
    at = _explained_at(statement.text)
    inner = parse(statement.text[at:])[0]
    analyze, shape = False, "text"
    for node in statement.tree.options:
        option = node.def_elem
        word = _option_text(option)
        if option.defname == "analyze":
            analyze = word not in ("false", "off", "0")
        elif option.defname == "format":
            shape = word
    if shape not in ("text", "json", "xml", "yaml"):
        raise Refused(
            f'unrecognized value for EXPLAIN option "format": "{shape}"', hint="text, json, xml or yaml."
        )
    return Explain(
        inner=plan(inner), prefix=statement.text[:at], analyze=analyze, format=shape, tag="EXPLAIN"
    )


def _option_text(option: Tree) -> str:
    kind = option.arg.WhichOneof("node")
    if kind == "string":
        return option.arg.string.sval.lower()
    if kind == "integer":
        return str(option.arg.integer.ival)
    if kind == "boolean":
        return "true" if option.arg.boolean.boolval else "false"
    return "true"


def _explained_at(text: str) -> int:
    """Where the explained statement begins: after EXPLAIN, its bracketed options or ANALYZE and VERBOSE."""
    found = tokens(text)
    at = 1
    if found[1].kind == "open" and found[2].word not in ("select", "with", "values", "table"):
        at = (
            next(number for number, token in enumerate(found) if token.kind == "close" and token.depth == 0)
            + 1
        )
    while found[at].word in ("analyze", "analyse", "verbose"):
        at += 1
    return found[at].start
