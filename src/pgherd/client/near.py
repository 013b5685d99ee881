"""Reads that may go to replicas: which node answers, on which connection, and what happens if it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from pgherd.catalog.model import ClusterMap, GroupId, Node
from pgherd.client import statements
from pgherd.client.again import missed, stands
from pgherd.client.link import AsyncpgLink
from pgherd.client.losses import elsewhere
from pgherd.client.marks import Marks
from pgherd.client.pool import GroupPool
from pgherd.client.queries import Want
from pgherd.client.routes import Lent, Route
from pgherd.engine.link import Link, Part
from pgherd.errors import GroupDown, PgherdError
from pgherd.plan.plans import AnyPlan, Federated, Gather, OneGroup, Plan, Single
from pgherd.topology import clock
from pgherd.topology.choose import Choice
from pgherd.topology.freshness import STRONG, Freshness, parse_freshness

if TYPE_CHECKING:
    from pgherd.client.database import Database

T = TypeVar("T")
LOOK_S = 0.5  # between two looks at replicas that hang or have become primaries


class Reading:
    """Reads of one freshness in one session; remembers for a moment which node they go to."""

    __slots__ = ("_chosen", "_near", "freshness", "marks")

    def __init__(self, near: Near, freshness: Freshness, marks: Marks) -> None:
        self._near = near
        self.freshness = freshness
        self.marks = marks
        self._chosen: dict[GroupId, tuple[GroupPool, float, int]] = {}

    def known(self, primary: GroupPool) -> GroupPool | None:
        """The pool that was chosen a moment ago, if the choice still holds."""
        found = self._chosen.get(primary.group)
        if found is None or clock.now() >= found[1] or found[2] != self._near.epoch:
            return None
        session = self.freshness.level == "session" and found[0] is not primary
        if session and not self.marks.steady(found[0], primary):
            return None
        return found[0]

    async def pool(self, group: GroupId) -> GroupPool:
        """Connections to the node for the next read: the primary's where no other qualifies."""
        choice = await self.choice(group)
        if choice.node is None:
            return self._near.primary(group)
        pool = self._near.primary(group) if choice.role == "primary" else self._near.replica(choice.node)
        self._chosen[group] = (pool, clock.now() + self.freshness.kept()[1], self._near.epoch)
        return pool

    async def choice(self, group: GroupId) -> Choice:
        """The node for the next read, and why."""
        if self.freshness.level == "session":
            return await self.marks.pick(group)
        return self._near.watch.choose(group, self.freshness.kept()[0])

    def guess(self, group: GroupId) -> Choice:
        """The same without asking any node."""
        if self.freshness.level == "session":
            return self.marks.guess(group)
        return self._near.watch.choose(group, self.freshness)

    def answered(self, pool: GroupPool) -> None:
        """A read was answered from `pool`."""
        if pool.replica:
            self.marks.answered(pool)
        else:
            self.marks.used((pool.group,))


