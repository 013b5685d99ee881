"""The gateway: everything that its sessions share, and its beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pgherd.backend import etcd
from pgherd.backend.connection import ServerLink
from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.controller.balancing import Balancer
from pgherd.controller.duties import Controller
from pgherd.engine.ids import IdSource
from pgherd.engine.metering import Meter, Reporter, here
from pgherd.engine.plans_cache import PlanCache, Planned
from pgherd.errors import BadSetting, DeployError, PgherdError
from pgherd.gateway import tls as tls_context
from pgherd.gateway.keeper import MapKeeper
from pgherd.gateway.prepared import PathPlans
from pgherd.gateway.roles import Roles
from pgherd.gateway.servers import AdminLender, Servers
from pgherd.gateway.session import ClientSession
from pgherd.gateway.settings import GatewaySettings
from pgherd.gateway.startup import Startup
from pgherd.plan.planner import plan
from pgherd.plan.template import template
from pgherd.reshard.keeper import WorkflowProcess
from pgherd.sql.parse import parse
from pgherd.transaction import recovery
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.snapshot import Gates

DEFAULT_PATH = '"$user", public'
DRAIN_S = 5.0
FIRST_S = 2.0  # how long the start waits for the primaries of other groups than 0
STUCK_S = 0.5  # a statement that has not answered for so long is looked into, once


def planned(sql: str, path: tuple[str, ...], cluster: ClusterMap) -> tuple[Planned, ...]:
    """Every statement of a text with its plan."""
    return tuple((statement, plan(statement, cluster, path)) for statement in parse(sql))


class Gateway:
    """Made by `open_gateway`; `close` ends it."""

    log = logging.getLogger("pgherd.gateway")

    def __init__(self, settings: GatewaySettings, tls: ssl.SSLContext | None) -> None:
        self.settings = settings
        self.tls = tls
        self.loop = asyncio.get_running_loop()
        self.servers = Servers(settings, self._epoch_rose)
        self.admin = self.servers.admin
        self.backends = self.servers.backends
        self.watch = self.servers.watch
        self.sessions: dict[int, ClientSession] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.template = template
        self.meter = Meter(settings.load_every)
        self.stale = False
        self.changing = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._pids = count(os.getpid() << 8 & 0x3FFFFFFF)
        self._paths: dict[tuple[str, ...], PathPlans] = {}
        self.keeper: MapKeeper
        self.cache: PlanCache
        self.gates: Gates
        self.ids: IdSource
        self.lender = AdminLender(self.servers)
        self.roles = Roles(self)
        self.server: asyncio.Server | None = None

    # ---- beginning and end -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the cluster, lease an origin for ids, start the background duties, listen."""
        first = await self._first_map()
        self.servers.follow(first)
        await self.watch.wait_primary(GroupId(0))
        await self.servers.first_primaries(first.groups, FIRST_S)
        self.keeper = MapKeeper(self.backends, self.admin, first)
        self.cache = PlanCache(first, planned)
        self.keeper.on_change.append(self._map_changed)
        await self.keeper.refresh()
        self.gates = Gates(self.lender, unstick=self._unstick, ready=self.servers.ready)
        self.ids = IdSource(await self._origin())
        self._spawn(self.keeper.poll(self.settings.epoch_poll))
        self._spawn(self._tidy())
        self._spawn(Reporter(self.meter, self.lender, lambda: self.keeper.map, here("gateway")).run())
        self.workflows = WorkflowProcess(self.lender, self._told)
        duties = {"workflows": self.workflows.look, "balance": Balancer(self.lender).look}
        self._spawn(Controller(self.lender, self.groups, more=duties).run())
        try:
            self.server = await self.loop.create_server(
                lambda: ClientSession(self, Startup(self)),
                self.settings.listen,
                self.settings.port,
                backlog=1024,
                reuse_address=True,
            )
        except OSError as error:
            raise DeployError(
                f"cannot listen on {self.settings.listen}:{self.settings.port}: {os.strerror(error.errno or 0)}",
                hint="Another program may use the port; choose one with --port.",
            ) from error

    def _spawn(self, job: Any) -> None:
        task = self.loop.create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("a background duty ended: %s", error, exc_info=error)

    @property
    def port(self) -> int:
        """The port it listens on (settings may say 0: any)."""
        assert self.server is not None
        return int(self.server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, give sessions a moment to finish what they do, end everything."""
        if self.server is not None:
            self.server.close()
        deadline = self.loop.time() + DRAIN_S
        while any(session.busy for session in self.sessions.values()) and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for session in list(self.sessions.values()):
            session.fatal(ShuttingDown("the gateway is shutting down", hint="Reconnect."))
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if hasattr(self, "gates"):
            await self.gates.close()
        if hasattr(self, "workflows"):
            await self.workflows.close()
        await self.servers.close()

    def _told(self) -> dict[str, Any]:
        """What the process of workflows must know to reach the servers."""
        nodes = self.keeper.map.groups[GroupId(0)].nodes
        return {
            "nodes": [
                {"id": n.id, "host": n.host, "port": n.port, "database": n.database, "name": n.name}
                for n in nodes
            ],
            "user": self.admin.user,
            "password": self.admin.password,
            "tls": self.settings.server_tls,
            "authority": self.settings.server_ca,
        }

    def groups(self) -> tuple[GroupId, ...]:
        """All groups, ascending."""
        return tuple(sorted(self.keeper.map.groups))

    async def _unstick(self, groups: tuple[GroupId, ...]) -> bool:
        return bool((await recovery.recover(self.lender, groups)).waiting)

    async def _tidy(self) -> None:
        """Close what is idle; look into what waits suspiciously long for an answer."""
        seen: dict[ServerLink, int] = {}
        while True:
            await asyncio.sleep(STUCK_S)
            self.backends.tidy(self.loop.time())
            busy = {link: link.turns for link in self.backends.links if link.busy}
            for link, turn in busy.items():
                if seen.get(link) == turn and not link.replica:
                    self._spawn(self._look_into(link))
            seen = {link: -1 if seen.get(link) in (turn, -1) else turn for link, turn in busy.items()}

    async def _look_into(self, link: ServerLink) -> None:
        """A statement that takes long may wait for a transaction left in doubt: settle it now."""
        with contextlib.suppress(PgherdError):
            await recovery.settle_blockers(self.lender, link.group, link.pid)

    # ---- the cluster -----------------------------------------------------------------------------------

    async def _first_map(self) -> ClusterMap:
        failure: PgherdError = DeployError("no seed node was given")
        for node in await self._seeds():
            try:
                link = await self.servers.connect(node, self.admin, self.settings.connect_timeout)
            except PgherdError as error:
                failure = error
                continue
            try:
                return await store.load(link)
            finally:
                link.close()
        raise DeployError(
            f"no node of the cluster answers: {failure.message}",
            hint="Check the seeds, and that the servers run.",
        )

    async def _seeds(self) -> list[Node]:
        """The nodes to begin with: as the settings name them, else as etcd knows them. Raises EtcdDown."""
        settings = self.settings
        if settings.seeds:
            return [node_of(seed, GroupId(number)) for number, seed in enumerate(settings.seeds)]
        where = etcd.EtcdAddress(
            hosts=settings.etcd,
            ca=_path(settings.etcd_ca),
            cert=_path(settings.etcd_cert),
            key=_path(settings.etcd_key),
            user=settings.etcd_user,
            password=settings.etcd_password,
        )
        found = await asyncio.to_thread(lambda: etcd.members(etcd.Etcd(where), settings.cluster))
        return [
            Node(id=0, group=GroupId(each.group), host=each.host, port=each.port, database=each.database)
            for each in found
        ]

    async def _origin(self) -> int:
        link = await self.lender.lend(GroupId(0))
        try:
            return int((await link.run("SELECT nextval('pgherd.origins')"))[0][0] or 0)
        finally:
            self.lender.give_back(link)

    def _epoch_rose(self, _epoch: int) -> None:
        """A node knows a newer map."""
        if hasattr(self, "keeper"):
            self._spawn(self.keeper.renew())

    def _map_changed(self) -> None:
        self.servers.follow(self.keeper.map)
        self.cache.renew(self.keeper.map)
        self._paths.clear()
        for session in self.sessions.values():
            if session.local_map is None:
                session.replan()

    def path_plans(self, setting: str | None, user: str, own: ClusterMap | None) -> PathPlans:
        """The plans for a session's search_path (None: the default); `own`: a transaction's private map."""
        path = parse_path(DEFAULT_PATH if setting is None else setting, user)
        if own is not None:
            cache = PlanCache(own, planned)
            return PathPlans(path, own, cache.get_all)
        found = self._paths.get(path)
        if found is None:
            if len(self._paths) > 500:
                self._paths.clear()
            found = self._paths[path] = PathPlans(path, self.keeper.map, self.cache.get_all)
        return found

    def any_group(self) -> GroupId:
        """A group for what any can do, in turn."""
        return self.servers.turn(tuple(self.keeper.map.groups))

    def spread(self, groups: tuple[GroupId, ...]) -> GroupId:
        """One of the groups where a federated read may run, in turn."""
        return self.servers.turn(groups)

    @asynccontextmanager
    async def changing_map(self, session: ClientSession) -> AsyncGenerator[None]:
        """While the map is being changed, statements outside of transactions wait, so that none meets half of it."""
        self.changing += 1
        self._quiet.clear()
        try:
            deadline = self.loop.time() + DRAIN_S
            while self.loop.time() < deadline and any(  # noqa: ASYNC110 the query path keeps no books for this
                other.busy and other.tx is None and other is not session and (other.active or other.fast_link)
                for other in self.sessions.values()
            ):
                await asyncio.sleep(0.002)
            yield
        finally:
            self.changing -= 1
            if not self.changing:
                self._quiet.set()

    async def settled(self) -> None:
        """Wait while the map is being changed."""
        if self.changing:
            await self._quiet.wait()

    # ---- sessions --------------------------------------------------------------------------------------

    def transaction(
        self, session: ClientSession, *, isolation: str, modes: str, read_only: bool, explicit: bool
    ) -> Transaction:
        """A transaction for a session."""
        level = isolation or session.state.get("default_transaction_isolation") or "read committed"
        return Transaction(
            session,
            tuple(sorted(self.keeper.map.groups)),
            gates=self.gates,
            isolation="read committed" if level == "read uncommitted" else level,
            modes=modes,
            read_only=read_only,
            snapshot=session.options.get("pgherd.snapshot", "on") != "off" and not session.near_tx,
            explicit=explicit,
            notice=session.notice_text,
            progress=session.progress,
        )

    def joined(self, session: ClientSession) -> None:
        """A client has logged in."""
        session.pid = next(self._pids)
        while session.pid in self.sessions:
            session.pid = next(self._pids)
        self.sessions[session.pid] = session

    def cancel(self, pid: int, secret: bytes) -> None:
        """A CancelRequest: pass it on to the servers where the session's statement runs. Wrong keys are ignored."""
        session = self.sessions.get(pid)
        if session is not None and session.secret == secret:
            self.cancel_session(session)

    def cancel_session(self, session: ClientSession) -> None:
        """Cancel what a session runs, but never a commit."""
        if session.tx is not None:
            if session.tx.committing:
                return
            session.tx.cancel_asked = True
        session.stop_waiting()
        links = set(session.active)
        if session.fast_link is not None:
            links.add(session.fast_link)
        for link in links:
            if link.busy and not link.broken:
                self._spawn(link.cancel())

    def abandon(self, session: ClientSession) -> None:
        """The client went away in the middle of a statement: cancel it; `ended` follows."""
        self.cancel_session(session)
        self._spawn(self._abandoned(session))

    async def _abandoned(self, session: ClientSession) -> None:
        """What the statement does next on its way must be cancelled as well, or come to its end."""
        pause = 0.1
        while session.busy and session.pid in self.sessions:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            self.cancel_session(session)

    def ended(self, session: ClientSession) -> None:
        """A client has gone and nothing of it is under way: roll back, and forget it."""
        if self.sessions.get(session.pid) is session:
            del self.sessions[session.pid]
        for link in session.pinned.values():
            link.close()
        session.pinned.clear()
        self._spawn(self._let_go(session))

    async def _let_go(self, session: ClientSession) -> None:
        """End what a client that has gone left open: its transaction, and the windows that its cursors read."""
        tx, session.tx = session.tx, None
        if session.worker is not None:
            await session.worker.runner.controls.close_cursors()
        if tx is not None:
            await tx.rollback()


class ShuttingDown(PgherdError):
    """The gateway ends; the connection with it."""

    sqlstate = "57P01"


@lru_cache(maxsize=1000)
def parse_path(text: str, user: str) -> tuple[str, ...]:
    """The schemas of a search_path setting."""
    names: list[str] = []
    rest = text.strip()
    while rest:
        if rest[0] == '"':
            end = rest.find('"', 1)
            while end >= 0 and rest[end : end + 2] == '""':
                end = rest.find('"', end + 2)
            if end < 0:
                break
            names.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 1 :]
        else:
            name, _, _ = rest.partition(",")
            names.append(name.strip().lower())
            rest = rest[len(name) :]
        rest = rest.lstrip().removeprefix(",").lstrip()
    return tuple(user if name == "$user" else name for name in names)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def node_of(seed: str, group: GroupId) -> Node:
    """A node from a libpq URI. Raises BadSetting."""
    parts = urlsplit(seed)
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname:
        raise BadSetting(f"seed {seed!r} is not a postgresql:// URI")
    return Node(
        id=0,
        group=group,
        host=parts.hostname,
        port=parts.port or 5432,
        database=unquote(parts.path.lstrip("/")) or "pgherd",
    )


@asynccontextmanager
async def open_gateway(settings: GatewaySettings) -> AsyncGenerator[Gateway]:
    """A listening gateway in this event loop, closed at the end of the block."""
    tls = None
    if settings.tls_cert and settings.tls_key:
        tls = tls_context.server_context(Path(settings.tls_cert), Path(settings.tls_key))
    gateway = Gateway(settings, tls)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.close()


async def serve(settings: GatewaySettings) -> None:
    """Run a gateway until SIGTERM or SIGINT; says "ready" when it listens."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_gateway(settings) as gateway:
        if settings.ready_file:
            Path(settings.ready_file).write_text(f"{gateway.port}\n")  # noqa: ASYNC240 before any client
        print("ready", flush=True)
        await stop.wait()
