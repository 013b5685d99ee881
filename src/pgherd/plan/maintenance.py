"""Statements about whole tables or whole servers: TRUNCATE, VACUUM, LOCK, CREATE TABLE AS, LISTEN and the like."""

from __future__ import annotations

from collections.abc import Iterable

import postgast
import postgast.pg_query_pb2 as pb

from pgherd.catalog.bodies import distributed_in
from pgherd.catalog.model import ClusterMap, GroupId, Table, physical_schema
from pgherd.errors import Refused
from pgherd.plan import physical
from pgherd.plan.context import ZERO
from pgherd.plan.plans import AnyPlan, Ddl, OnAll, OneGroup
from pgherd.plan.reader import read_tree
from pgherd.plan.scope import Scope
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import quote
from pgherd.sql.statement import Statement
from pgherd.sql.tree import Tree, strings

Path = tuple[str, ...]
_LOCK_MODES = (
    "",
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)


def _name(schema: str, name: str) -> str:
    return f"{quote(schema)}.{quote(name)}"


def _written(var: Tree) -> str:
    return _name(var.schemaname, var.relname) if var.schemaname else quote(var.relname)


def _places(table: Table, cluster: ClusterMap, *, template: bool = False) -> dict[GroupId, list[str]]:
    """The names under which the table's rows lie in each group; with `template`, its own name in each as well."""
    own = _name(table.schema, table.name)
    if table.kind == "distributed":
        found: dict[GroupId, list[str]] = {group: [own] for group in cluster.groups} if template else {}
        for shard in cluster.keyspace_of(table).shards:
            name = _name(physical_schema(f"shard_{shard.id}", table.schema), table.name)
            found.setdefault(shard.group, []).append(name)
        return found
    if table.kind == "reference" or (table.kind == "view" and table.on_all):
        return {group: [own] for group in cluster.groups}
    return {ZERO: [own]}


def _by_group(
    variables: Iterable[tuple[Tree, str]], cluster: ClusterMap, path: Path, *, template: bool = False
) -> dict[GroupId, list[str]]:
    """For each group the names to put into its statement; each of `variables` comes with what follows the name."""
    found: dict[GroupId, list[str]] = {}
    for var, suffix in variables:
        table = cluster.find(var.relname, var.schemaname or None, path)
        places = {ZERO: [_written(var)]} if table is None else _places(table, cluster, template=template)
        for group, names in places.items():
            found.setdefault(group, []).extend(name + suffix for name in names)
    return dict(sorted(found.items()))


def truncate(statement: Statement, cluster: ClusterMap, path: Path) -> OnAll:
    """TRUNCATE: the parts of each table, in every group that has any."""
    tree = statement.tree
    options = " RESTART IDENTITY" if tree.restart_seqs else ""
    options += " CASCADE" if tree.behavior == pb.DROP_CASCADE else ""
    names = _by_group([(node.range_var, "") for node in tree.relations], cluster, path)
    sql = tuple((group, f"TRUNCATE {', '.join(found)}{options}") for group, found in names.items())
    found = (cluster.find(n.range_var.relname, n.range_var.schemaname or None, path) for n in tree.relations)
    return OnAll(
        why="every part of the tables is emptied", write=True, rows=False, tag="TRUNCATE", sql=sql,
        references=tuple(table for table in found if table is not None and table.kind == "reference"),
    )  # fmt: skip


def vacuum(statement: Statement, cluster: ClusterMap, path: Path) -> OnAll:
    """VACUUM and ANALYZE: the parts of each table; without tables, every group's whole database."""
    tree = statement.tree
    tag = "VACUUM" if tree.is_vacuumcmd else "ANALYZE"
    relations = [node.vacuum_relation for node in tree.rels]
    if relations:
        first = relations[0].relation.location
        prefix = statement.text.encode()[:first].decode()
        variables = [(one.relation, _columns(one)) for one in relations]
        names = _by_group(variables, cluster, path)
        sql = tuple((group, prefix + ", ".join(found)) for group, found in names.items())
    else:
        sql = tuple((group, statement.text) for group in sorted(cluster.groups))
    return OnAll(
        why="the parts of the tables, where they lie", write=True, rows=False, tag=tag, sql=sql,
        # whole databases one by one: groups on one server share catalogs, and would wait for each other's locks on them
        in_transaction=not tree.is_vacuumcmd and bool(relations),
    )  # fmt: skip


def _columns(relation: Tree) -> str:
    names = strings(relation.va_cols)
    return f" ({', '.join(map(quote, names))})" if names else ""


