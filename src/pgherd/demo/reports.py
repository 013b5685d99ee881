"""The story's second half: queries of one shard, reports over all, and how unequal the shards have become."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping

from pgherd.demo.people import SEED
from pgherd.demo.place import ask_command
from pgherd.demo.screen import duration
from pgherd.demo.session import Session

LOOKUPS = 1_000
LOOKUP = "SELECT first_name FROM people WHERE last_name = $1 AND id = $2"

REVENUE = """SELECT pr.name, sum(o.quantity) AS sold, sum(o.quantity * pr.price) AS revenue
FROM people p
JOIN orders o ON o.last_name = p.last_name AND o.person_id = p.id
JOIN products pr ON pr.id = o.product_id
WHERE p.joined = '2026-06-13'
GROUP BY pr.name ORDER BY revenue DESC"""

YOUNG = """SELECT p.first_name, count(*)
FROM people p
JOIN orders o ON o.last_name = p.last_name AND o.person_id = p.id
WHERE p.last_name = 'Young' AND p.id < 10000
GROUP BY 1"""

SWAPPED = """SELECT a.first_name || ' ' || a.last_name AS one, b.first_name || ' ' || b.last_name AS other, count(*)
FROM people a
JOIN people b ON b.first_name = a.last_name AND b.last_name = a.first_name AND a.last_name < b.last_name
WHERE a.joined < '2026-06-13' AND b.joined < '2026-06-13'
GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT 5"""

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
    await session.explain(YOUNG)
    chance = random.Random(SEED)
    wanted = [chance.randrange(crowd.people) for _ in range(LOOKUPS)]
    lookup = await session.connection.prepare(LOOKUP)
    started = time.monotonic()
    for person in wanted:
        await lookup.fetchval(crowd.last_names[person], person + 1)
    each = (time.monotonic() - started) / LOOKUPS
    screen.say(
        f"{LOOKUPS:,} look-ups of random people through the gateway, one after another: {duration(each)} each."
    )
    started = time.monotonic()
    for person in wanted:
        await session.client.fetchval(LOOKUP, crowd.last_names[person], person + 1)
    each = (time.monotonic() - started) / LOOKUPS
    screen.say(
        f"The same through pgherd's Python client, which goes to the shards' owners directly: {duration(each)} each."
    )


async def whole(session: Session) -> None:
    """Reports over all shards."""
    screen = session.screen
    screen.chapter("Reports over the whole database")
    screen.say(
        "Each server computes its part; only sums and candidates travel, and PostgreSQL combines them."
    )
    await session.query("SELECT count(*), min(joined), max(joined), sum(credit) FROM people", show_route=True)
    screen.say("How that went:")
    await session.explain("SELECT count(*), sum(credit) FROM people")
    screen.say("The most frequent surnames and first names:")
    await session.query("SELECT last_name, count(*) FROM people GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10")
    await session.query("SELECT first_name, count(*) FROM people GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5")
    screen.say(
        "What the customers of that night have bought: a join of three tables, beside each other on each server:"
    )
    await session.query(REVENUE, show_route=True)
    screen.say("The ten best customers:")
    await session.query(CUSTOMERS, show_route=True)
    screen.say(
        "And what cannot be divided by the key: early customers whose names are each other's, swapped. Whatever SQL it "
        "is, it runs: on one server, which reads the other one's rows through postgres_fdw."
    )
    await session.query(SWAPPED, show_route=True)


async def unequal(session: Session) -> None:
    """How much is in each shard."""
    screen = session.screen
    screen.chapter("How unequal the shards are")
    measured = json.loads(await ask_command(session.place, "shards", "--exact", "--json"))
    for table in ("people", "orders"):
        lines = [line for line in measured if line["table"] == table]
        total = sum(line["rows"] for line in lines) or 1
        screen.bars(
            [
                (
                    f"{table}, {line['holds']}",
                    line["rows"],
                    f"{100 * line['rows'] / total:.0f} %, {line['bytes'] / 1e6:.0f} MB, group {line['group']}",
                )
                for line in lines
            ]
        )
    names = await session.connection.fetch("SELECT last_name, count(*) AS people FROM people GROUP BY 1")
    most = max(names, key=lambda row: row["people"])
    screen.say(
        "The alphabet has two halves, but names don't fall into them evenly. People by the first letter of their last "
        "name, and the letter's most frequent name:"
    )
    screen.bars(_letters({row["last_name"]: row["people"] for row in names}))
    screen.say(
        f"One name alone, {most['last_name']}, is {most['people']:,} people. Where one name is too much for a server, "
        "a key of (last_name, id) can be cut inside it."
    )


def _letters(names: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """A bar for each first letter: its people, and its most frequent name."""
    bars: list[tuple[str, int, str]] = []
    for letter in sorted({name[0] for name in names}):
        group = {name: people for name, people in names.items() if name[0] == letter}
        bars.append((letter, sum(group.values()), max(group, key=lambda name: group[name])))
    return bars
