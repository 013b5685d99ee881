"""Keys in Python against PostgreSQL itself: the same hash, order, input and binary form. Values go in batches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

import asyncpg
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.catalog import keys
from pgherd.catalog.calendar import TIME_AFTER_ALL, TIME_BEFORE_ALL
from pgherd.deploy.server import Server
from pgherd.errors import BadKey

few = settings(max_examples=30, deadline=None)
MODULUS = 1_000_003

strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
numbers = st.decimals(allow_nan=True, allow_infinity=True, places=None) | st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(-(10**18), 10**18),
    st.integers(-40, 40),
)
CANONICAL: dict[str, st.SearchStrategy[Any]] = {
    "text": strings,
    "character varying": strings,
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "uuid": st.binary(min_size=16, max_size=16),
    "date": st.integers(-2451545, 2145031948) | st.sampled_from([-(2**31), 2**31 - 1]),
    "timestamp without time zone": st.integers(-211813488000000000, 9223371331199999999)
    | st.sampled_from([TIME_BEFORE_ALL, TIME_AFTER_ALL]),
    "timestamp with time zone": st.integers(-211813488000000000, 9223371331199999999)
    | st.sampled_from([TIME_BEFORE_ALL, TIME_AFTER_ALL]),
    "numeric": numbers.filter(
        lambda n: not n.is_snan() and (not n.is_finite() or -500 < n.adjusted() < 500)
    ).map(lambda n: (1, Decimal(0)) if n.is_nan() else (0, n)),
}
SEND = {
    "text": "textsend", "character varying": "varcharsend", "smallint": "int2send", "integer": "int4send",
    "bigint": "int8send", "uuid": "uuid_send", "date": "date_send", "timestamp without time zone": "timestamp_send",
    "timestamp with time zone": "timestamptz_send", "numeric": "numeric_send",
}  # fmt: skip
assert CANONICAL.keys() == keys.KEY_TYPES == SEND.keys()

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def db(server: Server) -> Iterator[Connection]:
    with psycopg.connect(server.uri(), autocommit=True) as connection:
        ask(connection, "SET TimeZone = 'UTC'")
        for at, kind in enumerate(sorted(keys.KEY_TYPES)):
            ask(connection, f"CREATE TEMP TABLE hashed_{at} (k {kind}) PARTITION BY HASH (k)")
        yield connection


def ask(db: Connection, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    text: LiteralString = sql  # type: ignore[assignment]
    cursor = db.execute(text, args)
    return cursor.fetchall() if cursor.description else []


def in_order(db: Connection, kind: str, texts: Sequence[str]) -> list[int]:
    """The positions (from 1) of `texts` in PostgreSQL's order, equal ones in the order given."""
    sql = f"SELECT i FROM unnest(%s::text[]) WITH ORDINALITY AS t(v, i) ORDER BY v::{kind}, i"
    return [row[0] for row in ask(db, sql, list(texts))]


@pytest.mark.parametrize("kind", sorted(keys.KEY_TYPES))
@few
@given(data=st.data())
def test_hash_order_text_and_binary(db: Connection, kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(CANONICAL[kind], min_size=1, max_size=40))
    texts = [keys.encode_text(kind, value) for value in values]
    assert [keys.decode_text(kind, text) for text in texts] == values

    at = sorted(keys.KEY_TYPES).index(kind)
    remainders = [keys.partition_hash((kind,), (value,)) % MODULUS for value in values]
    rows = ask(
        db,
        f"SELECT satisfies_hash_partition('hashed_{at}'::regclass, {MODULUS}, r, v::{kind}), v::{kind}::text, {SEND[kind]}(v::{kind})"
        " FROM unnest(%s::text[], %s::int[]) WITH ORDINALITY AS t(v, r, i) ORDER BY i",
        texts,
        remainders,
    )
    assert [row[0] for row in rows] == [True] * len(values)
    assert [row[1] for row in rows] == texts
    assert [keys.decode_binary(kind, 0, row[2]) for row in rows] == values

    ours = sorted(range(1, len(values) + 1), key=lambda number: values[number - 1])
    assert ours == in_order(db, kind, texts)


def test_one_wrong_remainder_would_be_noticed(db: Connection) -> None:
    at = sorted(keys.KEY_TYPES).index("text")
    right = keys.partition_hash(("text",), ("Smith",)) % MODULUS
    sql = f"SELECT satisfies_hash_partition('hashed_{at}'::regclass, {MODULUS}, %s, 'Smith'::text)"
    assert [ask(db, sql, remainder) for remainder in (right, right ^ 1)] == [[(True,)], [(False,)]]


@few
@given(st.data())
def test_hash_of_several_columns(db: Connection, data: st.DataObject) -> None:
    kinds = tuple(data.draw(st.lists(st.sampled_from(sorted(keys.KEY_TYPES)), min_size=2, max_size=4)))
    rows = data.draw(st.lists(st.tuples(*(CANONICAL[kind] for kind in kinds)), min_size=1, max_size=15))
    names = [f"c{at}" for at in range(len(kinds))]
    ask(db, "DROP TABLE IF EXISTS several")
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
    ask(db, f"CREATE TEMP TABLE several ({columns}) PARTITION BY HASH ({', '.join(names)})")
    casts = ", ".join(f"{name}::{kind}" for name, kind in zip(names, kinds, strict=True))
    sql = f"SELECT satisfies_hash_partition('several'::regclass, {MODULUS}, r, {casts}) FROM unnest(%s::int[]{', %s::text[]' * len(names)}) AS t(r, {', '.join(names)})"
    remainders = [keys.partition_hash(kinds, row) % MODULUS for row in rows]
    texts = [[keys.encode_text(kind, row[at]) for row in rows] for at, kind in enumerate(kinds)]
    assert ask(db, sql, remainders, *texts) == [(True,)] * len(rows)


