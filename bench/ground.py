"""Real clusters and servers to measure on, started when first asked for, gone at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import asyncpg

from bench.effort import Effort
from bench.watch import Watch
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.server import Server
from pgherd.deploy.wish import Wish
from pgherd.testing.servers import Yard


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cluster of two groups and, with the same settings, a database without pgherd (`straight`).

    All servers are durable, but in a quick run.
    """

    dsn: str  # the gateway's
    nodes: tuple[str, ...]  # the groups' databases, in group order
    straight: str
    straight_port: int
    gateway_pid: int
    server_pids: tuple[int, ...]
    straight_pid: int

    @property
    def watch(self) -> Watch:
        """Servers (the one without pgherd among them) and gateway."""
        return Watch(
            {"gateway": (self.gateway_pid,), "server": tuple({*self.server_pids, self.straight_pid})}
        )


class Ground:
    """The run's places."""

    def __init__(self, effort: Effort, yard: Yard) -> None:
        self.effort = effort
        self.yard = yard

    @property
    def directory(self) -> Path:
        """A directory for files, readable by everybody."""
        return self.yard.directory

    @cached_property
    def embedded(self) -> Place:
        """One server: two databases are the groups, a third one is the straight one. Pairs differ in pgherd alone."""
        cluster = self._cluster("embedded", embedded=True)
        server = cluster.servers(cluster.existing())[0]
        server.ask("CREATE DATABASE straight")
        return self._place(cluster, server)

    @cached_property
    def grouped(self) -> Place:
        """A server for each group, and a third one with the same settings for all rows."""
        cluster = self._cluster("grouped", embedded=False)
        plain = Server(
            binaries=self.yard.binaries,
            identity=self.yard.identity,
            directory=self.directory / "straight",
            port=self.yard.port(),
            durable=self.effort.durable,
            mortal=True,
        )
        self.yard.servers.append(plain)
        plain.create(template=self.yard.template())
        plain.start()
        plain.ask("CREATE DATABASE straight")
        return self._place(cluster, plain)

    @cached_property
    def replicated(self) -> LocalCluster:
        """Two groups of two nodes each under Patroni, as `pgherd up` makes them."""
        cluster = LocalCluster(self.directory / "replicated", mortal=True)
        self.yard.clusters.append(cluster)
        cluster.up(Wish(groups=2, replicas=1, port=self.yard.port(), durable=self.effort.durable))
        return cluster

    def _cluster(self, name: str, *, embedded: bool) -> LocalCluster:
        cluster = LocalCluster(self.directory / name, mortal=True, template=self.yard.template())
        self.yard.clusters.append(cluster)
        cluster.up(
            Wish(
                embedded=embedded, groups=2, port=self.yard.port(), durable=self.effort.durable, managed=False
            )
        )
        return cluster

    def _place(self, cluster: LocalCluster, straight: Server) -> Place:
        state = cluster.existing()
        gateway = cluster.gateway.pid()
        pids = [server.pid() for server in cluster.servers(state)]
        plain = straight.pid()
        assert gateway is not None and plain is not None
        return Place(
            dsn=cluster.dsn(state),
            nodes=tuple(
                f"postgresql://postgres@{node.host}:{node.port}/{node.database}"
                for node in cluster.nodes(state)
            ),
            straight=straight.uri("straight"),
            straight_port=straight.port,
            gateway_pid=gateway,
            server_pids=tuple(pid for pid in pids if pid is not None),
            straight_pid=plain,
        )


async def connections(uri: str, count: int) -> list[asyncpg.Connection]:
    """So many connections, held."""
    return list(await asyncio.gather(*(asyncpg.connect(uri) for _ in range(count))))


async def close(connections: list[asyncpg.Connection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections))


async def fill(place: Place, ddl: tuple[str, str], table: str, source: str, path: Path) -> None:
    """Make `table` in the cluster and straight, and copy the rows of query `source` into both, through `path`."""
    straight = await asyncpg.connect(place.straight)
    cluster = await asyncpg.connect(place.dsn)
    try:
        await cluster.execute(ddl[0])
        await straight.execute(ddl[1])
        await straight.copy_from_query(source, output=str(path))
        for connection in (straight, cluster):
            await connection.copy_to_table(table, source=str(path))
    finally:
        await close([straight, cluster])


async def settle(place: Place) -> None:
    """Statistics, hint bits and a checkpoint everywhere: no turn pays for what was done before it."""
    for uri in (*place.nodes, place.straight):
        connection = await asyncpg.connect(uri)
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
        await connection.close()


async def shard_tables(uri: str, table: str) -> list[str]:
    """The shard tables of `table` that one group holds, qualified."""
    connection = await asyncpg.connect(uri)
    try:
        rows = await connection.fetch(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            r"WHERE c.relname = $1 AND c.relkind = 'r' AND n.nspname ~ '^shard_\d+$' ORDER BY n.nspname",
            table,
        )
        return [f"{row[0]}.{table}" for row in rows]
    finally:
        await connection.close()
