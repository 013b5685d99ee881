"""Settle what coordinators left behind, answer what became of a transaction, and clean up old decisions.

Anyone may do all of this at any time, also several at once and next to a living coordinator: the decision in home's data
is the only judge, and the protocol's steps may be repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Row
from pgherd.errors import BadSetting, GroupDown, OutcomeUnknown, PgherdError
from pgherd.transaction import two_phase
from pgherd.transaction.perform import Bounds, Lender, OnStep, Performer, borrowed, drive, nothing
from pgherd.transaction.two_phase import Gid, Phase

QUICK = Bounds(ask_s=3.0, finish_s=2.0, undo_s=2.0)
GRACE_S = 3.0  # how long a prepared transaction of unknown home process may be
LOOK_S = 2.0  # a group that hangs must not keep the others' transactions waiting for longer
PATIENCE_S = 20.0  # how long a living coordinator may take between its PREPARE and its decision

_PREPARED = (
    "SELECT gid, extract(epoch FROM prepared)::float8::text, owner, "
    "extract(epoch FROM clock_timestamp() - prepared)::float8::text FROM pg_prepared_xacts "
    "WHERE database = current_database() AND gid LIKE 'pgherd:%'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """A prepared transaction of pgherd's. `prepared_s`: Unix time at which it was prepared; `age_s` since then."""

    gid: Gid
    group: GroupId
    owner: str
    prepared_s: float
    age_s: float

    @property
    def id(self) -> str:
        return self.gid.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What one round of recovery did: ids by how they ended. `waiting`: left for the next round."""

    committed: tuple[str, ...] = ()
    aborted: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


async def ask(lender: Lender, group: GroupId, sql: str, bound_s: float = 5.0) -> list[Row]:
    """Rows of one query on a lent connection. Raises GroupDown beyond the bound."""
    async with borrowed(lender, group) as link:
        try:
            async with asyncio.timeout(bound_s):
                return await link.run(sql)
        except TimeoutError:
            raise GroupDown(f"group {group} did not answer within {bound_s:g} s") from None


async def in_doubt(lender: Lender, groups: Sequence[GroupId]) -> list[InDoubt]:
    """All prepared transactions of pgherd's in the groups that answer, oldest first. Others' are not even looked at."""
    answers = await asyncio.gather(*(prepared(lender, group) for group in groups), return_exceptions=True)
    found: list[InDoubt] = []
    for answer in answers:
        if isinstance(answer, list):
            found += answer
        elif not isinstance(answer, PgherdError):
            raise answer
    return sorted(found, key=lambda item: item.prepared_s)


async def prepared(lender: Lender, group: GroupId) -> list[InDoubt]:
    """The prepared transactions of pgherd's in one group. Raises GroupDown."""
    found: list[InDoubt] = []
    for gid_text, since, owner, age in await ask(lender, group, _PREPARED, LOOK_S):
        gid = two_phase.parse_gid(str(gid_text))
        if gid is not None and gid.group == group:
            found.append(
                InDoubt(
                    gid=gid,
                    group=group,
                    owner=str(owner),
                    prepared_s=float(since or 0),
                    age_s=float(age or 0),
                )
            )
    return found


async def recover(
    lender: Lender,
    groups: Sequence[GroupId],
    *,
    grace_s: float = GRACE_S,
    patience_s: float = PATIENCE_S,
    young_s: float = 0.0,
    on_step: OnStep = nothing,
) -> Recovered:
    """One round: settle every transaction that is in doubt in `groups` and whose coordinator is gone, or too slow.

    `young_s`: what was prepared so recently is left alone: home has likely decided, and COMMIT PREPARED is on its way.
    """
    by_id: dict[str, list[InDoubt]] = {}
    for item in await in_doubt(lender, groups):
        by_id.setdefault(item.id, []).append(item)
    committed: list[str] = []
    aborted: list[str] = []
    waiting: list[str] = []
    lists = {Phase.COMMITTED: committed, Phase.ABORTED: aborted}
    for transaction_id, items in by_id.items():
        young = max(item.age_s for item in items) < young_s
        if young or await _in_good_hands(lender, items, grace_s, patience_s):
            waiting.append(transaction_id)
            continue
        ended = await settle(lender, transaction_id, tuple(item.gid for item in items), on_step=on_step)
        lists.get(ended, waiting).append(transaction_id)
    return Recovered(committed=tuple(committed), aborted=tuple(aborted), waiting=tuple(waiting))


async def settle(
    lender: Lender, transaction_id: str, gids: tuple[Gid, ...], *, on_step: OnStep = nothing
) -> Phase:
    """Ask home for the decision (which makes it, if there is none: aborted) and carry it out on `gids`."""
    ended = await drive(two_phase.recover(transaction_id, gids), Performer(lender, bounds=QUICK), on_step)
    return ended.phase


async def _in_good_hands(lender: Lender, items: list[InDoubt], grace_s: float, patience_s: float) -> bool:
    """Whether the coordinator still lives (home's branch is still open) and is not taking too long."""
    eldest = max(items, key=lambda item: item.age_s)
    if eldest.age_s > patience_s:
        return False
    if eldest.gid.home_pid == 0:
        return eldest.age_s < grace_s
    home = two_phase.home_of(eldest.id)
    assert home is not None
    since = min(item.prepared_s for item in items)
    try:
        rows = await ask(
            lender, home, f"SELECT pgherd.branch_open({eldest.gid.home_pid}, to_timestamp({since!r}))"
        )
    except PgherdError:
        return True  # home is down: nobody can decide now
    return str(rows[0][0]).lower() in ("t", "true")


