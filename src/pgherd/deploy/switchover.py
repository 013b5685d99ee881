"""A planned change of a group's primary: announced, when no transaction is open, so that nobody meets an error.

See docs/design/004-replicas.md, "Planned switchover". The pause is as short as Patroni's own steps: the old primary has
nothing left to flush, and the new one watches etcd.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from pgherd.backend.connection import ServerLink
from pgherd.backend.etcd import Member
from pgherd.catalog.model import GroupId
from pgherd.deploy import patroni_api
from pgherd.deploy.members import Primaries, Report, at
from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import DeployError, PgherdError

NOTICE_MS = 1000  # from the announcement to the pause: everybody asks twice a second
PAUSE_MS = 8000  # the longest it can last
QUIET_S = 0.4  # how long open transactions are waited for within a pause
TRIES = 8
BETWEEN_S = 1.0
DONE_S = 20.0
POLL_S = 0.01
STEP_S = 10.0  # how long a standby is waited for that is about to be in step

# open transactions of clients in this database; what only looks at the node does not count
_OPEN = """
SELECT count(*), min(left(query, 60)) FROM pg_catalog.pg_stat_activity
WHERE backend_type = 'client backend' AND datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
AND state <> 'idle' AND xact_start IS NOT NULL AND query NOT LIKE '%pgherd.node_state()%'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What a switchover did. `pause_ms`: from the request to Patroni until the new primary took writes."""

    group: int
    old: str
    new: str
    pause_ms: int
    tries: int


async def switchover(config: NodeConfig, group: int, candidate: str | None, report: Report) -> Switched:
    """Make `candidate` (None: a standby in step) the primary of `group`. `config`: settings of any node of the cluster.

    Raises DeployError: no such group or node, no standby in step, transactions that do not end.
    """
    lender = Primaries(config)
    leader, chosen = await choose(config, lender, group, candidate)
    link = await lender.lend(GroupId(group))
    try:
        report(f"checkpoint on {leader.name}")
        await link.run("CHECKPOINT")
        tries, pause = await _pause(link, group, report)
        report(f"{leader.name} hands over to {chosen.name}")
        begun = time.monotonic()
        try:
            await _hand_over(config, lender, leader, chosen)
        except PgherdError:
            with suppress(PgherdError):
                await link.run(f"SELECT pgherd.take_back_pause({pause})")
            raise
    finally:
        link.close()
    pause_ms = round((time.monotonic() - begun) * 1000)
    return Switched(group=group, old=leader.name, new=chosen.name, pause_ms=pause_ms, tries=tries)


async def choose(
    config: NodeConfig, lender: Primaries, group: int, candidate: str | None
) -> tuple[Member, Member]:
    """The group's primary, and the standby in step that shall follow it. Raises DeployError."""
    announced = await asyncio.to_thread(lender.announced)
    found = [member for member in announced if member.group == group]
    if not found:
        known = ", ".join(str(each) for each in sorted({member.group for member in announced})) or "none"
        raise DeployError(f"there is no group {group}", hint=f"Groups that run: {known}.")
    leader = next((member for member in found if member.leader), None)
    if leader is None:
        raise DeployError(f"group {group} has no primary now", hint="See pgherd status.")
    _check(found, leader, candidate)
    deadline = time.monotonic() + STEP_S
    while not (in_step := await asyncio.to_thread(_in_step, config, found, leader)).keys() & (
        {candidate} if candidate else in_step.keys()
    ):
        if time.monotonic() > deadline:
            who = f"node {candidate} is not" if candidate else f"no standby of group {group} is"
            raise DeployError(
                f"{who} in step with the primary", hint="It would lose writes. See pgherd status."
            )
        await asyncio.sleep(0.2)
    return leader, in_step[candidate or min(in_step)]


def _in_step(config: NodeConfig, found: Sequence[Member], leader: Member) -> dict[str, Member]:
    """The standbys that commits wait for, and that Patroni lets take over."""
    status = patroni_api.status(at(config, leader))
    waited = [m for m in found if status and status.standbys.get(m.name) in patroni_api.IN_STEP]
    statuses = {member.name: patroni_api.status(at(config, member)) for member in waited}
    return {m.name: m for m in waited if (own := statuses[m.name]) is not None and own.successor}


def _check(found: Sequence[Member], leader: Member, candidate: str | None) -> None:
    names = [member.name for member in found]
    if candidate is not None and candidate not in names:
        raise DeployError(
            f"group {leader.group} has no node {candidate} that runs", hint=f"Its nodes: {', '.join(names)}."
        )
    if candidate == leader.name:
        raise DeployError(f"node {candidate} is the primary already", hint="Name a standby, or none.")
    if len(found) == 1:
        raise DeployError(f"group {leader.group} has no standby that runs", hint="See pgherd status.")


async def _pause(link: ServerLink, group: int, report: Report) -> tuple[int, int]:
    """Announce a pause and wait in it until no transaction is open; again later if one stays.

    Answers how many tries it took, and the pause's id.
    """
    seen = ""
    for tried in range(1, TRIES + 1):
        report(f"announcing a pause of group {group}")
        pause = int((await link.run(f"SELECT pgherd.announce_pause({NOTICE_MS}, {PAUSE_MS})"))[0][0] or 0)
        await asyncio.sleep(NOTICE_MS / 1000)
        deadline = time.monotonic() + QUIET_S * tried
        while True:
            count, seen = _open((await link.run(_OPEN))[0])
            if not count:
                return tried, pause
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
        await link.run(f"SELECT pgherd.take_back_pause({pause})")
        report(f"{count} transactions are open in group {group}: trying again")
        await asyncio.sleep(BETWEEN_S * tried)
    raise DeployError(
        f"transactions stay open in group {group}: {seen}",
        hint="Try again when they have ended, or end them.",
    )


def _open(row: Sequence[str | None]) -> tuple[int, str]:
    return int(row[0] or 0), row[1] or ""


async def _hand_over(config: NodeConfig, lender: Primaries, leader: Member, chosen: Member) -> None:
    """Ask Patroni, and wait until `chosen` takes writes. Raises DeployError with Patroni's reason."""
    asked = asyncio.create_task(
        asyncio.to_thread(patroni_api.switchover, at(config, leader), leader.name, chosen.name)
    )
    deadline = time.monotonic() + DONE_S
    try:
        while not await _writes(lender, chosen):
            if asked.done() and (error := asked.exception()) is not None:
                raise error
            if time.monotonic() > deadline:
                raise DeployError(
                    f"node {chosen.name} is no primary after {DONE_S:.0f} s", hint="See pgherd status."
                )
            await asyncio.sleep(POLL_S)
    finally:
        asked.cancel()
        with suppress(PgherdError, asyncio.CancelledError):
            await asked


async def _writes(lender: Primaries, member: Member) -> bool:
    try:
        link = await lender.connect(member)
    except PgherdError:
        return False
    link.close()
    return True
