"""The story's second half: queries of one shard, reports over all, and how unequal the shards have become."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

from pgherd.demo.people import SEED
from pgherd.demo.screen import duration
from pgherd.demo.session import Session
from pgherd.errors import DeployError

LOOKUPS = 1_000

REVENUE = """SELECT pr.name, sum(o.quantity) AS sold, sum(o.quantity * pr.price) AS revenue
FROM people p
JOIN orders o ON o.last_name = p.last_name AND o.person_id = p.id
JOIN products pr ON pr.id = o.product_id
WHERE p.joined = '2026-06-13'
GROUP BY pr.name ORDER BY revenue DESC"""

CUSTOMERS = """SELECT p.first_name, p.last_name, p.id, sum(o.quantity * pr.price) AS spent
FROM people p
JOIN orders o ON o.last_name = p.last_name AND o.person_id = p.id
JOIN products pr ON pr.id = o.product_id
GROUP BY p.last_name, p.id, p.first_name ORDER BY spent DESC, p.id LIMIT 10"""


async def one_shard(session: Session) -> None:
    """Statements that name their key."""
    screen, crowd = session.screen, session.crowd
    screen.chapter("Queries that touch only the shard they need")
    screen.say("A query that fixes the last name goes to one server, and to that shard's own table there:")
    person = crowd.people // 2
    name = crowd.last_names[person - 1]
    await session.explain(f"SELECT * FROM people WHERE last_name = '{name}' AND id = {person}")
    screen.say("So does a join of the two tables on their key, and the other server never hears of it:")
    joined = "FROM people p JOIN orders o ON o.last_name = p.last_name AND o.person_id = p.id"
    await session.explain(f"SELECT p.first_name, count(*) {joined} WHERE p.last_name = 'Young' GROUP BY 1")
    chance = random.Random(SEED)
    wanted = [chance.randrange(crowd.people) for _ in range(LOOKUPS)]
    lookup = await session.connection.prepare(
        "SELECT first_name FROM people WHERE last_name = $1 AND id = $2"
    )
    started = time.monotonic()
    for person in wanted:
        await lookup.fetchval(crowd.last_names[person], person + 1)
    each = (time.monotonic() - started) / LOOKUPS
    screen.say(
        f"{LOOKUPS:,} look-ups of random people through the gateway, one after another: {duration(each)} each."
    )


async def whole(session: Session) -> None:
    """Reports over all shards."""
    screen = session.screen
    screen.chapter("Reports over the whole database")
    screen.say(
        "Each server computes its part; only sums and candidates travel, and PostgreSQL combines them."
    )
    await session.query("SELECT count(*), min(joined), max(joined), sum(credit) FROM people", show_route=True)
    screen.say("The most frequent surnames and first names:")
    await session.query("SELECT last_name, count(*) FROM people GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10")
    await session.query("SELECT first_name, count(*) FROM people GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5")
    screen.say(
        "What the customers of that night have bought: a join of three tables, beside each other on each server:"
    )
    await session.query(REVENUE, show_route=True)
    screen.say("The ten best customers:")
    await session.query(CUSTOMERS)


async def unequal(session: Session) -> None:
    """How much is in each shard."""
    screen = session.screen
    screen.chapter("How unequal the shards are")
    measured = await _shards(session)
    for table in ("people", "orders"):
        lines = [line for line in measured if line["table"] == table]
        total = sum(line["rows"] for line in lines) or 1
        screen.bars(
            [
                (
                    f"{table}, shard {line['shard']}: {line['holds']}",
                    line["rows"],
                    f"{100 * line['rows'] / total:.1f} %, {line['bytes'] / 1e6:.0f} MB, group {line['group']}",
                )
                for line in lines
            ]
        )
    letters = await session.connection.fetch(
        "SELECT left(last_name, 1) AS letter, count(*), mode() WITHIN GROUP (ORDER BY last_name) AS name "
        "FROM people GROUP BY 1 ORDER BY 1"
    )
    screen.say(
        "The alphabet has two halves, but people's names don't fall into them evenly. By first letter:"
    )
    screen.bars([(row["letter"], row["count"], row["name"]) for row in letters])
    screen.say(
        "The last column is the letter's most frequent name. Cutting at another letter helps until one name is too\n"
        "much for one server; a key of (last_name, id) can be cut inside a name."
    )


async def _shards(session: Session) -> list[dict[str, Any]]:
    """What `pgherd shards --exact --json` says."""
    program = [sys.executable, "-c", "from pgherd.cli import main; main()"]
    words = ["shards", "--exact", "--json", "--state", str(session.place.directory)]
    process = await asyncio.create_subprocess_exec(
        *program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, errors = await process.communicate()
    if process.returncode:
        raise DeployError(f"pgherd shards failed: {errors.decode().strip()}")
    return json.loads(told)
