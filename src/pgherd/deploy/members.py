"""A cluster over several machines, seen from any of them: who is there (etcd), who is primary, what the catalog knows.

Everything a command needs lies in the settings of one node: etcd's addresses, passwords, certificates.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from pgherd.backend.connection import Credentials, ServerLink
from pgherd.backend.etcd import Etcd, EtcdAddress, Member, members
from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.catalog.text import literal
from pgherd.deploy import patroni, patroni_api
from pgherd.deploy.catalog import as_primary
from pgherd.deploy.node_config import NodeConfig, address
from pgherd.engine.link import Link
from pgherd.errors import DeployError, EtcdDown, GroupDown
from pgherd.gateway.tls import client_context

CONNECT_S = 5.0
HOME = GroupId(0)
POLL_S = 0.3
INSTALL_S = 120.0  # a group that shall not write alone waits for its standby

Report = Callable[[str], None]


def etcd_of(config: NodeConfig) -> Etcd:
    """A client of the etcd that a node's settings name."""
    where = EtcdAddress(
        hosts=config.etcd,
        ca=config.etcd_ca,
        cert=config.etcd_cert,
        key=config.etcd_key,
        user=config.etcd_user,
        password=config.etcd_password,
    )
    return Etcd(where)


def node_of(member: Member) -> Node:
    """An announced node as the catalog names it; its id means nothing."""
    return Node(
        id=0,
        group=GroupId(member.group),
        host=member.host,
        port=member.port,
        database=member.database,
        region=member.region,
        zone=member.zone,
        name=member.name,
    )


class Primaries:
    """A `transaction.perform.Lender` of new connections to the groups' primaries, as etcd names them at each time."""

    def __init__(self, config: NodeConfig, database: str | None = None) -> None:
        self._config = config
        self._database = database
        self._etcd = etcd_of(config)
        self._tls = tls_of(config)
        self._credentials = Credentials(user=patroni.SUPERUSER, password=config.superuser_password)

    def announced(self) -> list[Member]:
        """All nodes that run now. Raises EtcdDown."""
        return members(self._etcd, self._config.cluster)

    async def primary(self, group: GroupId) -> Member:
        """The group's primary, as etcd names it now. Raises GroupDown if there is none."""
        for member in await asyncio.to_thread(self.announced):
            if member.group == group and member.leader:
                return member
        raise GroupDown(f"group {group} has no primary", hint="Do its nodes run? See their logs.")

    async def lend(self, group: GroupId) -> ServerLink:
        """A new connection to the group's primary. Raises GroupDown."""
        return await self.connect(await self.primary(group))

    async def lend_in(self, group: GroupId, database: str) -> ServerLink:
        """The same, in another database of its server."""
        return await self.connect(await self.primary(group), database)

    async def connect(self, member: Member, database: str | None = None) -> ServerLink:
        """A connection to a primary. Raises GroupDown if it does not answer or is none."""
        node = node_of(member)
        wanted = database or self._database or node.database
        link = await as_primary(
            replace(node, database=wanted), self._credentials, timeout=CONNECT_S, tls=self._tls
        )
        if link is None:
            raise GroupDown(
                f"{member.name} is not the primary of group {group_of(member)} any more", hint="Try again."
            )
        return link

    def give_back(self, link: Link, *, reusable: bool) -> None:
        """Close it."""
        assert isinstance(link, ServerLink)
        link.close()


def group_of(member: Member) -> GroupId:
    """The group of an announced node."""
    return GroupId(member.group)


async def catalog_map(config: NodeConfig) -> ClusterMap | None:
    """The cluster map from group 0; None if the catalog has not been made yet. Raises GroupDown if group 0 has no primary."""
    link = await _home_with_catalog(Primaries(config))
    if link is None:
        return None
    try:
        return await store.load(link)
    finally:
        link.close()


