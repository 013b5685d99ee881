"""Putting the catalog into the groups' databases, and telling it where the nodes are."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog import store
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy import binaries
from pgherd.deploy.binaries import Binaries
from pgherd.errors import DeployError, GroupDown

CONNECT_S = 10.0
LOCK_WAIT_MS = 30_000


def install(nodes: Sequence[Node], *, password: str | None = None, managed: Collection[GroupId] = ()) -> None:
    """Install the catalog in all groups and register `nodes`, all nodes of the cluster; again is fine.

    `managed`: the groups whose primary Patroni chooses; each of their nodes needs a name. Raises GroupDown if a group has no primary.
    """
    asyncio.run(_install(nodes, Credentials(user="postgres", password=password), managed))


async def _install(nodes: Sequence[Node], credentials: Credentials, managed: Collection[GroupId]) -> None:
    links: list[ServerLink] = []
    try:
        for group in sorted({node.group for node in nodes}):
            links.append(await primary(nodes, group, credentials))  # noqa: PERF401 (those made so far are closed)
        await store.install(links)
        await catalog_nodes.register(catalog_nodes.Held(links), nodes, managed=managed)
    finally:
        for link in links:
            link.close()


async def primary(nodes: Sequence[Node], group: GroupId, credentials: Credentials) -> ServerLink:
    """A connection to the primary of a group, found among its nodes. Raises GroupDown if none of them is it."""
    problem: GroupDown | None = None
    for node in nodes:
        if node.group != group:
            continue
        try:
            link = await as_primary(node, credentials, timeout=CONNECT_S)
        except GroupDown as error:
            problem = error
            continue
        if link is not None:
            return link
    raise problem or GroupDown(f"no node of group {group} is its primary", hint="See pgherd status.")


async def as_primary(
    node: Node, credentials: Credentials, *, timeout: float, tls: ssl.SSLContext | None = None
) -> ServerLink | None:
    """A connection to a node; None if it is a standby. Raises GroupDown."""
    link = await connect(node, credentials, timeout=timeout, tls=tls)
    try:
        if (await link.run("SELECT pg_catalog.pg_is_in_recovery()"))[0][0] == "f":
            return link
    except BaseException:
        link.close()
        raise
    link.close()
    return None


class Programs:
    """A `catalog.growth.Dump` by PostgreSQL's own pg_dump and pg_dumpall. `where` answers a group's primary, as a node.

    `environment`: what libpq is told beside that (PGSSLMODE, PGSSLROOTCERT, ...).
    """

    def __init__(
        self,
        where: Callable[[GroupId], Awaitable[Node]],
        *,
        user: str = "postgres",
        password: str | None = None,
        environment: Mapping[str, str] | None = None,
        programs: Binaries | None = None,
    ) -> None:
        self._where = where
        self._environment = {"PGUSER": user, "PGCONNECT_TIMEOUT": "10", **(environment or {})}
        if password is not None:
            self._environment["PGPASSWORD"] = password
        self._programs = programs or binaries.find()

    async def schema(self, group: GroupId, *, but_schemas: Sequence[str], but_tables: Sequence[str]) -> str:
        """See `growth.Dump`."""
        words = ["--schema-only", "--no-publications", "--no-subscriptions", "--no-security-labels"]
        words += [f"--lock-wait-timeout={LOCK_WAIT_MS}"]
        words += [f"--exclude-schema={pattern}" for pattern in but_schemas]
        words += [f"--exclude-table={pattern}" for pattern in but_tables]
        return await self._run("pg_dump", group, words)

    async def roles(self, group: GroupId) -> str:
        """See `growth.Dump`."""
        return await self._run("pg_dumpall", group, ["--roles-only"])

    async def _run(self, program: str, group: GroupId, words: Sequence[str]) -> str:
        node = await self._where(group)
        place = {"PGHOST": node.host, "PGPORT": str(node.port), "PGDATABASE": node.database}
        process = await asyncio.create_subprocess_exec(
            self._programs.path(program), *words, env={**os.environ, **self._environment, **place},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            output, said = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            reason = said.decode("utf-8", "replace").strip() or "no reason given"
            raise DeployError(f"{program} of group {group} failed: {reason}")
        return output.decode()
