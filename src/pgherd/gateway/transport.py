"""A client's connection as a stream of bytes in both directions: what is kept, what waits, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from pgherd.backend.connection import Credentials, ServerLink, keep_alive
from pgherd.backend.pool import DEFAULT_STATE
from pgherd.backend.state import SessionState
from pgherd.catalog.model import ClusterMap, GroupId, Key
from pgherd.engine.metering import Sample
from pgherd.errors import PgherdError, ProtocolViolation, TooLarge
from pgherd.gateway import wire
from pgherd.gateway.prepared import PathPlans, Prepared
from pgherd.gateway.reading import Seen
from pgherd.topology.freshness import Freshness

if TYPE_CHECKING:
    from pgherd.gateway.server import Gateway
    from pgherd.gateway.session import ClientSession
    from pgherd.gateway.startup import Startup
    from pgherd.gateway.worker import Worker
    from pgherd.transaction.coordinator import Transaction

PENDING_MAX_BYTES = 1_000_000


class ClientTransport(asyncio.Protocol):
    """The lowest layer of a session, and all of its state (slots: a thousand idle clients shall be cheap).

    `tx` is the open transaction, explicit or implicit; `failed` says that it only waits for its ROLLBACK.
    """

    __slots__ = (
        "active", "busy", "closing", "credentials", "cursors", "failed", "fast_key", "fast_link", "fast_name",
        "fast_unit", "fast_write", "gateway", "implicit", "local_map", "loop", "marks", "named", "near", "near_tx", "need",
        "next_slow", "options", "options_before", "options_first", "options_kept", "out", "paused", "pending", "pid", "pinned", "planned_for",
        "plans", "portals", "primary_once", "reading", "sample", "secret", "seen", "sql_prepared", "stalled", "startup", "state", "state_before", "state_first", "state_local", "tainted", "transport", "tx",
        "tx_plain", "used", "user", "waited", "waiting", "waiting_for", "worker", "writable",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, startup: Startup) -> None:
        self.gateway = gateway
        self.loop = gateway.loop
        self.startup: Startup | None = startup
        self.transport: asyncio.Transport | None = None
        self.pending = bytearray()
        self.need = 5
        self.busy = False
        self.closing = False
        self.paused = False
        self.user = ""
        self.credentials = Credentials(user="")
        self.state: SessionState = DEFAULT_STATE
        self.state_before: SessionState = DEFAULT_STATE
        self.state_local: SessionState | None = None  # with what SET LOCAL changed in the open transaction
        self.state_first: SessionState = DEFAULT_STATE
        self.options: Mapping[str, str] = {}  # settings of our own; never changed in place
        self.options_before: Mapping[str, str] = {}
        self.options_first: Mapping[str, str] = {}
        self.options_kept: Mapping[str, str] | None = (
            None  # what is left after the transaction, if SET LOCAL was used
        )
        self.reading: Freshness | None = None  # how fresh reads must be; None: strong
        self.seen: Seen | None = None
        self.used = False  # something was done on a server, other than on the fast path
        self.near = False  # the statement under way may be answered by a replica
        self.near_tx = False  # so may the open transaction
        self.primary_once = False  # a replica could not answer: the primary shall
        self.plans: PathPlans | None = None
        self.planned_for: SessionState | None = None
        self.named: dict[bytes, Prepared] = {}
        self.portals: dict[str, Any] = {}
        self.sql_prepared: dict[str, Any] = {}
        self.cursors: dict[str, Any] = {}
        self.pinned: dict[GroupId, ServerLink] = {}
        self.active: set[ServerLink] = set()
        self.tx: Transaction | None = None
        self.tx_plain = True
        self.waited: Transaction | None = None  # the transaction that has waited for a change of the map
        self.local_map: ClusterMap | None = None
        self.marks: list[tuple[Any, ...]] = []  # settings at each savepoint
        self.tainted = False  # a statement may have changed settings behind our back, as functions can
        self.stalled = False  # waits for the client to read before it carries out more
        self.implicit = False
        self.failed = False
        self.fast_link: ServerLink | None = None
        self.fast_unit: bytes = b""
        self.fast_name: bytes = b""
        self.fast_write = False
        self.fast_key: Key | None = None
        self.sample: Sample | None = None  # of the load: the statement under way is timed
        self.next_slow = False
        self.worker: Worker | None = None
        self.waiting: asyncio.Future[None] | None = None
        self.waiting_for: set[asyncio.Timeout] = set()  # connections
        self.writable: asyncio.Future[None] | None = None
        self.out = bytearray()
        self.pid = 0
        self.secret = b""

    # ---- bytes in --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        keep_alive(transport)
        if self.startup is not None:
            self.startup.connected(self.whole)

    def data_received(self, data: bytes) -> None:
        if self.startup is not None:
            self.startup.received(self.whole, data)
            return
        if self.busy or self.pending:
            self.pending += data
            if self.busy:
                self._more()
                return
            if len(self.pending) < self.need:
                return
            data = bytes(self.pending)
            self.pending.clear()
        self.advance(data)

    def _more(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        elif len(self.pending) > PENDING_MAX_BYTES and not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    def unpause(self) -> None:
        """Read on after the client sent more than we wanted to keep."""
        if self.paused and self.transport is not None and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    def advance(self, data: bytes) -> None:
        """Start on the units in `data`."""
        raise NotImplementedError

    @property
    def whole(self) -> ClientSession:
        """The session that this is the lowest layer of."""
        return cast("ClientSession", self)

    def check_length(self, length: int) -> bool:
        """Whether a message may be so long; if not, the connection ends."""
        if 4 <= length <= self.gateway.settings.message_max:
            return True
        if length < 4:
            self.fatal(ProtocolViolation(f"invalid message length {length}"))
        else:
            self.fatal(
                TooLarge(f"message of {length} bytes is larger than {self.gateway.settings.message_max}")
            )
        return False

    # ---- bytes out -------------------------------------------------------------------------------------

    def forward(self, link: ServerLink, data: bytes) -> None:
        """A relay's bytes. The server is paused while the client does not read."""
        self.send(data)
        if self.writable is not None:
            link.pause_reading()
            self.active.add(link)

    def send(self, data: bytes) -> None:
        """Write at once, after what was kept."""
        transport = self.transport
        if transport is None or self.closing:
            return
        if self.out:
            self.out += data
            data = bytes(self.out)
            self.out.clear()
        transport.write(data)

    def write(self, data: bytes) -> None:
        """Keep until `flush` (or until it is much)."""
        self.out += data
        if len(self.out) > 65_536:
            self.flush()

    def flush(self) -> None:
        if self.out:
            data = bytes(self.out)
            self.out.clear()
            if self.transport is not None and not self.closing:
                self.transport.write(data)

    async def drain(self) -> None:
        """Wait while the client does not read."""
        if self.writable is not None:
            await self.writable

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None
        for link in (*self.active, self.fast_link):
            if link is not None:
                link.resume_reading()
        if self.stalled:
            self.stalled = False
            self.loop.call_soon(self.whole.idle)

    def _server_writable(self, writable: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if not writable and not self.paused:
            self.paused = True
            self.transport.pause_reading()
        elif writable:
            self.unpause()

    # ---- the end ---------------------------------------------------------------------------------------

    def fatal(self, error: PgherdError) -> None:
        """Say what is wrong and end the connection."""
        self.write(wire.error_response_from(error, "FATAL"))
        self.flush()
        self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self.startup is not None:
            self.startup.lost()
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None
        for link in (*self.active, self.fast_link):
            if link is not None:
                link.resume_reading()
        if self.busy and not self.stalled:
            self._more()
            self.gateway.abandon(self.whole)
        else:
            self.busy = self.stalled = False
            self.gateway.ended(self.whole)
