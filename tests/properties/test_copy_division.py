"""COPY divided by us against COPY into a partitioned table: PostgreSQL is the twin that says which row goes where.

The same bytes are copied whole into a table with one partition for each shard, and in the divided streams into a plain table
for each shard: both must then hold the same rows in the same order.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from pgherd.catalog.model import GroupId, Key, Keyspace, KeyspaceId, Shard, ShardId
from pgherd.deploy.server import Server
from pgherd.engine.copy import CopyDivider, CopyJoiner, LineDivider
from pgherd.engine.copy_binary import HEADER, BinaryDivider
from pgherd.engine.copy_fields import Shape, value_of
from pgherd.engine.copy_place import Piles, Target, locator
from pgherd.engine.copy_quick import short_cut
from pgherd.engine.copy_records import Records
from pgherd.errors import BadCopy, NoShard, NullKey, PgherdError, TooLarge

COLUMNS = ("a", "name", "b", "id", "c", "tail")
TABLE = "(a text, name text, b text, id int, c text, tail text)"
Connection = psycopg.Connection[tuple[Any, ...]]
Row = tuple[str | None, str, str | None, int, str | None, str]


def range_keyspace(types: tuple[str, ...], bounds: list[Key]) -> Keyspace:
    edges: list[Key | None] = [None, *bounds, None]
    shards = [
        Shard(id=ShardId(at), keyspace=KeyspaceId(1), group=GroupId(0), lower=edges[at], upper=edges[at + 1])
        for at in range(len(bounds) + 1)
    ]
    return Keyspace(id=KeyspaceId(1), name="k", strategy="range", key_types=types, shards=tuple(shards))


def hash_keyspace(types: tuple[str, ...], count: int) -> Keyspace:
    shards = [
        Shard(id=ShardId(at), keyspace=KeyspaceId(1), group=GroupId(0), modulus=count, remainder=at)
        for at in range(count)
    ]
    return Keyspace(id=KeyspaceId(1), name="k", strategy="hash", key_types=types, shards=tuple(shards))


LAYOUTS: dict[str, tuple[Keyspace, tuple[str, ...], list[str]]] = {
    "text range": (
        range_keyspace(("text",), [("N",), ("é",)]),
        ("name",),
        ["FROM (MINVALUE) TO ('N')", "FROM ('N') TO ('é')", "FROM ('é') TO (MAXVALUE)"],
    ),
    "two columns": (
        range_keyspace(("text", "integer"), [("N",), ("N", 5)]),
        ("name", "id"),
        [
            "FROM (MINVALUE, MINVALUE) TO ('N', MINVALUE)",
            "FROM ('N', MINVALUE) TO ('N', 5)",
            "FROM ('N', 5) TO (MAXVALUE, MAXVALUE)",
        ],
    ),
    "int hash": (
        hash_keyspace(("integer",), 4),  # a power of two: whole blocks are hashed together
        ("id",),
        [f"WITH (modulus 4, remainder {at})" for at in range(4)],
    ),
    "int range": (
        range_keyspace(("integer",), [(0,), (10,)]),
        ("id",),
        ["FROM (MINVALUE) TO (0)", "FROM (0) TO (10)", "FROM (10) TO (MAXVALUE)"],
    ),
    "last column": (
        hash_keyspace(("text",), 3),
        ("tail",),
        [f"WITH (modulus 3, remainder {at})" for at in range(3)],
    ),
    "text hash": (
        hash_keyspace(("text",), 2),
        ("name",),
        [f"WITH (modulus 2, remainder {at})" for at in range(2)],
    ),
}


@pytest.fixture(scope="module")
def db(server: Server) -> Iterator[Connection]:
    with psycopg.connect(server.uri(), autocommit=True) as connection:
        for at, (keyspace, key, parts) in enumerate(LAYOUTS.values()):
            run(
                connection,
                f"CREATE TEMP TABLE whole_{at} {TABLE} PARTITION BY {keyspace.strategy} ({', '.join(key)})",
            )
            for number, part in enumerate(parts):
                run(
                    connection,
                    f"CREATE TEMP TABLE whole_{at}_{number} PARTITION OF whole_{at} FOR VALUES {part}",
                )
        for number in range(4):
            run(connection, f"CREATE TEMP TABLE shard_{number} {TABLE}")
        run(connection, f"CREATE TEMP TABLE source {TABLE}")
        yield connection


def run(db: Connection, text: str) -> list[tuple[Any, ...]]:
    statement: LiteralString = text  # type: ignore[assignment]
    cursor = db.execute(statement)
    return cursor.fetchall() if cursor.description else []


def copy(db: Connection, table: str, options: str, data: bytes) -> None:
    command = sql.SQL(f"COPY {table} FROM STDIN {options}")  # type: ignore[arg-type]
    with db.cursor().copy(command) as stream:
        stream.write(data)


def target(layout: str) -> Target:
    keyspace, key, _ = LAYOUTS[layout]
    return Target(
        table="users",
        columns=COLUMNS,
        positions=tuple(COLUMNS.index(name) for name in key),
        keyspace=keyspace,
    )


def divide(divider: CopyDivider, data: bytes, cuts: list[int]) -> dict[ShardId, bytes]:
    streams: dict[ShardId, bytes] = {}
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for divided in [*map(divider.feed, pieces), divider.close()]:
        for shard, stream in divided.items():
            streams[shard] = streams.get(shard, b"") + stream
    return streams


def assert_same_rows(
    db: Connection, layout: str, options: str, data: bytes, streams: dict[ShardId, bytes]
) -> None:
    at = list(LAYOUTS).index(layout)
    run(db, f"TRUNCATE whole_{at}, shard_0, shard_1, shard_2, shard_3")
    copy(db, f"whole_{at}", options, data)
    for shard, stream in streams.items():
        copy(db, f"shard_{shard}", options, stream)
    for number in range(len(LAYOUTS[layout][2])):
        expected = run(db, f"SELECT * FROM whole_{at}_{number} ORDER BY ctid")
        assert run(db, f"SELECT * FROM shard_{number} ORDER BY ctid") == expected


nasty = st.text(st.sampled_from("NnaéZ~\t\n\r\\\",;'.x0 🐘"), max_size=6)
names = (
    st.sampled_from(["Mzz", "N", "Nz", "é", "è", "z", "", "\\.", '"', 'a"b', "'", "~~", "a,b", "l1\nl2"])
    | nasty
)
rows_of: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(st.none() | nasty, names, st.none() | nasty, st.integers(-20, 20), st.none() | nasty, names),
    max_size=12,
)
cuts_of = st.lists(st.integers(0, 400), max_size=5).map(sorted)


def text_records(rows: list[Row], delimiter: str, null: str, odd: bool) -> list[str]:
    """COPY's text format, a record for each row, without its line end; `odd` writes what need not be escaped with escapes as well."""

    def field(value: Any) -> str:
        if value is None:
            return null
        text = str(value).replace("\\", "\\\\").replace("\r", "\\r").replace(delimiter, "\\" + delimiter)
        text = text.replace("\n", "\\\n" if odd else "\\n")
        return text.replace("N", "\\116").replace("x", "\\x78").replace("é", "\\xc3\\xa9") if odd else text

    return [delimiter.join(map(field, row)) for row in rows]


