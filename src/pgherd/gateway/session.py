"""One client's connection: cuts its bytes into units, sends the common ones straight on, leaves the rest to the worker.

A unit is a simple Query, or everything up to a Sync. While one is under way (`busy`), what the client sends waits in
`pending`, so answers keep their order. The fast path below is the query path: it runs without a task and without
decoding more than the shard key. Whatever it does not know at a glance goes to `gateway.worker`.
"""

from __future__ import annotations

import asyncio
import logging
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any, cast

from pgherd.backend.connection import SYNC, Credentials, ServerLink
from pgherd.backend.pool import DEFAULT_STATE
from pgherd.backend.state import SessionState
from pgherd.backend.units import LENGTH, NOTHING, PARSED, Relay, Swallow
from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.engine.stale import stale_code
from pgherd.errors import GroupDown, OutcomeUnknown, PgherdError, ProtocolViolation, TooLarge
from pgherd.gateway import wire
from pgherd.gateway.prepared import PathPlans, Prepared, Target
from pgherd.gateway.present import present
from pgherd.plan.plans import OneGroup, Param, Single

if TYPE_CHECKING:
    from pgherd.gateway.server import Gateway
    from pgherd.gateway.startup import Startup
    from pgherd.gateway.worker import Worker
    from pgherd.transaction.coordinator import Transaction

log = logging.getLogger("pgherd.gateway")

PARSE_COMPLETE = b"1\x00\x00\x00\x04"
READY = {"I": b"Z\x00\x00\x00\x05I", "T": b"Z\x00\x00\x00\x05T", "E": b"Z\x00\x00\x00\x05E"}
_D = b"D\x00\x00\x00\x06P\x00"
_E = b"E\x00\x00\x00\x09\x00"
# What may follow a Bind on the fast path: Describe or not, one Execute (all rows, or one as asyncpg's fetchrow), Sync.
SUFFIXES = frozenset(d + _E + n.to_bytes(4, "big") + SYNC for d in (b"", _D) for n in (0, 1))
_SHORT = Struct(">h").unpack_from
PENDING_MAX_BYTES = 1_000_000
_BEGIN = frozenset({b"BEGIN", b"begin", b"BEGIN;", b"begin;", b"START TRANSACTION"})
_COMMIT = frozenset({b"COMMIT", b"commit", b"COMMIT;", b"commit;", b"END", b"end", b"END;", b"end;"})


