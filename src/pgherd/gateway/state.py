"""A session's transaction, and the server connections that it holds or lends to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgherd.backend.connection import ServerLink
from pgherd.backend.managed import PrimaryPool
from pgherd.backend.pool import NoneFree
from pgherd.backend.state import seconds, switch_sql
from pgherd.catalog.model import GroupId, Node, ShardId
from pgherd.engine.metering import Sample
from pgherd.errors import Cancelled, GroupDown, ServerError
from pgherd.gateway import wire
from pgherd.gateway.reading import Seen
from pgherd.gateway.transport import ClientTransport
from pgherd.topology.freshness import parse_freshness

CHOOSE_AGAIN_S = (
    0.05  # a read that a replica could answer waits no longer for the primary before it looks for one
)
PROGRESS = "PH100"  # the SQLSTATE of notices that only say how far long work is

if TYPE_CHECKING:
    from pgherd.transaction.coordinator import Transaction


class TransactionState(ClientTransport):
    """The middle layer of a session; to transactions it is their Lender."""

    __slots__ = ()

    @property
    def isolation_set(self) -> bool:
        """Whether the session's settings change the isolation level of its transactions."""
        level = self.state.get("default_transaction_isolation")
        return level is not None and level != "read committed"

    @property
    def status(self) -> str:
        """The letter of ReadyForQuery."""
        if self.tx is None or self.implicit:
            return "I"
        return "E" if self.failed else "T"

    def begin(
        self,
        *,
        implicit: bool = False,
        single: bool = False,
        isolation: str = "",
        modes: str = "",
        read_only: bool = False,
    ) -> Transaction:
        """Open a transaction; no server hears of it before it is touched. `single`: it is one statement's own."""
        self.tx_plain = isolation in ("", "read committed", "read uncommitted") and not self.isolation_set
        self.near_tx = self.reading is not None and self.tx_plain and self._only_reads(read_only, modes)
        self.tx = self.gateway.transaction(
            self.whole, isolation=isolation, modes=modes, read_only=read_only, explicit=not single
        )
        self.implicit = implicit
        self.failed = False
        self.state_before = self.state
        self.options_before = self.options
        self.marks = []
        return self.tx

    def _only_reads(self, read_only: bool, modes: str) -> bool:
        if self.near:  # a single statement that only reads
            return True
        usual = self.state.get("default_transaction_read_only") in ("on", "true", "1", "yes")
        return read_only or (usual and "READ WRITE" not in modes.upper())

    def undo_settings(self) -> None:
        """The transaction is rolled back, and what was set in it with it."""
        self.state = self.state_before
        self.options_kept = None
        self.set_options(self.options_before)

    def set_options(self, options: Mapping[str, str], kept: Mapping[str, str] | None = None) -> None:
        """Settings of our own are these from now on; `kept`: what is left of them after the transaction."""
        self.options_kept = kept
        if options is self.options:
            return
        self.options = options
        freshness = parse_freshness(options.get("pgherd.read", "strong"))
        before, self.reading = self.reading, None if freshness.level == "strong" else freshness
        if freshness.level == "session" and (before is None or before.level != "session"):
            self.all_seen()

    def all_seen(self) -> Seen:
        """What the session has seen, when nobody kept books: anything in any group, if it did anything at all."""
        if self.seen is None:
            self.seen = Seen(self.gateway.watch)
        if self.used or self.fast_unit:
            self.seen.primary(self.gateway.groups())
        return self.seen

    def finish_transaction(self) -> None:
        """The transaction is over (its branches were given back)."""
        if self.options_kept is not None:
            self.set_options(self.options_kept)
        self.near_tx = False
        self.tx = None
        self.state_local = None
        self.implicit = False
        self.failed = False
        self.cursors = {name: cursor for name, cursor in self.cursors.items() if cursor.hold}
        self.portals.clear()
        again = self.local_map is not None or self.planned_for is not self.state
        self.local_map = None
        if again:
            self.replan()

    def replan(self) -> None:
        """Plan from now on with the map that holds for this session: the gateway's, or its own transaction's."""
        state = self.planned_for = self.state_local or self.state
        role = state.get("role") or "none"
        user = role if role != "none" else state.get("session_authorization") or self.user
        self.plans = self.gateway.path_plans(state.get("search_path"), user, self.local_map)

    # ---- lending: what transactions ask of their session --------------------------------------------------

    async def lend(self, group: GroupId) -> ServerLink:
        """A connection to `group` with this session's settings; the pinned one if there is one, and it has no transaction.

        To a replica, if the statement under way may be answered by one, and one is fresh enough.
        """
        self.used = True
        state = self.state_local or self.state
        link = self.pinned.get(group)
        async with self._cancellable():
            if self.near and not self.pinned:
                link = await self._lend_nearest(group)
            elif link is None or self._is_branch(link):
                pool = self.gateway.backends.pool(group, self.credentials)
                under_way = self.tx is not None and group in self.tx.branches
                if under_way and isinstance(pool, PrimaryPool):
                    link = await pool.take_under_way(state)
                else:
                    link = await pool.take(state)
            else:
                await self.held(link)
        if link.broken:
            raise GroupDown(
                f"the session's connection to group {group} was lost",
                hint="Reconnect: its temporary state is gone.",
            )
        if link.applied is not state:  # SET ran on another connection since
            before, link.applied = link.applied, None
            await link.run(switch_sql(before, state))
            link.applied = state
        self.lent(link)
        if self.seen is not None:
            self.seen.used(link)
        if self.closing:
            self.give_back(link)
            raise Cancelled("the client went away")
        return link

    @asynccontextmanager
    async def _cancellable(self) -> AsyncGenerator[None]:
        """A wait for a connection, which a cancel request of the client ends, or the session's statement_timeout. Raises Cancelled."""
        bound_s = seconds((self.state_local or self.state).get("statement_timeout"))
        ends = None if bound_s is None else self.loop.time() + bound_s
        try:
            async with asyncio.timeout_at(ends) as wait:
                self.waiting_for.add(wait)
                try:
                    yield
                finally:
                    self.waiting_for.discard(wait)
        except TimeoutError:
            late = ends is not None and self.loop.time() >= ends
            why = "statement timeout" if late else "user request"
            raise Cancelled(f"canceling statement due to {why}") from None

    def stop_waiting(self) -> None:
        """The client cancels: what waits for a connection gives up."""
        for wait in self.waiting_for:
            wait.reschedule(self.loop.time())

    async def lend_replica(self, node: Node) -> ServerLink:
        """A connection to a replica with this session's settings. Raises GroupDown."""
        link = await self.gateway.backends.replica(node, self.credentials).take(
            self.state_local or self.state
        )
        self.lent(link)
        return link

    async def _lend_nearest(self, group: GroupId) -> ServerLink:
        """A connection to the nearest node that is fresh enough. While the primary that was chosen goes away, choose again."""
        gateway, state = self.gateway, self.state_local or self.state
        deadline = self.loop.time() + gateway.settings.failover_wait
        while True:
            found = await self._lend_near(group)
            if found is not None:
                return found
            try:
                return await gateway.backends.pool(group, self.credentials).take(state, CHOOSE_AGAIN_S)
            except GroupDown as error:
                if isinstance(error, NoneFree) or self.loop.time() > deadline:
                    raise

    async def _lend_near(self, group: GroupId) -> ServerLink | None:
        """A connection to the nearest replica that is fresh enough; None: the primary shall answer."""
        watch = self.gateway.watch
        if self.reading is None or not watch.managed(group):
            return None
        session = self.reading.level == "session" and self.seen is not None
        choice = (
            await self.seen.pick(group)
            if session and self.seen
            else self.gateway.servers.choice(group, self.reading)
        )
        if choice.node is None or choice.role == "primary":
            return None
        try:
            link = await self.lend_replica(choice.node)
        except (GroupDown, ServerError):  # it is down, or does not know the role yet
            watch.suspect(group)
            return None
        if self.seen is not None:
            self.seen.used(link)
        return link

    async def held(self, *links: Any) -> None:
        """Wait while a primary that one of these connections leads to is not trusted: its answers would not count."""
        for link in links:
            if link.watched and not self.gateway.servers.steady(link):
                await self.gateway.servers.hold(link)

    async def steady(self) -> None:
        """Wait until the answers of all open branches count, or their connections are known to be lost."""
        if self.tx is not None and self.tx.branches:
            await self.held(*(branch.link for branch in self.tx.branches.values()))

    def _is_branch(self, link: ServerLink) -> bool:
        """Whether the session's transaction runs on it: a second one beside it needs another connection."""
        return self.tx is not None and any(branch.link is link for branch in self.tx.branches.values())

    def lent(self, link: ServerLink) -> None:
        """Note a connection as this session's: cancel reaches it, its notices come here."""
        self.active.add(link)
        link.on_notice = self._notice
        link.on_writable = self._server_writable

    def give_back(self, link: Any, *, reusable: bool = True) -> None:
        """Return a connection that `lend` gave."""
        self.active.discard(link)
        if self.seen is not None:
            self.seen.used(link)
        if self.tainted or self.state.get("synchronous_commit") is not None:
            link.strayed = True  # a distributed commit makes it wait for the standby
        if self.pinned.get(link.group) is link:
            link.resume_reading()
            return
        if not reusable:
            link.close()
        link.pool.give(link)

    def _notice(self, message: bytes) -> None:
        self.send(message)

    def progress(self, what: str, done: int, total: int) -> None:
        """Progress of long work, as a NOTICE whose SQLSTATE tells programs what it is."""
        text = f"{what}: {done} of {total}"
        self.send(wire.notice_response({"S": "NOTICE", "V": "NOTICE", "C": PROGRESS, "M": text}))

    # ---- load ------------------------------------------------------------------------------------------

    def time(self, link: ServerLink, shard: ShardId) -> None:
        """The statement that is sent now stands for a few in what is known of its shard's load."""
        if link.replica:
            self.gateway.meter.skip()
        else:
            self.sample = self.gateway.meter.begin(shard, self.fast_key, self.fast_write)

    def timed(self, sample: Sample) -> None:
        """Its answer is there."""
        self.gateway.meter.end(sample)
        self.sample = None

    def notice_text(self, text: str) -> None:
        """A NOTICE of our own."""
        self.send(wire.notice_response({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": text}))