def expected_streams(
    layout: str, rows: list[Row], records: list[str], header: str, newline: str
) -> dict[ShardId, bytes]:
    """What the divider should answer: every record's own bytes, by the values it was written from."""
    keyspace, key, _ = LAYOUTS[layout]
    streams: dict[ShardId, bytes] = {}
    for row, record in zip(rows, records, strict=True):
        shard = keyspace.locate(tuple(row[COLUMNS.index(name)] for name in key))
        assert shard is not None
        before = streams.get(shard.id, (header + newline).encode() if header else b"")
        streams[shard.id] = before + (record + newline).encode()
    return streams


@settings(max_examples=60, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    rows=rows_of,
    cuts=cuts_of,
    delimiter=st.sampled_from(["\t", ",", "~"]),
    odd=st.booleans(),
    ending=st.sampled_from(["", "\\.\n", "\\.\nignored"]),
    header=st.booleans(),
    remember=st.sampled_from([1, 1000]),
    last=st.booleans(),
    crlf=st.booleans(),
)
def test_text(db: Connection, layout: str, rows: list[Row], cuts: list[int], delimiter: str, odd: bool,
              ending: str, header: bool, remember: int, last: bool, crlf: bool) -> None:  # fmt: skip
    ends = len(rows) + header > 1 or not last or bool(ending)  # else nothing shows how lines end
    newline = "\r\n" if crlf and not odd and ends else "\n"
    records = text_records(rows, delimiter, "\\N", odd)
    head = delimiter.join(COLUMNS) if header else ""
    whole = [head] * header + records
    file = newline.join(whole) + newline * (bool(whole) and (not last or bool(ending)))
    data = (file + ending.replace("\n", newline)).encode()
    shape = Shape(delimiter=delimiter.encode(), columns=len(COLUMNS))
    chosen: dict[ShardId, bytes] = {}
    for each in LAYOUTS:
        divider = LineDivider(target(each), shape, header=header, remembered_max=remember)
        streams = divide(divider, data, [cut for cut in cuts if cut < len(data)])
        assert streams == expected_streams(each, rows, records, head, newline)
        if each == layout:
            chosen = streams
    # what follows the end marker is ours to ignore; PostgreSQL may find fault with it
    before = data.removesuffix(b"ignored")
    options = f"(DELIMITER '{delimiter}', HEADER {header})"
    assert_same_rows(db, layout, options, before, chosen)