async def _home_with_catalog(lender: Primaries) -> ServerLink | None:
    """A connection to group 0's database, if it holds a catalog that knows nodes."""
    link = await lender.lend_in(HOME, "postgres")
    try:
        database = (await lender.primary(HOME)).database
        if not await link.run(f"SELECT 1 FROM pg_catalog.pg_database WHERE datname = {literal(database)}"):
            return None
    finally:
        link.close()
    link = await lender.lend(HOME)
    if await store.installed_layout(link) is not None and await link.run(
        "SELECT 1 FROM pgherd.nodes LIMIT 1"
    ):
        return link
    link.close()
    return None


async def _known_groups(lender: Primaries) -> set[GroupId]:
    """The groups of the cluster, whatever layout its catalog has; empty if it has none."""
    link = await _home_with_catalog(lender)
    if link is None:
        return set()
    try:
        return {GroupId(int(row[0] or 0)) for row in await link.run("SELECT id FROM pgherd.groups")}
    finally:
        link.close()


# ---- registering -------------------------------------------------------------------------------------


async def register_self(config: NodeConfig) -> str:
    """Let the catalog know where this node answers. Empty when that is done, else what it waits for.

    That is: until it is announced, by a Patroni that has taken up these settings (etcd may still name where the node was
    before); and until the catalog knows its group (`pgherd init` and `pgherd add-group` register all nodes that are there).
    Raises PgherdError where trying again may help.
    """
    lender, wished = Primaries(config), _wished(config)
    if not any(_same(node_of(each), wished) for each in await asyncio.to_thread(lender.announced)):
        return "waiting until Patroni announces this node as its settings say"
    cluster = await catalog_map(config)
    group = cluster.groups.get(wished.group) if cluster else None
    if group is None:
        return "waiting until the catalog knows this group (pgherd init, pgherd add-group)"
    if not any(_same(known, wished) for known in group.nodes):
        await catalog_nodes.add(lender, wished)
    names = {node.name for node in group.nodes} | {config.name}
    await asyncio.to_thread(settle_synchronous, config, wished.group, len(names))
    return ""


def _wished(config: NodeConfig) -> Node:
    """A node as its settings have it, the host as it comes back out of etcd's URL; its id means nothing."""
    return Node(
        id=0,
        group=GroupId(config.group),
        host=urlsplit(f"//{address(config.host, config.port)}").hostname or "",
        port=config.port,
        database=config.database,
        region=config.region,
        zone=config.zone,
        name=config.name,
    )


def _same(one: Node, other: Node) -> bool:
    return replace(one, id=0) == replace(other, id=0)


def settle_synchronous(config: NodeConfig, group: GroupId, nodes: int) -> bool:
    """Let a group's commits wait as `nodes` registered nodes allow; answers whether that was news. Raises DeployError."""
    leader = next((m for m in Primaries(config).announced() if m.group == group and m.leader), None)
    if leader is None:
        raise GroupDown(f"group {group} has no primary")
    wanted = patroni.synchronous(replicas=nodes - 1, strict=strict(config, nodes - 1))
    there = at(config, leader)
    have = patroni_api.dynamic(there) or {}
    if all(have.get(name) == value for name, value in wanted.items()):
        return False
    patroni_api.reconfigure(there, wanted)
    return True


def at(config: NodeConfig, member: Member) -> NodeConfig:
    """The settings with which the Patroni of another node is asked: that one's place, our passwords and certificates."""
    place = urlsplit(member.api)
    return replace(
        config, name=member.name, group=member.group, host=place.hostname or "", rest_port=place.port or 8008
    )


def strict(config: NodeConfig, replicas: int) -> bool:
    """Does a primary refuse to acknowledge writes when it is alone, with so many replicas registered?"""
    return replace(config, replicas=replicas).strict


def tls_of(config: NodeConfig) -> ssl.SSLContext | None:
    """How to talk to the nodes' servers: verified if it is known who signed their certificates; None: in plain text."""
    if config.tls_cert is None:
        return None
    return client_context("verify-full" if config.tls_ca else "require", config.tls_ca)