class ClientSession(asyncio.Protocol):
    """See the module. `tx` is the open transaction, explicit or implicit; `failed` says that it only waits for its ROLLBACK."""

    __slots__ = (
        "active",
        "busy",
        "closing",
        "credentials",
        "cursors",
        "failed",
        "fast_link",
        "fast_name",
        "fast_unit",
        "gateway",
        "implicit",
        "local_map",
        "loop",
        "named",
        "need",
        "next_slow",
        "options",
        "out",
        "paused",
        "pending",
        "pid",
        "pinned",
        "plans",
        "portals",
        "secret",
        "sql_prepared",
        "startup",
        "state",
        "state_before",
        "state_first",
        "transport",
        "tx",
        "tx_plain",
        "user",
        "waiting",
        "worker",
        "writable",
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
        self.state_first: SessionState = DEFAULT_STATE
        self.options: dict[str, str] = {}
        self.plans: PathPlans | None = None
        self.named: dict[bytes, Prepared] = {}
        self.portals: dict[str, Any] = {}
        self.sql_prepared: dict[str, Any] = {}
        self.cursors: dict[str, Any] = {}
        self.pinned: dict[GroupId, ServerLink] = {}
        self.active: set[ServerLink] = set()
        self.tx: Transaction | None = None
        self.tx_plain = True
        self.local_map: ClusterMap | None = None
        self.implicit = False
        self.failed = False
        self.fast_link: ServerLink | None = None
        self.fast_unit: bytes = b""
        self.fast_name: bytes = b""
        self.next_slow = False
        self.worker: Worker | None = None
        self.waiting: asyncio.Future[None] | None = None
        self.writable: asyncio.Future[None] | None = None
        self.out = bytearray()
        self.pid = 0
        self.secret = b""

    # ---- bytes in --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if self.startup is not None:
            self.startup.connected(self)

    def data_received(self, data: bytes) -> None:
        if self.startup is not None:
            self.startup.received(self, data)
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
        """Start on the units in `data`; returns when all is under way, or waits for more."""
        while data and not self.closing:
            if len(data) < 5:
                self.need = 5
                break
            kind = data[0]
            end = 1 + LENGTH(data, 1)[0]
            if not self.check_length(end - 1):
                return
            if end > len(data):
                self.need = end
                break
            if not self.next_slow:
                if kind == 0x51:
                    if self._fast_query(data, end):
                        data = data[end:]
                        if self.busy:
                            break
                        continue
                elif (kind == 0x50 or kind == 0x42) and self._try_extended(data):
                    return
            self.next_slow = False
            self.pending += data
            self.start_worker()
            return
        self.pending += data

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

    def start_worker(self) -> None:
        from pgherd.gateway.worker import Worker

        self.busy = True
        if self.worker is None:
            self.worker = Worker(self)
        task = self.loop.create_task(self.worker.run())
        self.gateway.tasks.add(task)
        task.add_done_callback(self.gateway.tasks.discard)

    def idle(self) -> None:
        """The unit has ended: go on with what has come meanwhile."""
        self.busy = False
        self.fast_link = None
        self.unpause()
        if self.closing:
            self.gateway.ended(self)
        elif self.pending:
            data = bytes(self.pending)
            self.pending.clear()
            self.advance(data)

    # ---- the fast path ---------------------------------------------------------------------------------

    def _try_extended(self, data: bytes) -> bool:
        try:
            return self._fast_extended(data)
        except (ValueError, IndexError, StructError):
            return False  # cut short or malformed: the worker finds out which

    def _fast_extended(self, data: bytes) -> bool:
        """[Parse] Bind [Describe] Execute Sync of a routable statement, all there: send it on. False: not such a one."""
        plans = self.plans
        if plans is None:
            return False
        at = 0
        parsed = data[0] == 0x50
        if parsed:
            at = 1 + LENGTH(data, 1)[0]
            prepared = plans.by_body.get(data[5:at])
            if prepared is None or len(data) < at + 12 or data[at] != 0x42:
                return False
        end = at + 1 + LENGTH(data, at + 1)[0]
        if data[end:] not in SUFFIXES or data[at + 5]:
            return False
        tail = data.index(0, at + 6) + 1
        if parsed:
            if tail != at + 7:
                return False
            self.named[b""] = prepared  # pyright: ignore[reportPossiblyUnboundVariable]
        else:
            prepared = self.named.get(data[at + 6 : tail - 1])
            if prepared is None or prepared.plans is not plans:
                return False
        if not prepared.fast:  # pyright: ignore[reportPossiblyUnboundVariable]
            return False
        target = self._route(prepared, data, tail)  # pyright: ignore[reportPossiblyUnboundVariable]
        if target is None:
            return False
        return self._send_bound(prepared, target, data, tail, end, parsed)  # pyright: ignore[reportPossiblyUnboundVariable]

    def _route(self, prepared: Prepared, data: bytes, tail: int) -> Target | None:
        plan = prepared.plan
        if type(plan) is OneGroup:
            return self._group_target(prepared, plan)
        if prepared.single_param is None:
            return None
        number, kind = prepared.single_param
        value = bound_value(data, tail, number)
        if value is None:
            return None
        try:
            if value[0]:
                oids = prepared.oids
                key = keys.decode_binary(kind, oids[number - 1] if number <= len(oids) else 0, value[1])
            else:
                key = keys.decode_text(kind, value[1].decode())
        except (keys.Undecodable, PgherdError, UnicodeDecodeError):
            return None
        shard = prepared.keyspace.locate((key,))
        return None if shard is None else prepared.shard_target(shard.group, shard.id)

    def _group_target(self, prepared: Prepared, plan: OneGroup) -> Target:
        group = plan.group
        if group is None:
            tx = self.tx
            group = next(iter(tx.branches)) if tx is not None and tx.branches else self.gateway.any_group()
        return prepared.group_target(group, plan.sql)

    def _send_bound(
        self, prepared: Prepared, target: Target, data: bytes, tail: int, end: int, parsed: bool
    ) -> bool:
        found = self._fast_lend(target.group, prepared)
        if found is None:
            return False
        link, before = found
        drop = NOTHING
        self.fast_name = b""
        prepared.uses += 1
        if parsed and prepared.uses < 3:
            # A text seen for the first time may never come again: leave no named statement behind.
            message = target.parse_unnamed
            name = b""
        else:
            name = target.name
            if name in link.prepared:
                message = b""
                if parsed:
                    self.send(PARSE_COMPLETE)
            else:
                message = link.remember(name) + target.parse
                self.fast_name = name
                if not parsed:
                    drop = PARSED
        size = end - tail + 6 + len(name)
        bind = b"".join((before, message, b"B", size.to_bytes(4, "big"), b"\0", name, b"\0", data[tail:]))
        self._fast_start(link, bind, target, data, drop, before)
        return True

    def _fast_query(self, data: bytes, end: int) -> bool:
        """A simple query of a known shape, or the plain forms of BEGIN and COMMIT. False: the worker's."""
        plans = self.plans
        if plans is None:
            return False
        text = data[5 : end - 1]
        prepared = plans.by_text.get(text)
        query: bytes
        if prepared is not None:
            plan = prepared.plan
            if type(plan) is OneGroup:
                target = self._group_target(prepared, plan)
                query = target.query
            else:
                return False
        elif text in _BEGIN or text in _COMMIT:
            return self._fast_control(text)
        else:
            found = self._templated(plans, text)
            if found is None:
                return False
            prepared, target, query = found
        lent = self._fast_lend(target.group, prepared)
        if lent is None:
            return False
        link, before = lent
        self.fast_name = b""
        self._fast_start(link, before + query, target, data[:end], NOTHING, before)
        return True

    def _templated(self, plans: PathPlans, text: bytes) -> tuple[Prepared, Target, bytes] | None:
        try:
            sql = text.decode()
            shape = self.gateway.template(sql)
            if shape is None:
                return None
            known = plans.templates.get(shape[0])
            if known is None:
                return None
            plan = known.prepared.plan
            assert isinstance(plan, Single)
            literals = shape[1]
            keyspace = known.prepared.keyspace
            key: list[Any] = []
            for source, kind in zip(plan.key, keyspace.key_types, strict=True):
                value = literals[source.number - 1].text if isinstance(source, Param) else source.text
                if value is None:
                    return None
                key.append(keys.decode_text(kind, value))
            shard = keyspace.locate(tuple(key))
        except (keys.Undecodable, PgherdError, UnicodeDecodeError):
            return None
        if shard is None:
            return None
        sql = known.skeleton.render(shard.id, literals)
        query = wire.query(sql)
        return known.prepared, Target(shard.group, shard.id, sql, b"", b"", b"", query), query

    def _fast_lend(self, group: GroupId, prepared: Prepared) -> tuple[ServerLink, bytes] | None:
        """A connection that is ready now, and what to send before the statement; None: the worker must see to it."""
        tx = self.tx
        if self.gateway.changing:
            return None
        if tx is None:
            if self.pinned:
                return None
            link = self.gateway.backends.pool(group, self.credentials).take_nowait(self.state)
            return None if link is None else (link, b"")
        if self.failed or self.implicit:
            return None
        branch = tx.branches.get(group)
        if branch is not None:
            if prepared.plan.write:
                tx.opened(group, branch.link, write=True)
            return branch.link, b""  # type: ignore[return-value]
        if self.pinned or not self.tx_plain:
            return None
        link = self.gateway.backends.pool(group, self.credentials).take_nowait(self.state)
        if link is None:
            return None
        before = wire.query(tx.opening(group))
        tx.opened(group, link, write=prepared.plan.write)
        self.lent(link)
        return link, before

    def _fast_start(
        self,
        link: ServerLink,
        message: bytes,
        target: Target,
        unit: bytes,
        drop: frozenset[int],
        before: bytes,
    ) -> None:
        self.busy = True
        self.fast_link = link
        self.fast_unit = unit
        relay = Relay(
            self,
            self._fast_done,
            drop=drop,
            hold=_hold_stale if self.tx is None else None,
            rewrite=lambda fields: wire.error_response(present(fields, target.sql)),
        )
        if before:
            link.send(message, Swallow(), relay)
        else:
            link.send(message, relay)

    def _fast_done(self, relay: Relay, lost: PgherdError | None) -> None:
        link = self.fast_link
        assert link is not None
        if relay.error is not None and self.fast_name and not relay.parsed:
            link.prepared.pop(self.fast_name, None)  # its Parse failed: there is no such statement there
        if self.tx is None:
            if lost is None:
                self.gateway.backends.pool(link.group, self.credentials).give(link)
        elif relay.status == 0x45:
            self.failed = True
        if lost is not None:
            self._fast_lost(lost)
        elif relay.held:
            self.next_slow = True
            self.pending[:0] = self.fast_unit
            self.gateway.stale = True
        self.idle()

    def _fast_lost(self, lost: PgherdError) -> None:
        """The server went away in the middle: what the statement did is unknown, and a transaction is over."""
        if self.tx is not None:
            self.failed = True
        self.write(wire.error_response_from(lost))
        self.write(READY[self.status])
        self.flush()

    def _fast_control(self, text: bytes) -> bool:
        if text in _BEGIN:
            if self.tx is not None or self.gateway.changing:
                return False
            self.begin()
            self.send(b"C\x00\x00\x00\x0aBEGIN\x00" + READY["T"])
            return True
        tx = self.tx
        if tx is None or self.failed or self.implicit or self.cursors or len(tx.branches) > 1 or tx.announced:
            return False
        if not tx.branches:
            self.finish_transaction()
            self.send(b"C\x00\x00\x00\x0bCOMMIT\x00" + READY["I"])
            return True
        link: Any = next(iter(tx.branches.values())).link
        if link.broken or self.local_map is not None:
            return False
        tx.committing = True
        self.busy = True
        self.fast_link = link
        link.send(wire.query("COMMIT"), Relay(self, self._fast_committed))
        return True

    def _fast_committed(self, _relay: Relay, lost: PgherdError | None) -> None:
        """The one branch has ended, or its connection has: then nobody knows how."""
        tx, link = self.tx, self.fast_link
        assert tx is not None and link is not None
        tx.branches.clear()
        self.give_back(link, reusable=lost is None)
        self.finish_transaction()
        if lost is not None:
            unknown = OutcomeUnknown(
                "the connection was lost during COMMIT; the transaction may or may not have committed"
            )
            self.write(wire.error_response_from(unknown) + READY["I"])
            self.flush()
        self.idle()

    # ---- transaction state -----------------------------------------------------------------------------

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
        self.tx = self.gateway.transaction(
            self, isolation=isolation, modes=modes, read_only=read_only, explicit=not single
        )
        self.tx_plain = isolation in ("", "read committed", "read uncommitted") and not self.isolation_set
        self.implicit = implicit
        self.failed = False
        self.state_before = self.state
        return self.tx

    def finish_transaction(self) -> None:
        """The transaction is over (its branches were given back)."""
        self.tx = None
        self.implicit = False
        self.failed = False
        self.cursors = {name: cursor for name, cursor in self.cursors.items() if cursor.hold}
        self.portals.clear()
        if self.local_map is not None:
            self.local_map = None
            self.replan()

    def replan(self) -> None:
        """Plan from now on with the map that holds for this session: the gateway's, or its own transaction's."""
        self.plans = self.gateway.path_plans(self.state, self.user, self.local_map)

    # ---- lending: what transactions ask of their session --------------------------------------------------

    async def lend(self, group: GroupId) -> ServerLink:
        """A connection to `group` with this session's settings; the pinned one if there is one."""
        link = self.pinned.get(group)
        if link is None:
            link = await self.gateway.backends.pool(group, self.credentials).take(self.state)
        elif link.broken:
            raise GroupDown(
                f"the session's connection to group {group} was lost",
                hint="Reconnect: its temporary state is gone.",
            )
        self.lent(link)
        return link

    def lent(self, link: ServerLink) -> None:
        """Note a connection as this session's: cancel reaches it, its notices come here."""
        self.active.add(link)
        link.on_notice = self._notice
        link.on_writable = self._server_writable

    def give_back(self, link: Any, *, reusable: bool = True) -> None:
        """Return a connection that `lend` gave."""
        self.active.discard(link)
        if self.pinned.get(link.group) is link:
            return
        if not reusable:
            link.close()
        self.gateway.backends.pool(link.group, self.credentials).give(link)

    def _notice(self, message: bytes) -> None:
        self.send(message)

    def notice_text(self, text: str) -> None:
        """A NOTICE of our own."""
        self.send(wire.notice_response({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": text}))

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
        if self.busy:
            self._more()
            self.gateway.abandon(self)
        else:
            self.gateway.ended(self)


def _hold_stale(fields: dict[str, str]) -> bool:
    return stale_code(fields.get("C", ""), fields.get("M", ""), fields.get("s", ""))


def bound_value(data: bytes, tail: int, number: int) -> tuple[int, bytes] | None:
    """Format code and bytes of parameter `number` (from 1) of the Bind whose body after its names starts at `tail`.

    None if it is NULL or missing.
    """
    formats = _SHORT(data, tail)[0]
    at = tail + 2 + 2 * formats
    if number > _SHORT(data, at)[0]:
        return None
    form = 0 if formats == 0 else _SHORT(data, tail + 2 + 2 * (number - 1 if formats > 1 else 0))[0]
    at += 2
    for _ in range(number - 1):
        size = LENGTH(data, at)[0]
        at += 4 + (size if size != 0xFFFFFFFF else 0)
    size = LENGTH(data, at)[0]
    return None if size == 0xFFFFFFFF else (form, data[at + 4 : at + 4 + size])