def csv_records(rows: list[Row], shape: Shape, quoting: list[bool]) -> list[str]:
    """CSV, a record for each row, without its line end; `quoting` says which fields get quotes they do not need."""
    quote, escape, delimiter, null = (
        part.decode() for part in (shape.quote, shape.escape, shape.delimiter, shape.null)
    )
    number = 0

    def field(value: Any) -> str:
        nonlocal number
        number += 1
        if value is None:
            return null
        text = str(value)
        if (
            text != null
            and not set(text) & {quote, escape, delimiter, "\n", "\r", "\\"}
            and not quoting[number % len(quoting)]
        ):
            return text
        if escape != quote:
            text = text.replace(escape, escape * 2)
        return quote + text.replace(quote, escape + quote) + quote

    return [delimiter.join(map(field, row)) for row in rows]


@settings(max_examples=100, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    rows=rows_of,
    cuts=cuts_of,
    shape=st.sampled_from(
        [
            Shape(format="csv", delimiter=b",", null=b"", columns=len(COLUMNS)),
            Shape(format="csv", delimiter=b";", null=b"NULL", quote=b"'", escape=b"'", columns=len(COLUMNS)),
            Shape(format="csv", delimiter=b",", null=b"", escape=b"\\", columns=len(COLUMNS)),
            Shape(format="csv", delimiter=b"\t", null=b"x", quote=b"~", escape=b'"', columns=len(COLUMNS)),
        ]
    ),
    quoting=st.lists(st.booleans(), min_size=1, max_size=7),
    header=st.booleans(),
    remember=st.sampled_from([1, 1000]),
    last=st.booleans(),
    crlf=st.booleans(),
)
def test_csv(db: Connection, layout: str, rows: list[Row], cuts: list[int], shape: Shape, quoting: list[bool],
             header: bool, remember: int, last: bool, crlf: bool) -> None:  # fmt: skip
    ends = len(rows) + header > 1 or not last  # else nothing shows how lines end
    newline = "\r\n" if crlf and ends else "\n"
    records = csv_records(rows, shape, quoting)
    head = shape.delimiter.decode().join(COLUMNS) if header else ""
    whole = [head] * header + records
    data = (newline.join(whole) + newline * (bool(whole) and not last)).encode()
    chosen: dict[ShardId, bytes] = {}
    for each in LAYOUTS:
        divider = LineDivider(target(each), shape, header=header, remembered_max=remember)
        streams = divide(divider, data, [cut for cut in cuts if cut < len(data)])
        assert streams == expected_streams(each, rows, records, head, newline)
        if each == layout:
            chosen = streams
    marks = [
        mark.decode().replace("'", "''") for mark in (shape.delimiter, shape.null, shape.quote, shape.escape)
    ]
    options = "(FORMAT csv, DELIMITER '{}', NULL '{}', QUOTE '{}', ESCAPE '{}', HEADER {})".format(
        *marks, header
    )
    assert_same_rows(db, layout, options, data, chosen)


