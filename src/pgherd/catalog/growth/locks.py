"""Keep writers of reference tables away while a group joins or leaves."""

from __future__ import annotations

import asyncio
from typing import Final

from pgherd.catalog.ddl.change import Change
from pgherd.catalog.model import Table
from pgherd.catalog.text import qualified
from pgherd.errors import DeployError, ServerError

LOCK_TRY_S: Final = (
    0.4  # less than deadlock_timeout: who waits in a circle with us shall not be the one to fail
)
LOCK_REST_S: Final = 0.2


async def lock_reference_tables(change: Change, lock_s: float) -> list[Table]:
    """SHARE on all reference tables, in short tries: who waits behind ours is not held up for long, and deadlocks are ours to lose.

    Answers the tables. Raises DeployError beyond `lock_s`.
    """
    tables = [table for table in change.cluster.tables.values() if table.kind == "reference"]
    tables.sort(key=lambda table: (table.schema, table.name))
    names = ", ".join(qualified(table.schema, table.name) for table in tables)
    home, clock = change.home, asyncio.get_running_loop()
    deadline = clock.time() + lock_s
    await home.run("SET LOCAL row_security = off")
    while tables:
        await home.run(f"SAVEPOINT pgherd_lock; SET LOCAL lock_timeout = {int(LOCK_TRY_S * 1000)}")
        try:
            await home.run(f"LOCK TABLE ONLY {names} IN SHARE MODE")
            break
        except ServerError as error:
            if error.code != "55P03":
                raise
            if clock.time() > deadline:
                raise DeployError(
                    f"a transaction has been writing to a reference table for longer than {lock_s:g} s",
                    hint="End it, and try again. SELECT * FROM pg_stat_activity shows it.",
                ) from error
        await home.run("ROLLBACK TO SAVEPOINT pgherd_lock")
        await asyncio.sleep(LOCK_REST_S)
    await home.run(f"SET LOCAL lock_timeout = {int(lock_s * 1000)}")
    return tables