async def settle_blockers(lender: Lender, group: GroupId, pid: int | None = None) -> Recovered:
    """Settle at once what a waiting session waits for, if that is a transaction left prepared.

    `pid`: the waiting server process; None: look at all that is in doubt in the group. Never raises but for GroupDown.
    """
    if pid is not None:
        rows = await ask(lender, group, f"SELECT 0 = ANY (pg_blocking_pids({pid}))")
        if str(rows[0][0]).lower() not in ("t", "true"):
            return Recovered()
    return await recover(lender, (group,), grace_s=0.5)


async def status(lender: Lender, groups: Sequence[GroupId], transaction_id: str) -> str | None:
    """'committed' (and every later read sees it), 'aborted' (for good) or 'in progress'; None: too old to tell.

    Asking settles: a transaction whose coordinator is gone is finished first. Raises BadSetting for what is no id.
    """
    home = two_phase.home_of(transaction_id)
    if home is None or home not in groups:
        raise BadSetting(
            f"{transaction_id!r} is no transaction id of this cluster", hint="SELECT pgherd.transaction_id()"
        )
    try:
        row = await _decision(lender, home, transaction_id)
        if row is None:
            return await _undecided(lender, groups, home, transaction_id)
        outcome, listed, age_s = row
        if outcome == "in progress":
            return outcome
        if outcome == "aborted":
            return "aborted" if listed or age_s <= two_phase.AGE_LIMIT_S else None
        return await _committed_everywhere(lender, listed, transaction_id)
    except (GroupDown, OutcomeUnknown):
        return "in progress"


async def _decision(
    lender: Lender, home: GroupId, transaction_id: str
) -> tuple[str, tuple[GroupId, ...], float] | None:
    """(outcome, or 'in progress' while home's branch runs; participants; seconds from birth to decision) or None."""
    key = two_phase.running_key(transaction_id)
    rows = await ask(
        lender,
        home,
        "SELECT d.outcome, array_to_string(d.groups, ','), extract(epoch FROM d.decided_at)::float8::text, r.running "
        f"FROM (SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = {key >> 32} "
        f"AND objid = {key & 0xFFFFFFFF} AND objsubid = 1 AND pid IS NOT NULL) AS running) r "
        f"LEFT JOIN pgherd.decisions d ON d.id = '{transaction_id}'",
    )
    outcome, listed, decided, running = rows[0]
    if outcome is None:
        return ("in progress", (), 0.0) if str(running).lower() in ("t", "true") else None
    await ask(lender, home, two_phase.BARRIER)  # what is told shall outlive a failover
    groups = tuple(GroupId(int(group)) for group in str(listed or "").split(",") if group)
    return outcome, groups, float(decided or 0) - two_phase.born_of(transaction_id)


async def _undecided(
    lender: Lender, groups: Sequence[GroupId], home: GroupId, transaction_id: str
) -> str | None:
    items = [item for item in await in_doubt(lender, groups) if item.id == transaction_id]
    if items and await _in_good_hands(lender, items, GRACE_S, PATIENCE_S):
        return "in progress"
    if not items and time.time() - two_phase.born_of(transaction_id) > two_phase.AGE_LIMIT_S:
        return None  # never decided, or decided and cleaned up
    phase = await settle(lender, transaction_id, tuple(item.gid for item in items))
    return {Phase.COMMITTED: "committed", Phase.ABORTED: "aborted"}.get(phase, "in progress")


async def _committed_everywhere(lender: Lender, listed: Sequence[GroupId], transaction_id: str) -> str:
    """Decided to commit: make sure that every participant shows it before saying so."""
    for group in listed:
        for item in await prepared(lender, group):
            if (
                item.id == transaction_id
                and await settle(lender, transaction_id, (item.gid,)) is not Phase.COMMITTED
            ):
                return "in progress"
    return "committed"


async def clean(
    lender: Lender, groups: Sequence[GroupId], *, kept_s: float = two_phase.KEPT_S, rows: int = 50_000
) -> int:
    """Delete decisions that are old and settled everywhere; answers how many. Nothing is deleted while a group is down.

    A decision outlives every transaction of its group that was already running when it was made: one of them
    might be the branch that it decided against, and could else still commit.
    """
    answers = await asyncio.gather(*(prepared(lender, group) for group in groups), return_exceptions=True)
    pending: list[str] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            return 0
        pending += [item.id for item in answer]
    listed = ", ".join(f"'{transaction_id}'" for transaction_id in pending)
    but = f"AND id NOT IN ({listed})" if pending else ""
    deleted = 0
    for group in groups:
        found = await ask(
            lender,
            group,
            f"WITH old AS (SELECT id FROM pgherd.decisions WHERE decided_at < least(now() - interval '{kept_s:g} seconds', "
            "(SELECT min(xact_start) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())) "
            f"{but} LIMIT {rows}), gone AS (DELETE FROM pgherd.decisions d USING old WHERE d.id = old.id RETURNING 1) "
            "SELECT count(*) FROM gone",
            bound_s=60.0,
        )
        deleted += int(found[0][0] or 0)
    return deleted