class Near:
    """The replicas' side of a database object."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.watch = db.follow.watch
        self.epoch = -1
        self.routes: dict[str, Route] = {}
        self._replicas: dict[int, GroupPool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.marks = Marks(db.pools, self.watch, shared=True)
        self._readings: dict[str | Freshness, Reading] = {}
        self.usual = self.reading(db.options.read)

    def reading(self, level: str | Freshness | None) -> Reading:
        """How the database object's own session reads at this level. Raises BadSetting."""
        if level is None:
            return self.usual
        found = self._readings.get(level)
        if found is None:
            freshness = parse_freshness(level) if isinstance(level, str) else level
            found = self._readings.get(freshness) or Reading(self, freshness, self.marks)
            if len(self._readings) < 1000:
                self._readings[level] = self._readings[freshness] = found
        return found

    # ---- the short way ---------------------------------------------------------------------------------

    def lend(self, query: str, args: Sequence[Any], reading: Reading) -> Lent | None:
        """As `Database.lend`, on the node that `reading` chose a moment ago."""
        route = self.routes.get(query)
        if route is None or self._db.current.get() is not None:
            return None
        target = route.target(args)
        if target is None:
            return None
        pool = target[0] if reading.freshness == STRONG else reading.known(target[0])
        if pool is None or not pool.idle:
            return None
        held = pool.idle.pop()
        statement = held.statements.get(target[1])
        if statement is None:
            pool.give(held)
            return None
        meter = self._db.meter
        if not pool.replica and meter.count():
            held.due = route.due(args, meter)
        return pool, held, statement, route

    async def quickly(
        self, lent: Lent, args: Sequence[Any], limit: int, timeout: float | None, marks: Marks
    ) -> tuple[list[Any], bytes | None, bool] | None:
        """Run what `lend` found, for one session: rows and tag. None: it has to go the long way."""
        pool, held, statement, _ = lent
        try:
            found = await held.bound(statement, args, limit, timeout)
            if held.sure or await stands(self._db, lent):
                return found
        except Exception as error:
            await missed(self._db, error, lent)
        finally:
            pool.give(held)
            if not pool.replica:
                marks.used((pool.group,))
        return None

    # ---- the long way ------------------------------------------------------------------------------------

    async def read(
        self, plan: AnyPlan, query: str, args: Sequence[Any], want: Want, reading: Reading
    ) -> Part | None:
        """Carry out a read. None: no replica can, so it is the primaries' now."""
        if not plan.replica or reading.freshness.level == "strong" or not self._db.follow.watching:
            return None
        try:
            if isinstance(plan, Single | OneGroup):
                return await self._one(plan, query, args, want, reading)
            if isinstance(plan, Gather | Federated):
                part = await self._db.distributed(plan, args, reading)
                if isinstance(plan, Federated):
                    reading.marks.saw_primaries(plan.reads)
                return part
        except PgherdError as error:
            if not elsewhere(error):
                raise
        return None

    async def _one(
        self, plan: Single | OneGroup, query: str, args: Sequence[Any], want: Want, reading: Reading
    ) -> Part | None:
        place = statements.place(self._db, plan, query, args)
        if place is None:
            return None
        pool = await reading.pool(place[0])
        if not pool.replica:
            return None
        held = await pool.wait()
        try:
            part = await statements.on_held(held, place[1], args, want)
        except asyncpg.PostgresError as error:
            raise statements.as_server_error(error) from error
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if not held.lost:
                raise
            raise GroupDown(f"a replica of group {pool.group} was lost: {error}") from error
        finally:
            pool.give(held)
        reading.answered(pool)
        return part

    def describe(self, group: GroupId, plan: Plan, reading: Reading | None) -> str | None:
        """Which node of a managed group would carry out a plan now, and why; None where there is only one."""
        if not self.watch.managed(group):
            return None
        near = reading is not None and reading.freshness != STRONG and plan.replica
        choice = reading.guess(group) if reading is not None and near else self.watch.choose(group)
        return choice.told(reads=plan.replica)

    # ---- connections -------------------------------------------------------------------------------------

    def primary(self, group: GroupId) -> GroupPool:
        """Raises GroupDown for a group that the map does not name."""
        pool = self._db.pools.get(group)
        if pool is None:
            raise GroupDown(f"group {group} is not in the cluster map")
        return pool

    def replica(self, node: Node) -> GroupPool:
        """Connections to one replica."""
        pool = self._replicas.get(node.id)
        if pool is None or pool.node != node:
            if pool is not None:
                self._drop(pool)
            options = self._db.options
            pool = GroupPool(
                node, self._db.connect, size=options.max_size, wait_max=options.wait_max, replica=True
            )
            self._replicas[node.id] = pool
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        return pool

    def _look(self) -> None:
        """Let go of replicas that do not answer, or are none any more: what waits for them is read elsewhere."""
        self._timer = None
        for key, pool in list(self._replicas.items()):
            view = next((one for one in self.watch.views(pool.group) if one.node == pool.node), None)
            if view is None or view.answer is None or not view.answer.in_recovery:
                self._drop(self._replicas.pop(key))
            elif view.error is not None:
                pool.leave()
        if self._replicas:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    @staticmethod
    def _drop(pool: GroupPool) -> None:
        pool.closed = True
        pool.leave()

    @property
    def pools(self) -> tuple[GroupPool, ...]:
        """The replicas' pools."""
        return tuple(self._replicas.values())

    def renew(self, map_: ClusterMap) -> None:
        """Routes and choices were made for one map."""
        self.epoch = map_.epoch
        self.routes.clear()

    async def close(self) -> None:
        """Close all connections to replicas."""
        if self._timer is not None:
            self._timer.cancel()
        pools, self._replicas = list(self._replicas.values()), {}
        for pool in pools:
            await pool.close()


class NearLender:
    """`transaction.perform.Lender` of connections to the nodes that `reading` chooses: for transactions that only read."""

    def __init__(self, db: Database, reading: Reading) -> None:
        self._db = db
        self._reading = reading

    async def lend(self, group: GroupId) -> Link:
        """A connection to a node of `group`. Raises GroupDown."""
        pool = await self._reading.pool(group)
        return self._db.link(pool, await pool.overdraw())

    def give_back(self, link: Link, *, reusable: bool) -> None:
        """Take a connection back."""
        assert isinstance(link, AsyncpgLink)
        if not reusable:
            link.held.dirty = True
        self._reading.answered(link.pool)
        link.pool.give(link.held)