@settings(max_examples=60, deadline=None)
@given(layout=st.sampled_from(sorted(LAYOUTS)), rows=rows_of, cuts=cuts_of)
def test_binary(db: Connection, layout: str, rows: list[Row], cuts: list[int]) -> None:
    run(db, "TRUNCATE source")
    with db.cursor().copy("COPY source FROM STDIN") as stream:
        for row in rows:
            stream.write_row(row)
    with db.cursor().copy("COPY source TO STDOUT (FORMAT binary)") as stream:
        data = b"".join(bytes(chunk) for chunk in stream)
    streams = divide(BinaryDivider(target(layout)), data, [cut for cut in cuts if cut < len(data)])
    assert_same_rows(db, layout, "(FORMAT binary)", data, streams)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_short_cuts_agree_with_the_general_way(layout: str, data: st.DataObject) -> None:
    where = target(layout).narrowed()
    piles = Piles(where.keyspace)
    cut = short_cut(where, piles, b"\\N")
    if cut is None:
        assert layout == "two columns"
        return
    raws = data.draw(st.lists(names | st.integers(-(10**12), 10**12).map(str) | st.just("\\N"), min_size=1))
    for raw in map(str.encode, raws):
        place = cut(raw)
        if place is not None:
            expected = locator(where)([value_of(raw, Shape())])
            assert place == piles.by_shard[expected.id].append, raw


@settings(max_examples=100, deadline=None)
@given(st.uuids(), st.booleans())
def test_short_cut_for_uuids(number: UUID, upper: bool) -> None:
    where = Target(table="t", columns=("id",), positions=(0,), keyspace=hash_keyspace(("uuid",), 8))
    piles = Piles(where.keyspace)
    cut = short_cut(where, piles, b"\\N")
    assert cut is not None
    raw = (str(number).upper() if upper else str(number)).encode()
    assert cut(raw) == piles.by_shard[locator(where)([raw]).id].append
    for odd in (raw[:-1], b"{%b}" % raw, raw.replace(b"-", b" "), raw[:-1] + b"g", b"x" * 36, b"\\N"):
        assert cut(odd) is None


