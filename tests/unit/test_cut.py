"""How the client tells a text's last statement, with and without the parser."""

from __future__ import annotations

import postgast
import pytest

from pgherd.client import link

TEXTS = (
    "SELECT 1",
    "BEGIN",
    "BEGIN;",
    "",
    ";",
    "BEGIN; SELECT 1",
    "BEGIN; SELECT 1;  ",
    "LOCK TABLE t; PREPARE TRANSACTION 'a;b'",
    "LOCK TABLE t; PREPARE TRANSACTION 'a'",
    "SELECT 'a;b'",
    "BEGIN; SELECT 'a;b', 'c''d'",
    "INSERT INTO t VALUES (E'it\\'s; SELECT 1')",
    'UPDATE t SET a = 1; SELECT "x;SELECT y" FROM t',
    "DO $$ BEGIN; SELECT 1; END $$",
    "BEGIN; -- a; comment\nSELECT 1",
    "BEGIN /* ; */; SELECT 1",
    "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
    "UPDATE t SET a = 1; DELETE FROM t RETURNING a",
)


@pytest.mark.parametrize("sql", TEXTS)
def test_same_as_the_parser(sql: str) -> None:
    statements = [text.strip() for text in postgast.split(sql) if text.strip()]
    head, last = link._cut(sql)
    if last:
        assert last == statements[-1].rstrip(";")
        assert [one.strip() for one in postgast.split(head) if one.strip()] == statements[:-1]
    else:
        assert head == sql or not statements
        assert not statements or not statements[-1].startswith(("SELECT", "DELETE"))


def test_the_usual_texts_need_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(link.postgast, "split")
    for sql in ("LOCK TABLE t; PREPARE TRANSACTION 'x1'", "BEGIN; SELECT f(12); SET LOCAL a TO 'b'"):
        link._cut.cache_clear()
        assert link._cut(sql) == (sql, "")