SEEDS = {
    "integer": ["1", " +5 ", "-0x1F", "0b11", "0o17", "1_000", "007", "2147483648", "-2147483648", "1.0", "", "1 2"],
    "smallint": ["32767", "32768", "-32768", "0x8000"],
    "bigint": ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"],
    "uuid": [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ],
    "date": ["2020-02-29", "infinity", "0044-03-15 BC", "5874897-12-31", "4714-11-24 BC", "0000-01-01", "20200101"],
    "timestamp without time zone": ["2020-01-01 10:20:30.123456", "2020-01-01T24:00", "-infinity", "0001-01-01 00:00 BC"],
    "timestamp with time zone": ["2020-01-01 00:00:00+05:30", "2020-01-01 00:00Z", "294276-12-31 23:59:59+00", "2020-01-01 1:00"],
    "numeric": ["1.50", "-.5e3", "1.", "NaN", "-Infinity", "+inf", "1_0", "0x1F", "1e-400", ".", "-0.00"],
}  # fmt: skip


def scribbled(kind: str, chance: random.Random) -> str:
    """A text that is nearly, and sometimes really, of the type."""
    text = list(chance.choice(SEEDS[kind]))
    for _ in range(chance.choice((0, 1, 1, 2))):
        at = chance.randrange(len(text) + 1)
        text[at : at + chance.randrange(2)] = chance.choice("0159+-_.:xXeE tTzZbBcC{}\t\v\u0663\u00a0/")
    return "".join(text)


@pytest.mark.parametrize("kind", sorted(SEEDS))
def test_input_is_read_as_postgres_reads_it_or_not_at_all(db: Connection, kind: str) -> None:
    chance = random.Random(f"{kind} 1")
    texts = SEEDS[kind] + [scribbled(kind, chance) for _ in range(1500)]
    sql = (
        f"SELECT CASE WHEN (e).message IS NULL THEN t::{kind}::text END, (e).message, (e).sql_error_code"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS u(t, i), LATERAL (SELECT pg_input_error_info(t, %s) AS e) AS x ORDER BY i"
    )
    understood = 0
    for text, (shown, message, code) in zip(texts, ask(db, sql, texts, kind), strict=True):
        try:
            assert keys.encode_text(kind, keys.decode_text(kind, text)) == shown, text
            understood += 1
        except BadKey as error:
            assert code is not None, f"{text!r} is valid"
            if code == error.sqlstate:
                assert error.message == message
        except keys.Undecodable:
            pass
    assert understood > 200


@few
@given(st.data())
def test_python_values_as_asyncpg_sends_them(server: Server, data: st.DataObject) -> None:
    offsets = st.integers(-15 * 60, 15 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    edges = [datetime.max, datetime.min]
    aware = st.datetimes(datetime(3, 1, 1), datetime(9990, 1, 1), timezones=offsets | st.just(UTC))
    python: dict[str, st.SearchStrategy[Any]] = {
        "text": strings,
        "bigint": CANONICAL["bigint"],
        "uuid": st.uuids() | st.uuids().map(str),
        "date": st.dates() | st.sampled_from([date.max, date.min]),
        "timestamp": st.datetimes() | st.dates() | st.sampled_from(edges),
        "timestamptz": aware | st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)) | st.sampled_from(
            [moment.replace(tzinfo=UTC) for moment in edges]
        ),
        "numeric": numbers.filter(lambda n: not n.is_snan() and (not n.is_finite() or -300 < n.adjusted() < 300))
        | st.integers(-(10**30), 10**30),
    }  # fmt: skip
    kind = data.draw(st.sampled_from(sorted(python)))
    values = data.draw(st.lists(python[kind], min_size=1, max_size=20))
    full = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}.get(
        kind, kind
    )

    async def sent() -> list[str]:
        connection = await asyncpg.connect(server.uri())
        try:
            await connection.execute("SET TimeZone = 'UTC'")
            rows = await connection.fetch(f"SELECT v::text FROM unnest($1::{kind}[]) AS t(v)", values)
            return [row[0] for row in rows]
        finally:
            await connection.close()

    assert [keys.decode_python(full, value) for value in values] == [
        keys.decode_text(full, text) for text in asyncio.run(sent())
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", 1), ("integer", "1"), ("integer", 1.0), ("integer", True), ("uuid", 5), ("date", "2020-01-01"),
        ("uuid", "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), ("numeric", "x"), ("money", 1), ("text", "a\0"),
        ("timestamp without time zone", datetime(2020, 1, 1, tzinfo=UTC)), ("numeric", Decimal("1e5000")),
    ],
)  # fmt: skip
def test_python_values_that_are_left_to_the_server(kind: str, value: Any) -> None:
    with pytest.raises(keys.Undecodable):
        keys.decode_python(kind, value)


@given(
    st.sampled_from(sorted(keys.KEY_TYPES)),
    st.sampled_from([0, 20, 23, 25, 1043, 1700, 2950, 1082]),
    st.binary(max_size=24),
)
def test_binary_noise(kind: str, oid: int, data: bytes) -> None:
    try:
        keys.encode_text(kind, keys.decode_binary(kind, oid, data))
    except keys.Undecodable:
        return


def test_families() -> None:
    assert keys.decode_binary("integer", 20, (5).to_bytes(8)) == 5
    assert keys.decode_binary("text", 19, b"name") == "name"
    for kind, oid in (("integer", 1700), ("text", 1042), ("date", 1114), ("uuid", 25), ("point", 0)):
        assert not keys.same_family(kind, oid)
    assert keys.decode_python("uuid", UUID(int=7)) == (7).to_bytes(16)
