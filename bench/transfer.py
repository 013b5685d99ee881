"""A transfer between two groups, against one inside one server and against bare two-phase commit by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pgherd
from bench.accounts import TOTAL, accounts, hands, through_asyncpg, through_client
from bench.contest import Contestant, Step, Terms, Turn, contest, side_by_side
from bench.figures import Aim, Figure
from bench.ground import Ground, close, connections

PLACE = "grouped"
NOTE = (
    "two updates in one transaction, 8 tasks, asyncpg and uvloop everywhere, durable. by hand: PREPARE on both, COMMIT PREPARED "
    "on both, no decision kept; pgherd keeps one, and is atomic whatever is killed"
)


async def run(ground: Ground) -> list[Figure]:
    """Client and gateway, each beside the same two others."""
    made = await accounts(ground)
    place, effort = ground.grouped, ground.effort
    terms = Terms(rounds=effort.rounds, seconds=effort.seconds, watch=place.watch)
    by_hand, held = await hands(made, effort.clients)
    straight = await connections(place.straight, effort.clients)
    gateway = await connections(place.dsn, effort.clients)
    aims = [Aim(against="by hand", least=0.9)]
    async with pgherd.connect(place.dsn, max_size=effort.clients) as db:
        others = [
            Contestant("by hand", _turns(by_hand)),
            Contestant("one server", _turns([through_asyncpg(made, connection) for connection in straight])),
        ]
        client = Contestant("pgherd client", _turns([through_client(made, db)] * effort.clients))
        ways = [through_asyncpg(made, connection) for connection in gateway]
        through = Contestant("pgherd gateway", _turns(ways), ("client", "gateway", "server"))
        figures = [
            await contest("transfer", "through the client", [client, *others], terms, aims, NOTE),
            await contest("transfer", "through the gateway", [through, *others], terms, aims, NOTE),
        ]
        if await db.fetchval(TOTAL) != made.total:
            raise RuntimeError("money was made or lost")
    await close([*held, *straight, *gateway])
    return figures


def _turns(steps: list[Step]) -> Callable[[float], Awaitable[Turn]]:
    async def turn(seconds: float) -> Turn:
        return await side_by_side(steps, seconds)

    return turn
