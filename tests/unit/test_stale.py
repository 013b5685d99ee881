"""Which server errors mean an old cluster map."""

from __future__ import annotations

import pytest

from pgherd.engine.stale import is_stale, surely_stale
from pgherd.errors import GroupDown, ServerError, StaleMap

CASES = [
    ("PH001", "the metadata's epoch is another", "", True, True),
    ("55000", 'foreign table "users" does not allow inserts', "", True, True),
    ("55000", "sequence is not yet defined", "", False, False),
    ("23514", 'new row for relation "users" violates partition constraint', "shard_3", True, False),
    ("23514", 'new row for relation "users" violates partition constraint', "app", False, False),
    ("23514", 'new row for relation "users" violates check constraint "c"', "shard_3", False, False),
    (
        "42P10",
        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        "",
        True,
        False,
    ),
    ("42P01", 'relation "shard_3.users" does not exist', "", True, True),
    ("42P01", 'relation "shard_3_sales.users" does not exist', "", True, True),
    ("42P01", 'relation "users" does not exist', "", False, False),
    ("3F000", 'schema "shard_12" does not exist', "", True, True),
    ("23505", "duplicate key", "shard_3", False, False),
]


@pytest.mark.parametrize(("code", "message", "schema", "maybe", "surely"), CASES)
def test_server_errors(code: str, message: str, schema: str, maybe: bool, surely: bool) -> None:
    error = ServerError({"C": code, "M": message, "s": schema})
    assert (is_stale(error), surely_stale(error)) == (maybe, surely)


def test_own_errors() -> None:
    assert is_stale(StaleMap("old")) and surely_stale(StaleMap("old"))
    assert not is_stale(GroupDown("gone")) and not surely_stale(ValueError())
