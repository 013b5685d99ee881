"""Batches of changes, reduced to the last state of each row, against a plain dict to which they are applied one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgherd.reshard.batch import Batch, copy_lines
from pgherd.reshard.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Relation,
    Row,
    Truncate,
    Update,
    read,
)

KEYS = [b"a", b"b", b"c", b"d"]
values = st.sampled_from([b"1", b"2", None])
keys = st.sampled_from(KEYS)
changes = st.one_of(
    st.tuples(st.just("insert"), keys, values, values),
    st.tuples(st.just("update"), keys, values, st.one_of(values, st.just(UNCHANGED))),
    st.tuples(st.just("rename"), keys, keys, st.one_of(values, st.just(UNCHANGED))),
    st.tuples(st.just("delete"), keys),
)
Rows = dict[bytes, Row]


def one_by_one(rows: Rows, steps: list[tuple[object, ...]]) -> list[tuple[str, Row | None, Row | None]]:
    """Apply those steps that a table would take; answers them as a stream would send them."""
    sent: list[tuple[str, Row | None, Row | None]] = []
    for kind, *rest in steps:
        key = rest[0]
        assert isinstance(key, bytes)
        if kind == "insert" and key not in rows:
            rows[key] = (key, rest[1], rest[2])  # type: ignore[assignment]
            sent.append(("insert", None, rows[key]))
        elif kind == "update" and key in rows:
            new = (key, rest[1], rows[key][2] if rest[2] is UNCHANGED else rest[2])
            rows[key] = new  # type: ignore[assignment]
            sent.append(("update", None, (key, rest[1], rest[2])))  # type: ignore[arg-type]
        elif kind == "rename" and key in rows and rest[1] not in rows:
            old = rows.pop(key)
            rows[rest[1]] = (rest[1], old[1], old[2] if rest[2] is UNCHANGED else rest[2])  # type: ignore[index,assignment]
            sent.append(("update", (key, None, None), (rest[1], old[1], rest[2])))  # type: ignore[arg-type]
        elif kind == "delete" and key in rows:
            del rows[key]
            sent.append(("delete", (key, None, None), None))
    return sent


@given(st.sets(keys), st.lists(changes, max_size=30))
def test_a_batch_does_what_its_changes_did(start: set[bytes], steps: list[tuple[object, ...]]) -> None:
    here: Rows = {key: (key, b"old", b"large " + key) for key in start}
    wanted = dict(here)
    batch = Batch(key=(0,))
    for kind, old, row in one_by_one(wanted, steps):
        if kind == "insert":
            assert row is not None
            batch.insert(row)
        elif kind == "update":
            assert row is not None
            batch.update(old, row)
        else:
            assert old is not None
            batch.delete(old)
    for after, before in batch.partial.items():  # what Target.complete fetches
        kept = here[before[0]]  # type: ignore[index]
        batch.rows[after] = tuple(
            kept[at] if value is UNCHANGED else value for at, value in enumerate(batch.rows[after])
        )
    for gone in batch.gone:
        here.pop(gone[0], None)  # type: ignore[arg-type]
    for key, row in batch.rows.items():
        assert key[0] not in here, "an insert meets a row that was not deleted before"
        here[key[0]] = row  # type: ignore[index]
    assert here == wanted


def test_copy_lines_escape_what_copy_reads_otherwise() -> None:
    assert copy_lines([(b"a\tb", None, b"c\\d\ne\r")]) == b"a\\tb\t\\N\tc\\\\d\\ne\\r\n"


def test_messages_of_pgoutput_are_read() -> None:
    assert read(b"B" + (77).to_bytes(8, "big") + bytes(12)) == Begin(77)
    assert read(b"C\0" + bytes(8) + (78).to_bytes(8, "big") + bytes(8)) == Commit(78)
    relation = (
        b"R"
        + (5).to_bytes(4, "big")
        + b"shard_1\0users\0d"
        + b"\0\2"
        + b"\1id\0"
        + bytes(8)
        + b"\0n\0"
        + bytes(8)
    )
    assert read(relation) == Relation(
        id=5, schema="shard_1", name="users", columns=("id", "n"), key=(0,), full=False
    )
    row = b"\0\3" + b"t" + (2).to_bytes(4, "big") + b"xy" + b"n" + b"u"
    number = (5).to_bytes(4, "big")
    assert read(b"I" + number + b"N" + row) == Insert(5, (b"xy", None, UNCHANGED))
    assert read(b"U" + number + b"K" + row + b"N" + row) == Update(
        5, (b"xy", None, UNCHANGED), (b"xy", None, UNCHANGED)
    )
    assert read(b"U" + number + b"N" + row) == Update(5, None, (b"xy", None, UNCHANGED))
    assert read(b"D" + number + b"O" + row) == Delete(5, (b"xy", None, UNCHANGED))
    assert read(b"T" + (1).to_bytes(4, "big") + b"\0" + number) == Truncate((5,))
    assert read(b"M\1" + bytes(8) + b"pgherd\0" + (2).to_bytes(4, "big") + b"hi") == Message("pgherd", b"hi")
