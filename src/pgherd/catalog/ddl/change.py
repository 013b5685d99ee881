"""One definition on its way through the cluster: the statement, the map it changes, and the branches it runs on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import postgast

from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId, Table
from pgherd.catalog.text import call, identifier, literal, qualified
from pgherd.engine.link import Link, Row, Workspace
from pgherd.errors import GroupsChanged, ReservedName
from pgherd.sql.statement import Statement

HOME = GroupId(0)
_RESERVED = ("shard_", "global", "here", "pgherd")


@dataclass(slots=True)
class Change:
    """`cluster` is the map as the transaction sees it, locked against other changes. `path`: the schemas that unqualified names mean."""

    work: Workspace
    cluster: ClusterMap
    path: tuple[str, ...]
    statement: Statement | None
    home: Link
    next_shard: int
    next_keyspace: int
    locked: set[GroupId] = field(default_factory=lambda: {HOME})

    @property
    def tree(self) -> Any:
        assert self.statement is not None, "an admin procedure has no statement"
        return self.statement.tree

    @property
    def text(self) -> str:
        """The user's own text."""
        assert self.statement is not None, "an admin procedure has no statement"
        return self.statement.text

    @property
    def others(self) -> tuple[GroupId, ...]:
        return tuple(group for group in self.work.groups if group != HOME)

    def find(self, relation: Any) -> Table | None:
        """The table of the map that a RangeVar means."""
        return self.cluster.find(relation.relname, relation.schemaname or None, self.path)

    async def run_home(self, *texts: str) -> list[Row]:
        """Run the texts on group 0, the user's own first (so that error positions are right); the last one's rows."""
        return await self.home.run("\n;\n".join(texts))

    async def branch(self, group: GroupId) -> Link:
        """The branch in a group. The first touch waits until the change before this one has been committed there as well: its
        second phase may still be under way when group 0 lets go of the map."""
        link = await self.work.branch(group)
        if group not in self.locked:
            await link.run("SELECT pgherd.lock_cluster()")
            self.locked.add(group)
        return link

    async def run(self, groups: Iterable[GroupId], text: str | Callable[[GroupId], str]) -> None:
        """Run a text in several groups side by side. Group 0 first and alone, if it is among them."""
        wanted = sorted(set(groups))
        if wanted and wanted[0] == HOME:
            await self.home.run(text if isinstance(text, str) else text(HOME))
            wanted = wanted[1:]
        links = [await self.branch(group) for group in wanted]
        runs = [link.run(text if isinstance(text, str) else text(link.group)) for link in links]
        for result in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def everywhere(self, *texts: str) -> None:
        """Run the texts in every group."""
        await self.run(self.work.groups, "\n;\n".join(texts))

    async def elsewhere(self, *texts: str) -> None:
        """Run the texts in every group but 0."""
        await self.run(self.others, "\n;\n".join(texts))

    def new_epoch(self) -> str:
        """The text that ends a change of the map; run it in every group."""
        return call("set_epoch", str(self.cluster.epoch + 1))

    async def inspect(self, *before: str, name: str) -> dict[str, Any]:
        """Run `before` on group 0, then tell what the relation `name` (as SQL text) is. Empty if there is none."""
        rows = await self.run_home(*before, f"SELECT pgherd.inspect(to_regclass({literal(name)}))")
        return json.loads(rows[0][0]) if rows and rows[0][0] else {}


async def begin(
    work: Workspace,
    statement: Statement | None,
    cluster: ClusterMap,
    path: tuple[str, ...],
    *,
    all_groups: bool = True,
) -> Change:
    """Lock the cluster map on group 0; if `cluster` is an older one, read it again.

    Raises GroupsChanged, with nothing done, if `work` does not cover the groups that there are now; `all_groups` False: it need not.
    """
    home = await work.branch(HOME)
    rows = await home.run(
        "SELECT epoch, next_shard, next_keyspace, pg_catalog.set_config('pgherd.defining', 'on', true) FROM pgherd.lock_cluster()"
    )
    epoch, next_shard, next_keyspace = (int(value or 0) for value in rows[0][:3])
    if epoch != cluster.epoch:
        cluster = await store.load(home)
        if all_groups and tuple(sorted(cluster.groups)) != work.groups:
            raise GroupsChanged("groups were added or removed", hint="Try again.")
    return Change(
        work=work, cluster=cluster, path=path, statement=statement, home=home,
        next_shard=next_shard, next_keyspace=next_keyspace,
    )  # fmt: skip


def name_of(relation: Any) -> str:
    """A RangeVar as SQL text."""
    return (
        qualified(relation.schemaname, relation.relname)
        if relation.schemaname
        else identifier(relation.relname)
    )


def table_name(table: Table) -> tuple[str, str]:
    """Schema and name as two SQL literals."""
    return literal(table.schema), literal(table.name)


def check_schema_name(name: str) -> None:
    """Raises ReservedName for a schema that pgherd could need itself."""
    if name in _RESERVED or name.startswith(("shard_", "global_", "here_", "pgherd_")):
        raise ReservedName(
            f'unacceptable schema name "{name}"',
            detail="pgherd keeps names that begin with shard_, global, here and pgherd for its own schemas.",
            hint="Choose another name.",
        )


def written(kind: str, tree: Any) -> str:
    """The SQL text of a (changed) tree."""
    node = postgast.pg_query_pb2.Node()
    getattr(node, kind).CopyFrom(tree)
    result = postgast.pg_query_pb2.ParseResult(version=180004)
    result.stmts.add().stmt.CopyFrom(node)
    return postgast.deparse(result)


def copy_of(tree: Any) -> Any:
    """A copy of a tree, to change."""
    copy = tree.__class__()
    copy.CopyFrom(tree)
    return copy


def dumps(value: Any) -> str:
    """A value as a jsonb literal."""
    return literal(json.dumps(value)) + "::jsonb"


def names(nodes: Sequence[Any]) -> tuple[str, ...]:
    """The texts of String nodes."""
    return tuple(node.string.sval for node in nodes if node.HasField("string"))