@pytest.mark.parametrize(
    ("options", "joiner"),
    [
        ("(HEADER false)", CopyJoiner()),
        ("(HEADER)", CopyJoiner(header=True)),
        ("(FORMAT csv, HEADER)", CopyJoiner(header=True, quote=b'"')),
        ("(FORMAT binary)", CopyJoiner(binary=True)),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [0, 1, 7])
def test_streams_joined_are_one_file(
    db: Connection, options: str, joiner: CopyJoiner, chunk_bytes: int
) -> None:
    joiner = deepcopy(joiner)
    run(db, 'DROP TABLE IF EXISTS apart; CREATE TEMP TABLE apart (g int, "two\nlines, ""quoted""" text)')
    run(
        db,
        "INSERT INTO apart SELECT g, nullif(repeat(E'x\n', n), '') FROM generate_series(0, 2) g, generate_series(0, 4) n WHERE g <> 1",
    )
    joined: list[bytes] = []
    for group in range(3):
        if group:
            joiner.next_stream()
        with db.cursor().copy(f"COPY (SELECT * FROM apart WHERE g = {group}) TO STDOUT {options}") as stream:  # type: ignore[arg-type]
            chunks = [bytes(chunk) for chunk in stream]
        if chunk_bytes:
            whole = b"".join(chunks)
            chunks = [whole[at : at + chunk_bytes] for at in range(0, len(whole), chunk_bytes)]
        joined += map(joiner.feed, chunks)
    joined.append(joiner.close())
    with db.cursor().copy(f"COPY apart TO STDOUT {options}") as stream:  # type: ignore[arg-type]
        assert b"".join(joined) == b"".join(bytes(chunk) for chunk in stream)


def test_a_record_has_a_bound() -> None:
    records = Records(Shape(format="csv", delimiter=b",", null=b"", columns=2), bytes_max=1000)
    for data in (b"a,b\n" * 1000, b'a,"' + b"x" * 600):
        records.feed(data)
    with pytest.raises(TooLarge):
        records.feed(b"x\n" * 300)


def test_hostile_quotes_cost_linear_time() -> None:
    line = b'"' + b'""' * 500_000 + b",x\n"
    divider = LineDivider(
        target("int hash"), Shape(format="csv", delimiter=b",", null=b"", columns=len(COLUMNS))
    )
    with pytest.raises(BadCopy):
        divide(divider, line * 3, list(range(0, len(line), 65536)))


BAD_FILES = [
    ("text", b"x\ty\tz\t1\tc\td\nx\ty\tz\tone\tc\td\n", "22P02"),
    ("text", b"x\\\ny\ty\tz\t1\tc\td\nx\ty\tz\t99999999999\tc\td\n", "22003"),
    ("text", b"x\ty\tz\t1\tc\td\nx\ty\tz\n", "22P04"),
    ("csv", b'x,y,z,1,c,d\n"l1\nl2",y,z,1,c,d\nx,y,z,one,c,d\n', "22P02"),
    ("csv", b'x,y,z,1,c,d\nx,y,z,1,"open\n', "22P04"),
    ("csv", b"x,y,z,1,c,d\n\n", "22P04"),
    ("csv", b"\xff,y,z,1,c,d\nx,y,z,,c,d\n", None),
    ("binary", b"PGCOPY\n\xff\r\n\0" + bytes(8) + struct.pack(">h", 3), "22P04"),
    ("binary", b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 1 << 16, 0), "22P04"),
    ("binary", b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 1 << 20, 0), "22P04"),
    ("binary", b"PGCOPX\n\xff\r\n\0" + bytes(8), "22P04"),
    ("binary", b"PGCOPY\n\xff\r\n\0" + bytes(8) + struct.pack(">hi", 6, -2), "22P04"),
    ("binary", b"PGCOPY\n\xff\r\n\0" + bytes(8) + struct.pack(">hi", 6, 4) + b"ab", None),
    ("binary", b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\xff\xff\xff\xff", "22P04"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "data", "sqlstate"), BAD_FILES)
def test_faults_are_told_as_postgres_tells_them(
    db: Connection, format: str, data: bytes, sqlstate: str | None
) -> None:
    """The same SQLSTATE, message and line; where `sqlstate` is None only that both refuse."""
    with pytest.raises(psycopg.Error) as theirs:
        copy(db, "source", f"(FORMAT {format})", data)
    divider: CopyDivider = BinaryDivider(target("int hash"))
    if format != "binary":
        csv = format == "csv"
        divider = LineDivider(
            target("int hash"),
            Shape(
                format="csv" if csv else "text",
                delimiter=b"," if csv else b"\t",
                null=b"" if csv else b"\\N",
                columns=len(COLUMNS),
            ),
        )
    with pytest.raises(PgherdError) as ours:
        divide(divider, data, [])
    if sqlstate is None:
        return
    assert (ours.value.sqlstate, theirs.value.sqlstate) == (sqlstate, sqlstate)
    assert ours.value.message == theirs.value.diag.message_primary
    if format != "binary":
        line = re.search(r"line \d+", theirs.value.diag.context or "")
        assert line is not None and f"COPY users, {line[0]}" in (ours.value.context or "")


@pytest.mark.parametrize("format", ["text", "csv", "binary"])
def test_rows_that_belong_nowhere(format: str) -> None:
    gap = Shard(id=ShardId(1), keyspace=KeyspaceId(1), group=GroupId(0), lower=(10,), upper=(20,))
    keyspace = Keyspace(id=KeyspaceId(1), name="k", strategy="range", key_types=("integer",), shards=(gap,))
    where = Target(table="users", columns=("id", "x"), positions=(0,), keyspace=keyspace)

    def fault(value: int | None) -> PgherdError:
        if format == "binary":
            first = struct.pack(">hiii", 2, 4, 10, -1)
            field = struct.pack(">i", -1) if value is None else struct.pack(">ii", 4, value)
            data = HEADER + first + struct.pack(">h", 2) + field + struct.pack(">i", -1)
            divider: CopyDivider = BinaryDivider(where)
        else:
            shape = Shape(
                format="csv" if format == "csv" else "text", delimiter=b",", null=b"NULL", columns=2
            )
            data = f"10,a\n{'NULL' if value is None else value},b\n".encode()
            divider = LineDivider(where, shape)
        with pytest.raises(PgherdError) as caught:
            divider.feed(data)
        assert (caught.value.context or "").startswith("COPY users, line 2")
        return caught.value

    for value in (9, 20, -1):
        error = fault(value)
        assert isinstance(error, NoShard)
        assert error.message == 'no shard of relation "users" found for row'
        assert error.detail == f"Shard key of the failing row contains (id) = ({value})."
    error = fault(None)
    assert isinstance(error, NullKey)
    assert error.message == 'null value in column "id" of relation "users" violates not-null constraint'
