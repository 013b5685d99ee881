"""The story's last part: transactions over both servers, and reports that never see half of one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from pgherd.demo.people import SEED
from pgherd.demo.session import Session
from pgherd.errors import PgherdError

WRITERS = 4
SECONDS_MAX = 4.0

TRANSFER = """BEGIN;
UPDATE people SET credit = credit - {amount} WHERE last_name = '{payer[0]}' AND id = {payer[1]};
UPDATE people SET credit = credit + {amount} WHERE last_name = '{payee[0]}' AND id = {payee[1]};
SELECT pgherd.transaction_id();
COMMIT;"""

Person = tuple[str, int]


@dataclass(slots=True)
class Tally:
    """What happened: transfers (over both servers, in one, given up), and the totals that reports saw."""

    across: int = 0
    within: int = 0
    failed: int = 0
    totals: list[int] = field(default_factory=list[int])


async def acid(session: Session) -> None:
    """A transfer, one that fails, and many beside reports."""
    screen = session.screen
    screen.chapter("Transactions over both servers")
    payer, payee = await _somebody(session, "Anderson"), await _somebody(session, "Young")
    screen.say(
        f"{payer[0]} gives {payee[0]} 30 of credit. They are on different servers; it is still one transaction:"
    )
    number = await _transfer_shown(session, payer, payee, 30)
    screen.say("Whoever loses the connection at COMMIT can ask how it ended, by that id:")
    await session.query(f"SELECT * FROM pgherd.transaction_status('{number}')")
    screen.say("More than there is: PostgreSQL's CHECK refuses, and neither server keeps anything of it.")
    await _transfer_shown(session, payee, payer, 10_000)
    await _under_load(session)


async def _under_load(session: Session) -> None:
    seconds = max(1.0, min(SECONDS_MAX, session.crowd.people / 250_000))
    session.screen.say(
        f"Now {WRITERS} connections move credit between random people for {seconds:.0f} s, while another one adds up "
        "all credit on both servers, again and again. Each report reads one consistent snapshot of both, so the sum "
        "never moves:"
    )
    tally = await _storm(session, seconds)
    totals = sorted(set(tally.totals))
    session.screen.console.print()
    session.screen.rows(
        ["transfers", "of them over both servers", "given up", "reports", "sums that the reports saw"],
        [(tally.across + tally.within, tally.across, tally.failed, len(tally.totals), _listed(totals))],
    )
    if len(totals) != 1:
        raise PgherdError(
            f"the reports saw {len(totals)} different sums: a snapshot was not consistent",
            hint="This is a bug in pgherd: please report it.",
        )


def _listed(totals: Sequence[int]) -> str:
    shown = ", ".join(f"{total:,}" for total in totals[:3])
    return f"{shown} …" if len(totals) > 3 else shown


async def _somebody(session: Session, last_name: str) -> Person:
    number: Any = await session.connection.fetchval(
        "SELECT min(id) FROM people WHERE last_name = $1", last_name
    )
    return last_name, number


async def _transfer_shown(session: Session, payer: Person, payee: Person, amount: int) -> str:
    """Carry out a transfer and show what became of both; answers the transaction's id."""
    session.screen.sql(TRANSFER.format(payer=payer, payee=payee, amount=amount))
    number = ""
    try:
        number = await transfer(session.connection, payer, payee, amount)
        session.screen.lines([f"transaction_id: {number}"])
    except asyncpg.CheckViolationError as error:
        session.screen.lines([f"ERROR:  {error.args[0]}"])
    rows = await session.connection.fetch(
        "SELECT last_name, id, credit FROM people WHERE (last_name, id) IN (($1, $2), ($3, $4)) ORDER BY 1",
        *payer,
        *payee,
    )
    session.screen.rows(["last_name", "id", "credit"], [(row[0], row[1], row[2]) for row in rows])
    return number


async def transfer(connection: asyncpg.Connection, payer: Person, payee: Person, amount: int) -> str:
    """Move credit and answer the transaction's id. Raises asyncpg.CheckViolationError if the payer has too little."""
    change = "UPDATE people SET credit = credit + $3 WHERE last_name = $1 AND id = $2"
    async with connection.transaction():
        await connection.execute(change, *payer, -amount)
        await connection.execute(change, *payee, amount)
        number: Any = await connection.fetchval("SELECT pgherd.transaction_id()")
    return number


async def _storm(session: Session, seconds: float) -> Tally:
    """Transfers and reports side by side."""
    tally = Tally()
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(WRITERS):
            tasks.create_task(_write(session, random.Random(f"{SEED} {number}"), until, tally))
        tasks.create_task(_report(session, until, tally))
    return tally


async def _write(session: Session, chance: random.Random, until: float, tally: Tally) -> None:
    names = session.crowd.last_names
    connection = await asyncpg.connect(session.place.dsn)
    try:
        while time.monotonic() < until:
            payer, payee = sorted(chance.sample(range(len(names)), 2))
            pair = [(names[person], person + 1) for person in (payer, payee)]
            try:
                await transfer(connection, pair[0], pair[1], chance.randint(1, 20))
            except (asyncpg.CheckViolationError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                tally.failed += 1
            else:
                across = (pair[0][0] < "N") != (pair[1][0] < "N")
                tally.across += across
                tally.within += not across
    finally:
        await connection.close()


async def _report(session: Session, until: float, tally: Tally) -> None:
    while time.monotonic() < until:
        total: Any = await session.connection.fetchval("SELECT sum(credit) FROM people")
        tally.totals.append(total)
