"""SQL text to statements: libpg_query's parser (PostgreSQL 18's own grammar), one tree per statement."""

from __future__ import annotations

import re
from functools import lru_cache

import postgast

from pgherd.errors import SyntaxRefused
from pgherd.sql.statement import Statement

_CACHED_TEXTS = 4096
_CACHED_CHARS_MAX = 20_000  # longer texts (bulk INSERT) are rarely seen twice
_NOT_UTF8 = re.compile("[\ud800-\udfff\0]")


def parse(sql: str) -> tuple[Statement, ...]:
    """The statements of a text, in order; none for blanks and comments. Raises errors.SyntaxRefused."""
    return _cached(sql) if len(sql) <= _CACHED_CHARS_MAX else _parse(sql)


def _parse(sql: str) -> tuple[Statement, ...]:
    if _NOT_UTF8.search(sql):
        raise SyntaxRefused('invalid byte sequence for encoding "UTF8"')
    text = sql.strip(" \t\n\r\f\v;")
    try:
        statements = postgast.parse(text).stmts
    except postgast.PgQueryError as error:
        raise SyntaxRefused(error.message, position=_position(sql, text, error.cursorpos)) from None
    if not statements:
        return ()
    data = text.encode()
    if len(statements) == 1:
        only = statements[0]
        end = only.stmt_location + only.stmt_len
        return (_statement(data[:end].decode().rstrip() if only.stmt_len else text, only.stmt),)
    return tuple(one for raw in statements for one in _parse(_slice(data, raw)))


def _slice(data: bytes, raw: postgast.pg_query_pb2.RawStmt) -> str:
    # parsed again alone, so that offsets in the tree are offsets into the statement's own text
    end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(data)
    return data[raw.stmt_location : end].decode()


def _statement(text: str, node: postgast.pg_query_pb2.Node) -> Statement:
    kind = node.WhichOneof("node") or ""
    return Statement(text=text, kind=kind, tree=getattr(node, kind))


def _position(sql: str, text: str, cursor: int) -> int | None:
    """PostgreSQL counts characters from 1, in the text as sent; libpg_query in the text as it was given to it."""
    return sql.find(text) + cursor if cursor > 0 else None


_cached = lru_cache(maxsize=_CACHED_TEXTS)(_parse)
