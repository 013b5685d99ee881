"""COPY: into a table, divided by key; out of a table or a query, one arm after another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

from pgherd.catalog.model import ClusterMap, GroupId, Table
from pgherd.errors import PgherdError, Refused
from pgherd.plan import physical
from pgherd.plan.context import ZERO
from pgherd.plan.plans import AnyPlan, CopyIn, CopyOut, Federated, Gather, OneGroup, Single, Text
from pgherd.plan.prune import constant_key, groups_of
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import HOLE, quote
from pgherd.sql.statement import Statement
from pgherd.sql.tokens import tokens
from pgherd.sql.tree import Tree, strings

Path = tuple[str, ...]
Plan = Callable[[Statement], AnyPlan]


class UndefinedColumn(PgherdError):
    """COPY names a column that the table does not have."""

    sqlstate = "42703"


def plan_copy(statement: Statement, cluster: ClusterMap, path: Path, plan: Plan) -> AnyPlan:
    """COPY in either direction. Files and programs on the server are group 0's."""
    tree = statement.tree
    table = (
        cluster.find(tree.relation.relname, tree.relation.schemaname or None, path)
        if tree.relation.relname
        else None
    )
    if tree.filename or tree.is_program:
        if table is not None and table.kind in ("single", "view"):
            return OneGroup(
                why="files of group 0's server",
                write=True,
                rows=False,
                tag="COPY",
                sql=statement.text,
                group=ZERO,
            )
        raise Refused(
            "COPY with a file on the server is not available here",
            hint="Use STDIN or STDOUT, or psql's \\copy.",
        )
    if tree.HasField("query"):
        return _out_of_query(statement, cluster, plan)
    if table is None:
        unknown = (tree.relation.relname,)
        return OneGroup(
            why="not a table of the map: group 0", write=tree.is_from, rows=False, tag="COPY", sql=statement.text,
            group=ZERO, unknown=unknown,
        )  # fmt: skip
    return _into(statement, table) if tree.is_from else _out_of(statement, table, cluster)


