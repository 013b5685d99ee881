"""Bringing an empty group into a running cluster: its database, then the catalog's part, with nobody noticing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from pgherd.backend.connection import ServerLink
from pgherd.catalog import growth
from pgherd.catalog.model import GroupId, Node
from pgherd.catalog.text import literal
from pgherd.deploy import binaries, members, patroni
from pgherd.deploy.catalog import Programs
from pgherd.deploy.members import HOME, Primaries, Report, group_of, node_of
from pgherd.deploy.node_config import NodeConfig
from pgherd.engine.link import Link
from pgherd.errors import DeployError
from pgherd.transaction import recovery

POLL_S = 0.3


class Servers(Protocol):
    """Lends connections to the primary of a group (`transaction.perform.Lender`), in any database of its server."""

    async def lend(self, group: GroupId) -> Link: ...

    def give_back(self, link: Link, *, reusable: bool) -> None: ...

    async def lend_in(self, group: GroupId, database: str) -> ServerLink: ...


async def join(
    servers: Servers, nodes: Sequence[Node], dump: Programs, *, managed: bool, report: Report
) -> bool:
    """Let the servers of `nodes`, all of one group, be a new group; False if it belongs to the cluster already.

    Makes the group's database, and makes it anew if an interrupted attempt left it. Raises DeployError.
    """
    group, database = nodes[0].group, nodes[0].database
    if await recovery.ask(servers, HOME, f"SELECT 1 FROM pgherd.nodes WHERE group_id = {group}"):
        return False
    expected = await growth.next_group(servers)
    if group != expected:
        raise DeployError(
            f"the next group's number is {expected}, not {group}",
            hint="Groups are numbered without gaps, and numbers of removed groups are not given again.",
        )
    report(f"preparing the database of group {group}")
    await _share_verifier(servers, group)
    await _make_empty_database(servers, group, database)
    return await growth.add_group(servers, nodes, dump=dump, managed=managed, report=report)


async def _share_verifier(servers: Servers, group: GroupId) -> None:
    """Give the new server's superuser the SCRAM verifier that the others know: its logins are passed on to them."""
    rows = await recovery.ask(
        servers,
        HOME,
        f"SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = '{patroni.SUPERUSER}' AND rolpassword IS NOT NULL",
    )
    if rows:
        link = await servers.lend_in(group, "postgres")
        try:
            await link.run(f"ALTER ROLE {patroni.SUPERUSER} PASSWORD {literal(rows[0][0] or '')}")
        finally:
            link.close()


async def _make_empty_database(servers: Servers, group: GroupId, database: str) -> None:
    cluster_id = str((await recovery.ask(servers, HOME, "SELECT id FROM pgherd.cluster"))[0][0])
    link = await servers.lend_in(group, "postgres")
    try:
        exists = await link.run(f"SELECT 1 FROM pg_catalog.pg_database WHERE datname = {literal(database)}")
        if exists and await _is_leftover(servers, group, database, cluster_id):
            await link.run(f'DROP DATABASE "{database}" WITH (FORCE)')
            exists = []
        if not exists:
            await link.run(f'CREATE DATABASE "{database}"')
    finally:
        link.close()


async def _is_leftover(servers: Servers, group: GroupId, database: str, cluster_id: str) -> bool:
    link = await servers.lend_in(group, database)
    try:
        return await growth.is_leftover(link, cluster_id)
    finally:
        link.close()


# ---- several machines --------------------------------------------------------------------------------


async def adopt(config: NodeConfig, *, within_s: float, report: Report) -> list[GroupId]:
    """Bring the groups that etcd knows and the catalog does not into the cluster; answers which.

    Waits until they have a primary. Raises DeployError if there is none, EtcdDown, GroupDown.
    """
    lender = Primaries(config)
    cluster = await members.catalog_map(config)
    if cluster is None:
        raise DeployError("the cluster has no catalog yet", hint="Make it first: pgherd init --config FILE.")
    report("looking for new groups")
    found = await _new_groups(lender, set(cluster.groups), within_s)
    dump = programs(config, lender)
    for group, nodes in sorted(found.items()):
        await join(lender, nodes, dump, managed=True, report=report)
        await asyncio.to_thread(members.settle_synchronous, config, group, len(nodes))
    return sorted(found)


def programs(config: NodeConfig, lender: Primaries) -> Programs:
    """pg_dump and pg_dumpall, told how the servers of this cluster are talked to."""

    async def where(group: GroupId) -> Node:
        return node_of(await lender.primary(group))

    secure = {"PGSSLMODE": "require"} if config.tls_cert is not None else {}
    return Programs(
        where,
        user=patroni.SUPERUSER,
        password=config.superuser_password,
        environment={**secure, **patroni.environment(config)},
        programs=binaries.find(config.pg_bin),
    )


async def _new_groups(lender: Primaries, known: set[GroupId], within_s: float) -> dict[GroupId, list[Node]]:
    """The announced nodes of unknown groups, as soon as all of these have a primary."""
    deadline = time.monotonic() + within_s
    while True:
        announced = await asyncio.to_thread(lender.announced)
        new = [member for member in announced if group_of(member) not in known]
        led = {group_of(member) for member in new if member.leader}
        found = {group: [node_of(member) for member in new if group_of(member) == group] for group in led}
        if found and led == {group_of(member) for member in new}:
            return found
        if time.monotonic() > deadline:
            raise DeployError(
                f"group {new[0].group} has no primary"
                if new
                else "no group runs that the cluster does not know",
                hint="Start the new group's nodes first: pgherd node --config FILE, with the next group's number.",
            )
        await asyncio.sleep(POLL_S)
