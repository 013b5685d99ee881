"""Random SQL: the cluster answers what one PostgreSQL with the same rows answers, or refuses with a hint (writes only)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from tests.integration.client_world import make
from tests.properties.sql_grammar import RELATIONS, Sql, reads, writes

import pgherd
from pgherd.client import Database, statements
from pgherd.errors import PgherdError, Refused
from pgherd.testing.servers import Yard

T = TypeVar("T")
READS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
WRITES = settings(READS, max_examples=100)


@dataclass(slots=True)
class Twins:
    """Both databases, open for all examples. `kinds`: how often each kind of plan was tried."""

    runner: asyncio.Runner
    db: Database
    plain: Any
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(job)

    def count(self, sql: Sql) -> None:
        self.kinds[type(statements.one(self.db.plans, sql.text, ("public",))).__name__] += 1


@pytest.fixture(scope="module")
def twins(yard: Yard) -> Iterator[Twins]:
    world = make(yard)
    with asyncio.Runner() as runner:

        async def opened() -> tuple[Any, Any]:
            return await pgherd.connect(world.dsn), await asyncpg.connect(world.plain)

        db, plain = runner.run(opened())
        yield Twins(runner, db, plain)
        runner.run(db.close())
        runner.run(plain.close())


async def answer(target: Any, sql: Sql) -> list[tuple[Any, ...]] | str:
    """The rows, or the SQLSTATE."""
    try:
        rows = [tuple(row) for row in await target.fetch(sql.text, *sql.args)]
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    return rows if sql.ordered else sorted(rows, key=repr)


@READS
@given(sql=reads())
def test_reads(twins: Twins, sql: Sql) -> None:
    note(f"{sql.text}\n{sql.args}")

    async def main() -> None:
        twins.count(sql)
        assert await answer(twins.db, sql) == await answer(twins.plain, sql)

    twins.run(main())


def test_reads_were_of_every_kind(twins: Twins) -> None:
    assert {"Single", "OneGroup", "Gather", "Federated"} <= set(twins.kinds), twins.kinds


@WRITES
@example(script=[Sql("UPDATE people SET last_name = 'M' || last_name WHERE id < 3 RETURNING id, age")])
@example(script=[Sql("UPDATE orders SET user_id = user_id + 1, no = no + 50 WHERE user_id < $1", (9,))])
@example(script=[Sql("INSERT INTO users (id, name) VALUES (50, 'a'), ($1, 'b'), (52, upper('c'))", (51,))])
@example(
    script=[Sql("INSERT INTO people (last_name, id) SELECT name, id FROM users"), Sql("DELETE FROM people")]
)
@given(script=st.lists(writes(), min_size=1, max_size=3))
def test_writes(twins: Twins, script: list[Sql]) -> None:
    """In a transaction on each side, which is then rolled back; what was written is compared inside."""

    async def main() -> None:
        ours, theirs = twins.db.transaction(), twins.plain.transaction()
        await ours.start()
        await theirs.start()
        try:
            await compared()
        finally:
            await ours.rollback()
            await theirs.rollback()

    async def compared() -> None:
        for sql in script:
            note(f"{sql.text}\n{sql.args}")
            try:
                twins.count(sql)
                found = await answer(twins.db, sql)
            except Refused as error:
                assert error.hint, error.message
                twins.refused[error.message] += 1
                return
            except PgherdError as error:
                found = error.sqlstate
            expected = await answer(twins.plain, sql)
            assert found == expected
            if isinstance(expected, str):
                return
        for relation in RELATIONS:
            whole = Sql(f"SELECT * FROM {relation.name}")
            assert await answer(twins.db, whole) == await answer(twins.plain, whole), relation.name

    twins.run(main())


def test_writes_were_of_every_kind(twins: Twins) -> None:
    wanted = {"Single", "OneGroup", "Scatter", "InsertRows", "InsertSelect", "MoveRows", "ReferenceWrite"}
    assert wanted <= set(twins.kinds), twins.kinds
    assert sum(twins.refused.values()) < 40, twins.refused