# ---- making the catalog ------------------------------------------------------------------------------


async def init(config: NodeConfig, *, groups: int | None, within_s: float, report: Report) -> ClusterMap:
    """Make the catalog over the groups that etcd knows, or bring that of an existing cluster up to date.

    Waits until `groups` groups have a primary (None: those that are there). Raises DeployError and GroupDown.
    """
    lender = Primaries(config)
    report("waiting for the groups' primaries")
    found = await _wait_primaries(lender, groups, within_s)
    known = await _known_groups(lender)
    try:
        async with asyncio.timeout(INSTALL_S):
            return await _install(config, lender, found, known, report)
    except TimeoutError:
        raise DeployError(
            f"the groups did not take the catalog within {INSTALL_S:.0f} s",
            hint="Does every group have a standby that it must wait for? See pgherd status --config FILE. Then try again.",
        ) from None


async def _install(
    config: NodeConfig,
    lender: Primaries,
    found: Sequence[Member],
    known: set[GroupId],
    report: Report,
) -> ClusterMap:
    """With groups `known` already: only these, whose nodes stay as they are."""
    leaders = [each for each in found if each.leader and (not known or group_of(each) in known)]
    for leader in leaders:
        await _make_database(lender, leader)
    if not known and config.auth == "scram":
        await _share_verifier(lender, leaders)
    report("installing the catalog")
    links = list[ServerLink]()
    try:
        for leader in leaders:
            links.append(await lender.connect(leader))
        await store.install(links)
        if not known:
            nodes, managed = [node_of(member) for member in found], {group_of(leader) for leader in leaders}
            await catalog_nodes.register(catalog_nodes.Held(links), nodes, managed=managed)
        return await store.load(links[0])
    finally:
        for link in links:
            link.close()


async def _wait_primaries(lender: Primaries, groups: int | None, within_s: float) -> list[Member]:
    """The announced nodes, as soon as all groups have a primary. Raises DeployError beyond the bound."""
    deadline = time.monotonic() + within_s
    while True:
        late = time.monotonic() > deadline
        try:
            found = await asyncio.to_thread(lender.announced)
        except EtcdDown:  # it may be starting as well
            if late:
                raise
            found = []
        led = {member.group for member in found if member.leader}
        seen = {member.group for member in found}
        if led == seen and 0 in led and len(led) >= (groups or 1):
            return found
        if late:
            raise DeployError(
                _what_is_missing(found, groups),
                hint="Start the nodes first (pgherd node), and see their logs.",
            )
        await asyncio.sleep(POLL_S)


def _what_is_missing(found: Sequence[Member], groups: int | None) -> str:
    seen, led = {member.group for member in found}, {member.group for member in found if member.leader}
    if not seen:
        return "etcd knows no node of this cluster"
    if seen != led:
        return f"group {min(seen - led)} has no primary"
    if 0 not in seen:
        return "there is no group 0"
    return f"etcd knows {len(led)} groups instead of {groups}"


async def _make_database(lender: Primaries, leader: Member) -> None:
    link = await lender.connect(leader, "postgres")
    try:
        if not await link.run(f"SELECT 1 FROM pg_database WHERE datname = '{leader.database}'"):
            await link.run(f'CREATE DATABASE "{leader.database}"')
    finally:
        link.close()


async def _share_verifier(lender: Primaries, leaders: Sequence[Member]) -> None:
    """Give the superuser the same SCRAM verifier in every group: logins are passed through with it."""
    verifier = ""
    for leader in leaders:
        link = await lender.connect(leader, "postgres")
        try:
            if not verifier:
                rows = await link.run(
                    f"SELECT rolpassword FROM pg_authid WHERE rolname = '{patroni.SUPERUSER}'"
                )
                verifier = rows[0][0] or ""
            else:
                await link.run(f"ALTER ROLE {patroni.SUPERUSER} PASSWORD '{verifier}'")
        finally:
            link.close()
