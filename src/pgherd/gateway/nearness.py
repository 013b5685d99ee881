"""Whether a statement may be answered by a replica, and which node would answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.catalog.model import GroupId
from pgherd.errors import NeedsPrimary
from pgherd.plan.plans import Plan
from pgherd.topology.freshness import STRONG

if TYPE_CHECKING:
    from pgherd.gateway.session import ClientSession


def choose_near(session: ClientSession, plan: Plan, *, fresh: bool) -> None:
    """Whether this statement may be answered by a replica. Raises NeedsPrimary for what must not run on the one at hand."""
    once, session.primary_once = session.primary_once, False
    session.near = False
    if session.reading is None:
        return
    if fresh:
        session.near = plan.replica and not (once or session.pinned or session.isolation_set)
    elif session.near_tx and session.tx is not None:
        session.near = plan.replica
        on_replica = any(getattr(b.link, "replica", False) for b in session.tx.branches.values())
        if on_replica and (plan.write or plan.pin):
            raise NeedsPrimary("this statement may do more than read, and the transaction is on a replica")


def would_answer(session: ClientSession, group: GroupId, plan: Plan) -> str | None:
    """Which node of a managed group would carry out a plan now, and why."""
    watch = session.gateway.watch
    if not watch.managed(group):
        return None
    inside = session.tx is not None and not session.implicit and not session.near_tx
    near = plan.replica and session.reading is not None and not (inside or session.pinned)
    freshness = session.reading if near and session.reading is not None else STRONG
    positions = session.seen.positions if session.seen is not None else None
    if freshness.level == "session" and positions is not None and group in positions.dirty:
        # how far it is gets asked when a read needs it (`Seen.pick`): here it counts as if a replica had it
        choice = watch.choose(group, freshness, None)
    else:
        choice = watch.choose(group, freshness, positions)
    return choice.told(reads=plan.replica)
