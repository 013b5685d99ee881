"""One client's connection: cuts its bytes into units, sends the common ones straight on, leaves the rest to the worker.

A unit is a simple Query, or everything up to a Sync. While one is under way (`busy`), what the client sends waits in
`pending`, so answers keep their order. The fast path below is the query path: it runs without a task and without
decoding more than the shard key. Whatever it does not know at a glance goes to `gateway.worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any

from pgherd.backend.connection import SYNC, ServerLink
from pgherd.backend.units import LENGTH, NOTHING, PARSED, PLAIN, Relay, Swallow
from pgherd.catalog import keys
from pgherd.catalog.model import GroupId
from pgherd.errors import OutcomeUnknown, PgherdError
from pgherd.gateway import wire
from pgherd.gateway.outcomes import hold_failed, hold_stale, transaction_lost, unknown_outcome
from pgherd.gateway.prepared import PathPlans, Prepared, Target, bound_literals, literal_oid
from pgherd.gateway.present import present
from pgherd.gateway.state import TransactionState
from pgherd.plan.plans import OneGroup, Param, Single

PARSE_COMPLETE = b"1\x00\x00\x00\x04"
READY = {"I": b"Z\x00\x00\x00\x05I", "T": b"Z\x00\x00\x00\x05T", "E": b"Z\x00\x00\x00\x05E"}
_D = b"D\x00\x00\x00\x06P\x00"
_E = b"E\x00\x00\x00\x09\x00"
# What may follow a Bind on the fast path: Describe or not, one Execute (all rows, or one as asyncpg's fetchrow), Sync.
SUFFIXES = frozenset(d + _E + n.to_bytes(4, "big") + SYNC for d in (b"", _D) for n in (0, 1))
_RUN = _D + _E + b"\0\0\0\0" + SYNC
# What the answers to Parse, Bind and Describe add to those that a simple query has.
_NOT_SIMPLE = frozenset(b"12n")
_PLAIN_SIMPLE = PLAIN - _NOT_SIMPLE
_SHORT = Struct(">h").unpack_from
PLAIN_BUT_TAG = PLAIN - frozenset(b"C")
_BEGIN = frozenset({b"BEGIN", b"begin", b"BEGIN;", b"begin;"})
_COMMIT = frozenset({b"COMMIT", b"commit", b"COMMIT;", b"commit;", b"END", b"end", b"END;", b"end;"})


class ClientSession(TransactionState):
    """The top layer: see the module."""

    __slots__ = ()

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
        self.fast_link = None
        if self.writable is not None and not self.closing:
            self.stalled = True  # what the client does not read shall not grow: nothing more before it does
            return
        self.busy = False
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
        prepared: Prepared | None = None
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
        if prepared is not None:
            if tail != at + 7:
                return False
            self.named[b""] = prepared
        else:
            prepared = self.named.get(data[at + 6 : tail - 1])
            if prepared is None or prepared.plans is not plans:
                return False
        if not prepared.fast:
            return False
        target = self._route(prepared, data, tail)
        if target is None:
            return False
        return self._send_bound(prepared, target, data, tail, end, parsed)

    def _route(self, prepared: Prepared, data: bytes, tail: int) -> Target | None:
        plan = prepared.plan
        if type(plan) is OneGroup:
            return self.group_target(prepared, plan)
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
        self.fast_key = whole = (key,)
        shard = prepared.keyspace.locate(whole)
        return None if shard is None else prepared.shard_target(shard.group, shard.id)

    def group_target(self, prepared: Prepared, plan: OneGroup) -> Target:
        """The form of a statement for one group: where the transaction is already, if any group will do."""
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
                    self.write(PARSE_COMPLETE)  # it goes with the answer
            else:
                message = link.remember(name) + target.parse
                self.fast_name = name
                if not parsed:
                    drop = PARSED
        size = end - tail + 6 + len(name)
        bind = b"".join((before, message, b"B", size.to_bytes(4, "big"), b"\0", name, b"\0", data[tail:]))
        self.fast_write = prepared.plan.write
        self._fast_start(link, bind, target, data, drop, before)
        return True

    def _fast_query(self, data: bytes, end: int) -> bool:
        """A simple query of a known shape, or the plain forms of BEGIN and COMMIT. False: the worker's."""
        plans = self.plans
        if plans is None:
            return False
        text = data[5 : end - 1]
        prepared = plans.by_text.get(text)
        tail = b""
        if prepared is not None:
            plan = prepared.plan
            if type(plan) is not OneGroup:
                return False
            target = self.group_target(prepared, plan)
        elif text in _BEGIN or text in _COMMIT:
            return self._fast_control(text)
        else:
            found = self._templated(plans, text)
            if found is None:
                return False
            prepared, target, tail = found
        lent = self._fast_lend(target.group, prepared)
        if lent is None:
            return False
        link, before = lent
        self.fast_name = b""
        self.fast_write = prepared.plan.write
        if tail:
            return self._send_literals(link, target, tail, data[:end], before)
        self._fast_start(link, before + target.query, target, data[:end], NOTHING, before)
        return True

    def _send_literals(
        self, link: ServerLink, target: Target, tail: bytes, unit: bytes, before: bytes
    ) -> bool:
        """A simple query as a prepared statement, its literals as parameters; the client sees a simple answer."""
        name = target.name
        made = b""
        if name not in link.prepared:
            made = link.remember(name) + target.parse
            self.fast_name = name
        size = len(tail) + 6 + len(name)
        bind = b"".join((before, made, b"B", size.to_bytes(4, "big"), b"\0", name, b"\0", tail, _RUN))
        self._fast_start(link, bind, target, unit, _NOT_SIMPLE, before)
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
            self.fast_key = whole = tuple(key)
            shard = keyspace.locate(whole)
        except (keys.Undecodable, PgherdError, UnicodeDecodeError):
            return None
        if shard is None:
            return None
        prepared = known.prepared
        prepared.uses += 1
        if known.bindable and prepared.uses > 2:
            typed = plans.prepare(shape[0], tuple([literal_oid(literal.raw) for literal in literals]))
            return typed, typed.shard_target(shard.group, shard.id), bound_literals(literals)
        sql = known.skeleton.render(shard.id, literals)
        return prepared, Target(shard.group, shard.id, sql, b"", b"", b"", wire.query(sql)), b""

    def _fast_lend(self, group: GroupId, prepared: Prepared) -> tuple[ServerLink, bytes] | None:
        """A connection that is ready now, and what to send before the statement; None: the worker must see to it."""
        tx = self.tx
        if self.gateway.changing:
            return None
        if tx is None:
            if self.pinned:
                return None
            if self.reading is not None:
                link = self._fast_near(group, prepared)
            else:
                link = self.gateway.backends.pool(group, self.credentials).take_nowait(self.state)
            return None if link is None else (link, b"")
        if self.failed or self.implicit:
            return None
        branch = tx.branches.get(group)
        beside = branch is not None and self.gateway.keeper.map.moving
        if beside or (type(prepared.plan) is Single and tx.isolation != "read committed"):
            return None  # shards may move under what it has done, or beside its older snapshot: see transaction.moved
        if branch is not None:
            link: Any = branch.link
            if link.watched and not self.gateway.servers.steady(link):
                return None
            if prepared.plan.write:
                if link.replica:
                    return None
                tx.opened(group, link, write=True)
            return link, b""
        if self.pinned or not self.tx_plain or self.near_tx:
            return None
        link = self.gateway.backends.pool(group, self.credentials).take_nowait(self.state)
        if link is None:
            return None
        before = wire.query(tx.opening(group))
        tx.opened(group, link, write=prepared.plan.write)
        self.lent(link)
        return link, before

    def _fast_near(self, group: GroupId, prepared: Prepared) -> ServerLink | None:
        """A connection that is ready now to the node that shall answer, which may be a replica."""
        gateway, reading, seen = self.gateway, self.reading, self.seen
        assert reading is not None
        if prepared.plan.replica and gateway.watch.managed(group) and not self.isolation_set:
            session = reading.level == "session" and seen is not None
            choice = seen.quick(group) if session and seen else gateway.servers.choice(group, reading)
            if choice is None or choice.node is None:
                return None
            if choice.role == "replica":
                pool = gateway.backends.replica(choice.node, self.credentials)
                link = pool.take_nowait(self.state)
                if seen is not None and link is not None:
                    seen.replica(pool, choice.node)
                return link
        link = gateway.backends.pool(group, self.credentials).take_nowait(self.state)
        if seen is not None and link is not None:
            seen.positions.wrote(group)
        return link

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
        if target.shard is not None:
            meter = self.gateway.meter
            meter.left -= 1
            if meter.left < 0:
                self.time(link, target.shard)
        tx = self.tx
        relay = Relay(
            self,
            self._fast_done,
            drop=drop,
            plain=PLAIN if drop is not _NOT_SIMPLE else _PLAIN_SIMPLE,
            hold=self._hold(link, opens=bool(before)),
            rewrite=lambda fields: wire.error_response(
                present(fields if tx is None else tx.told(fields), target.sql)
            ),
        )
        if before:
            link.send(message, Swallow(), relay)
        else:
            link.send(message, relay)

    def _hold(self, link: ServerLink, *, opens: bool) -> Callable[[dict[str, str]], bool] | None:
        """Which errors are no answer yet. In a transaction: those of an old map, of a statement that opens its branch: it can go elsewhere."""
        if self.tx is not None:
            return hold_stale if opens and self.tx.isolation == "read committed" else None
        return hold_failed if link.replica else hold_stale

    def _fast_done(self, relay: Relay, lost: PgherdError | None) -> None:
        link = self.fast_link
        assert link is not None
        if self.sample is not None:
            self.timed(self.sample)
        if relay.error is not None and self.fast_name and not relay.parsed:
            link.prepared.pop(self.fast_name, None)  # its Parse failed: there is no such statement there
        if self.tx is None:
            self.active.discard(link)
            if lost is None:
                link.pool.give(link)  # type: ignore[union-attr]
        elif relay.held and lost is None:
            self.give_back(self.tx.discard(link.group), reusable=False)
        elif relay.status == 0x45:
            self.failed = True
            self.tx.fail()
        if lost is not None:
            self._fast_lost(relay, lost)
        elif relay.held:
            self._fast_again()
            if link.replica:
                self.primary_once = True
            else:
                self.gateway.stale = True
        self.idle()

    def _fast_again(self) -> None:
        """Nothing of the unit's answer was sent: the worker shall carry it out from its beginning."""
        self.next_slow = True
        self.pending[:0] = self.fast_unit
        if self.out.endswith(PARSE_COMPLETE):
            del self.out[-len(PARSE_COMPLETE) :]

    def _fast_lost(self, relay: Relay, lost: PgherdError) -> None:
        """The server went away in the middle: a read can be sent again, and so can a write that the server surely did not do;
        what another write did is unknown, a transaction is over."""
        link = self.fast_link
        assert link is not None
        if link.watched or link.replica:
            self.gateway.watch.suspect(link.group)
        self.primary_once = link.replica
        undone = not self.fast_write or (link.watched and link.surely_not_done)
        if self.tx is not None:
            self.failed = True
            self.tx.fail()
            lost = transaction_lost(lost)
        elif undone and not relay.forwarded:
            self._fast_again()
            return
        elif not undone:
            lost = unknown_outcome(lost)
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
        if link.watched and not self.gateway.servers.steady(link):
            return False
        tx.committing = True
        self.busy = True
        self.fast_link = link
        link.send(wire.query("COMMIT"), Relay(self, self._fast_committed, plain=PLAIN_BUT_TAG))
        return True

    def _fast_committed(self, relay: Relay, lost: PgherdError | None) -> None:
        """The one branch has ended, or its connection has: then nobody knows how."""
        tx, link = self.tx, self.fast_link
        assert tx is not None and link is not None
        tx.branches.clear()
        self.give_back(link, reusable=lost is None)
        if relay.tag == "ROLLBACK" or relay.error is not None:
            self.undo_settings()
        self.finish_transaction()
        if lost is not None:
            unknown = OutcomeUnknown(
                "the connection was lost during COMMIT; the transaction may or may not have committed"
            )
            self.write(wire.error_response_from(unknown) + READY["I"])
            self.flush()
        self.idle()


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
