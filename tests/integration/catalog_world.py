"""A cluster of bare groups, and definitions carried out on it as a session would: one distributed transaction each."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import admin, ddl, store
from pgherd.catalog.model import ClusterMap, GroupId, Node, Shard
from pgherd.engine.link import Link, Row
from pgherd.plan.plans import Ddl
from pgherd.sql.parse import parse

T = TypeVar("T")


def run(job: Coroutine[Any, Any, T], bound_s: float = 60) -> T:
    """Run a test's coroutine, bounded."""
    return asyncio.run(asyncio.wait_for(job, bound_s))


class Space:
    """A distributed transaction over all links, with plain two-phase commit."""

    def __init__(self, links: Sequence[ServerLink]) -> None:
        self.links = links
        self.opened: list[GroupId] = []
        self.notices: list[str] = []
        self.done: list[tuple[str, int, int]] = []

    @property
    def groups(self) -> tuple[GroupId, ...]:
        return tuple(GroupId(number) for number in range(len(self.links)))

    async def branch(self, group: GroupId, *, write: bool = True) -> Link:
        if group not in self.opened:
            self.opened.append(group)
            await self.links[group].run("BEGIN")
        return self.links[group]

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def progress(self, what: str, done: int, total: int) -> None:
        self.done.append((what, done, total))

    async def commit(self) -> None:
        home, *others = self.opened
        names = {group: f"catalog_{id(self)}_{group}" for group in others}
        for group in others:
            await self.links[group].run(f"PREPARE TRANSACTION '{names[group]}'")
        await self.links[home].run("COMMIT")
        for group in others:
            await self.links[group].run(f"COMMIT PREPARED '{names[group]}'")

    async def rollback(self) -> None:
        for group in self.opened:
            await self.links[group].run("ROLLBACK")


class World:
    """`links[g]` is a superuser's connection to group g."""

    def __init__(self, nodes: Sequence[Node], links: Sequence[ServerLink]) -> None:
        self.nodes = nodes
        self.links = links
        self.notices: list[str] = []

    @classmethod
    async def open(cls, nodes: Sequence[Node], *, user: str = "postgres") -> World:
        return cls(nodes, [await connect(node, Credentials(user=user), timeout=10) for node in nodes])

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self.links:
            link.close()

    async def map(self) -> ClusterMap:
        return await store.load(self.links[0])

    async def shards(self, table: str) -> tuple[Shard, ...]:
        """The shards of a distributed table in schema public."""
        cluster = await self.map()
        return cluster.keyspace_of(cluster.tables["public", table]).shards

    async def do(
        self, sql: str, *, stale: ClusterMap | None = None, path: tuple[str, ...] = ("public",)
    ) -> str:
        """Carry out definitions, each in a transaction of its own; the last one's tag."""
        tag = ""
        for statement in parse(sql):
            cluster = stale or await self.map()
            tag = await self._in_transaction(
                lambda space, s=statement, c=cluster: ddl.apply(space, Ddl(statement=s), c, path)
            )
        return tag

    async def call(self, procedure: str, *args: str | None, **named: str | None) -> str:
        """CALL pgherd.<procedure>."""
        cluster = await self.map()
        return await self._in_transaction(lambda space: admin.call(space, procedure, args, named, cluster))

    async def _in_transaction(self, job: Any) -> str:
        space = Space(self.links)
        try:
            tag = await job(space)
            await space.commit()
        except BaseException:
            await space.rollback()
            raise
        self.notices = space.notices
        return tag

    async def rows(self, group: int, sql: str) -> list[Row]:
        return await self.links[group].run(sql)

    async def everywhere(self, sql: str) -> list[list[Row]]:
        return [await link.run(sql) for link in self.links]

    async def one(self, group: int, sql: str) -> str | None:
        return (await self.rows(group, sql))[0][0]