def lock(statement: Statement, cluster: ClusterMap, path: Path) -> OnAll:
    """LOCK TABLE: template and parts, in every group."""
    tree = statement.tree
    names = _by_group([(node.range_var, "") for node in tree.relations], cluster, path, template=True)
    mode = f" IN {_LOCK_MODES[tree.mode]} MODE" + (" NOWAIT" if tree.nowait else "")
    sql = tuple((group, f"LOCK TABLE {', '.join(found)}{mode}") for group, found in names.items())
    return OnAll(why="every part of the tables is locked", write=True, rows=False, tag="LOCK", sql=sql)


def everywhere(statement: Statement, cluster: ClusterMap, path: Path) -> AnyPlan:
    """CHECKPOINT in every group; SET CONSTRAINTS ALL in every group, by name where single tables are."""
    tag = "CHECKPOINT" if statement.kind == "check_point_stmt" else "SET"
    if statement.kind == "constraints_set_stmt" and statement.tree.constraints:
        return OneGroup(why="named constraints: group 0", rows=False, tag=tag, sql=statement.text, group=ZERO)
    sql = tuple((group, statement.text) for group in sorted(cluster.groups))
    return OnAll(why="the same in every group", rows=False, tag=tag, sql=sql)


# ---- tables from queries -------------------------------------------------------------------------------------


def create_table_as(statement: Statement, cluster: ClusterMap, path: Path) -> AnyPlan:
    """CREATE TABLE AS, CREATE MATERIALIZED VIEW, SELECT INTO: a single table, filled on group 0 from whole tables."""
    statement = _as_create(statement)
    tree = statement.tree
    kind = tree.query.WhichOneof("node")
    scope = Scope() if kind == "execute_stmt" else read_tree(kind, getattr(tree.query, kind), cluster, path)
    sql = physical.global_text(statement.text, scope, ZERO)
    target = tree.into.rel
    if target.relpersistence == "t" or target.schemaname == "pg_temp":
        return OneGroup(
            why="temporary: on the session's own connection to group 0", write=True, pin=True, rows=False, tag="SELECT",
            sql=sql, group=ZERO, reads=_reads(scope, cluster), epoch=cluster.epoch,
        )  # fmt: skip
    changed = statement if sql == statement.text else parse(sql)[0]
    return Ddl(why="a new single table on group 0", write=True, rows=False, tag="SELECT", statement=changed)


def _reads(scope: Scope, cluster: ClusterMap) -> tuple[GroupId, ...]:
    whole = any(
        one.table is not None and (one.kind == "distributed" or one.table.distributed_view)
        for one in scope.relations
    )
    return tuple(sorted(cluster.groups)) if whole else ()


def _as_create(statement: Statement) -> Statement:
    """SELECT ... INTO t as CREATE TABLE t AS SELECT ..."""
    if statement.kind != "select_stmt":
        return statement
    result = pb.ParseResult()
    create = result.stmts.add().stmt.create_table_as_stmt
    create.query.select_stmt.CopyFrom(statement.tree)
    create.into.CopyFrom(statement.tree.into_clause)
    create.query.select_stmt.ClearField("into_clause")
    create.objtype = pb.OBJECT_TABLE
    return parse(postgast.deparse(result))[0]


def refresh(statement: Statement, cluster: ClusterMap, path: Path) -> OneGroup:
    """REFRESH MATERIALIZED VIEW: it lives on group 0, and its query reads whole tables."""
    return OneGroup(
        why="materialized views live on group 0", write=True, rows=False, tag="REFRESH", sql=statement.text, group=ZERO,
        reads=tuple(sorted(cluster.groups)), epoch=cluster.epoch,
    )  # fmt: skip


# ---- group 0 -------------------------------------------------------------------------------------------------


def listen(statement: Statement, cluster: ClusterMap, path: Path) -> OneGroup:
    """LISTEN, UNLISTEN, NOTIFY: all on group 0, so that all meet."""
    tag = statement.kind.removesuffix("_stmt").upper()
    return OneGroup(
        why="notifications meet on group 0", rows=False, tag=tag, sql=statement.text, group=ZERO, pin=tag == "LISTEN",
        write=tag == "NOTIFY",
    )  # fmt: skip


def do_block(statement: Statement, cluster: ClusterMap, path: Path) -> OneGroup:
    """DO: on group 0; the tables that it names are group 0's."""
    table = distributed_in(statement.text, cluster)
    if table is not None:
        raise Refused(
            f'a DO block cannot use the distributed table "{table.name}"',
            hint="It runs inside group 0, which holds only a part of the table. Run its statements one by one.",
        )
    return OneGroup(
        why="code blocks run on group 0", write=True, rows=False, tag="DO", sql=statement.text, group=ZERO
    )
