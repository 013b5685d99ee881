"""Changes to a statement's text by byte offset: names are qualified in place, nothing else is touched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pgherd.errors import Refused

HOLE = "\0"  # cannot occur in SQL text

_WORD = re.compile(rb'"(?:[^"]|"")*"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*')
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema
    current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for
    foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral leading
    left like limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing
    primary references returning right select session_user similar some symmetric system_user table tablesample then
    to trailing true union unique user using variadic verbose when where window with between bigint bit boolean char
    character coalesce dec decimal exists extract float greatest grouping inout int integer interval least national
    nchar none normalize nullif numeric out overlay position precision real row setof smallint substring time
    timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse
    xmlpi xmlroot xmlserialize xmltable merge_action json json_array json_arrayagg json_exists json_object
    json_objectagg json_query json_scalar json_serialize json_table json_value
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Replace the bytes from `start` up to `end` by `text` (which may hold HOLEs)."""

    start: int
    end: int
    text: str


def quote(name: str) -> str:
    """The identifier as it must be written: quoted only where PostgreSQL would quote it."""
    if _PLAIN.match(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | None) -> str:
    """The value as an SQL string literal that means the same under any settings."""
    if value is None:
        return "NULL"
    doubled = value.replace("'", "''")
    if "\\" in doubled:
        doubled = doubled.replace("\\", "\\\\")
        return f" E'{doubled}'"
    return f"'{doubled}'"


def apply(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
    """`text` (or its bytes from `start` to `end`) with the edits that lie inside made."""
    ascii_only = text.isascii()
    data = text if ascii_only else text.encode()
    pieces: list[str] = []
    at = start
    stop = len(data) if end is None else end
    for edit in sorted(edits):
        if edit.start < start or edit.end > stop:
            continue
        pieces.append(_part(data, at, edit.start))
        pieces.append(edit.text)
        at = edit.end
    pieces.append(_part(data, at, stop))
    return "".join(pieces)


def _part(data: str | bytes, start: int, end: int) -> str:
    part = data[start:end]
    return part if isinstance(part, str) else part.decode()


def word_end(text: str, start: int) -> int:
    """The byte offset just after the identifier that begins at byte `start`."""
    found = _WORD.match(text.encode() if not text.isascii() else text.encode("ascii"), start)
    if found is None:
        raise Refused(
            "a name is written in a form that cannot be rewritten", hint='Write it plainly or as "name".'
        )
    return found.end()


def pieces(text: str) -> tuple[str, ...]:
    """The text cut at its HOLEs."""
    return tuple(text.split(HOLE))
