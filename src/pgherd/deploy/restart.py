"""A restart of one node's PostgreSQL: through Patroni, and after a switchover if it is a primary that has a successor."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from pgherd.backend.etcd import Member
from pgherd.deploy import patroni_api
from pgherd.deploy.members import Primaries, Report, at
from pgherd.deploy.node_config import NodeConfig
from pgherd.deploy.switchover import Switched, switchover
from pgherd.errors import DeployError

BACK_S = 60.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """What a restart did: whether the node's group changed its primary before, and whether that had to go without writes."""

    node: str
    switched: Switched | None
    interrupted: bool


async def restart(config: NodeConfig, name: str, report: Report) -> Restarted:
    """Restart the PostgreSQL of node `name`. `config`: settings of any node of the cluster. Raises DeployError."""
    lender = Primaries(config)
    announced = await asyncio.to_thread(lender.announced)
    member = next((each for each in announced if each.name == name), None)
    if member is None:
        known = ", ".join(each.name for each in announced) or "none"
        raise DeployError(f"there is no node {name} that runs", hint=f"Nodes that run: {known}.")
    switched, interrupted = None, False
    if member.leader:
        if await _has_successor(config, member):
            switched = await switchover(config, member.group, None, report)
            await _back(config, lender, name)
        else:
            interrupted = True
    report(f"restarting PostgreSQL of {name}")
    await asyncio.to_thread(patroni_api.restart, at(config, member))
    await _back(config, lender, name)
    return Restarted(node=name, switched=switched, interrupted=interrupted)


async def _has_successor(config: NodeConfig, leader: Member) -> bool:
    status = await asyncio.to_thread(patroni_api.status, at(config, leader))
    return status is not None and any(word in patroni_api.IN_STEP for word in status.standbys.values())


async def _back(config: NodeConfig, lender: Primaries, name: str) -> None:
    """Wait until the node runs again: as the primary, or streaming from it. Raises DeployError."""
    deadline = time.monotonic() + BACK_S
    while not await asyncio.to_thread(_runs, config, lender, name):
        if time.monotonic() > deadline:
            raise DeployError(f"node {name} is not back after {BACK_S:.0f} s", hint="See its log.")
        await asyncio.sleep(POLL_S)


def _runs(config: NodeConfig, lender: Primaries, name: str) -> bool:
    announced = lender.announced()
    mine = next((member for member in announced if member.name == name), None)
    if mine is None:
        return False
    if mine.leader:
        status = patroni_api.status(at(config, mine))
        return status is not None and status.leads
    leader = next((member for member in announced if member.group == mine.group and member.leader), None)
    status = patroni_api.status(at(config, leader)) if leader else None
    return status is not None and name in status.standbys