def _options(tree: Tree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in tree.options:
        option = node.def_elem
        kind = option.arg.WhichOneof("node")
        if kind == "string":
            found[option.defname] = option.arg.string.sval
        elif kind == "boolean":
            found[option.defname] = "true" if option.arg.boolean.boolval else "false"
        elif kind == "integer":
            found[option.defname] = str(option.arg.integer.ival)
        else:
            found[option.defname] = "true"
    return found


def _on(word: str | None) -> bool:
    return word is not None and word.lower() in ("true", "on", "1", "match")


def _format(options: dict[str, Any]) -> Literal["text", "csv", "binary"]:
    match options.get("format", "text"):
        case "text":
            return "text"
        case "csv":
            return "csv"
        case "binary":
            return "binary"
        case other:
            raise Refused(f'COPY format "{other}" not recognized', hint="text, csv or binary.")


def _columns(tree: Tree, table: Table) -> tuple[str, ...]:
    names = strings(tree.attlist)
    for name in names:
        if table.column(name) is None:
            raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
    return names or tuple(column.name for column in table.columns if not column.generated)


def _after_direction(statement: Statement, words: tuple[str, str]) -> str:
    """The text behind STDIN or STDOUT: WITH (options) and WHERE."""
    found = tokens(statement.text)
    for token, following in pairwise(found):
        if token.depth == 0 and token.word in ("from", "to") and following.word in words:
            return statement.text[following.end :].strip()
    return ""


# They change which rows there are, or what a key's field means, after the rows were divided.
_NOT_DIVIDED = (
    "encoding",
    "force_null",
    "force_not_null",
    "default",
    "on_error",
    "reject_limit",
    "log_verbosity",
)
_PLAIN = (("encoding", "utf8"), ("encoding", "utf-8"), ("on_error", "stop"))


def _into(statement: Statement, table: Table) -> CopyIn:
    tree = statement.tree
    options = _options(tree)
    wrong = [name for name in _NOT_DIVIDED if name in options and (name, options[name].lower()) not in _PLAIN]
    if wrong and table.kind == "distributed":
        raise Refused(
            f"COPY into a distributed table cannot use the option {wrong[0].upper()}",
            hint="Bring the data into UTF-8 CSV or text without it, or copy into a single table and INSERT ... SELECT.",
        )
    shape = _format(options)
    tail = _after_direction(statement, ("stdin", "stdout"))
    if shape == "binary" and "binary" not in tail.lower():  # COPY BINARY t FROM STDIN
        tail = f"WITH (FORMAT binary) {tail}".rstrip()
    columns = _columns(tree, table)
    names = ", ".join(map(quote, columns))
    space = HOLE if table.kind == "distributed" else None
    schema = quote(table.schema) if space is None else physical.quoted_schema(space, table.schema)
    head = f"COPY {schema}.{quote(table.name)} ({names}) FROM STDIN"
    csv = shape == "csv"
    return CopyIn(
        why="its rows are divided by shard key" if space else "one stream", write=True, rows=False, tag="COPY",
        table=table, columns=columns, head=Text(pieces=tuple(head.split(HOLE))),
        options=tail, format=shape, header=_on(options.get("header")),
        delimiter=options.get("delimiter", "," if csv else "\t"), null=options.get("null", "" if csv else "\\N"),
        quote=options.get("quote", '"'), escape=options.get("escape", options.get("quote", '"')),
    )  # fmt: skip


def _out_of(statement: Statement, table: Table, cluster: ClusterMap) -> CopyOut:
    tree = statement.tree
    options = _options(tree)
    tail = _after_direction(statement, ("stdout", "stdin"))
    if table.kind == "distributed":
        names = ", ".join(map(quote, _columns(tree, table)))
        here = physical.quoted_schema("here", table.schema)
        sql = f"COPY (SELECT {names} FROM {here}.{quote(table.name)} WHERE pgherd.at_epoch({cluster.epoch})) TO STDOUT"
        groups = groups_of(cluster.keyspace_of(table).shards)
        arms = tuple((group, f"{sql} {tail}".rstrip()) for group in groups)
        why = "each group sends the rows of its own shards"
    else:
        arms, why = ((ZERO, statement.text),), "the table lies whole on group 0"
    return _copy_out(arms, options, why)


def _copy_out(
    arms: tuple[tuple[GroupId, str], ...], options: dict[str, Any], why: str, *, write: bool = False
) -> CopyOut:
    return CopyOut(
        why=why, rows=False, tag="COPY", arms=arms, header=_on(options.get("header")), write=write,
        binary=_format(options) == "binary",
    )  # fmt: skip


def _out_of_query(statement: Statement, cluster: ClusterMap, plan: Plan) -> AnyPlan:
    found = tokens(statement.text)
    start = next(token for token in found if token.kind == "open")
    end = next(
        token
        for token in found
        if token.kind == "close" and token.depth == start.depth and token.start > start.start
    )
    inner = plan(parse(statement.text[start.end : end.start])[0])
    tail = statement.text[end.end :]
    options = _options(statement.tree)
    match inner:
        case Gather() if inner.combine is None:
            arms = tuple((group, f"COPY ({inner.arm_on(group)}){tail}") for group in inner.groups)
        case Gather():
            arms = ((inner.fallback.groups[0], f"COPY ({inner.fallback.sql}){tail}"),)
        case Federated():
            arms = ((inner.groups[0], f"COPY ({inner.sql}){tail}"),)
        case OneGroup():
            arms = ((inner.group or ZERO, f"COPY ({inner.sql}){tail}"),)
        case Single():
            keyspace = cluster.keyspaces[inner.keyspace]
            shard = keyspace.locate(constant_key(inner.key, keyspace)) or keyspace.shards[0]
            arms = ((shard.group, f"COPY ({inner.text.for_shard(shard.id)}){tail}"),)
        case _:
            raise Refused(
                "COPY of a writing query over distributed tables is not available",
                hint="Run the query itself with RETURNING.",
            )
    return _copy_out(arms, options, inner.why, write=inner.write)
