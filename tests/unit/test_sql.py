"""Text to statements and back: splitting, positions, tokens, edits, quoting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.errors import SyntaxRefused
from pgherd.plan.physical import quoted_schema
from pgherd.sql.parse import parse
from pgherd.sql.rewrite import HOLE, Edit, apply, literal, quote, word_end
from pgherd.sql.tokens import byte_offset, tokens
from pgherd.sql.tree import find, strings, without_places


def test_a_text_is_split_into_its_statements() -> None:
    found = parse("  SELECT 1 ; ;\n INSERT INTO é VALUES (';') -- x\n; UPDATE t SET a = 1")
    assert [one.text for one in found] == [
        "SELECT 1",
        "INSERT INTO é VALUES (';') -- x",
        "UPDATE t SET a = 1",
    ]
    assert [one.kind for one in found] == ["select_stmt", "insert_stmt", "update_stmt"]


def test_offsets_are_those_of_the_statement_alone() -> None:
    statement = parse("SELECT 'ä'; SELECT 'ö' FROM tab")[1]
    at = statement.tree.from_clause[0].range_var.location
    assert statement.text.encode()[at:] == b"tab"


@pytest.mark.parametrize("sql", ["", " \n", ";;", "-- nothing", "/* nothing */ ;"])
def test_blanks_and_comments_hold_no_statement(sql: str) -> None:
    assert parse(sql) == ()


def test_what_follows_the_semicolon_is_no_part_of_the_statement() -> None:
    assert [one.text for one in parse("SELECT 1; -- done")] == ["SELECT 1"]


@pytest.mark.parametrize(
    ("sql", "message", "position"),
    [
        ("SELECT FORM t x y", 'syntax error at or near "x"', 15),
        ("  SELECT 'ä' FORM t x", 'syntax error at or near "t"', 19),
        ("SELECT 1 +", "syntax error at end of input", 11),
        ("SELECT 'x", 'unterminated quoted string at or near "\'x"', 8),
    ],
)
def test_errors_are_postgres_own(sql: str, message: str, position: int) -> None:
    with pytest.raises(SyntaxRefused) as caught:
        parse(sql)
    assert caught.value.message == message
    assert caught.value.position == position


@pytest.mark.parametrize("sql", ["SELECT '\ud800'", "SELECT '\0'"])
def test_text_that_is_not_utf8_is_refused(sql: str) -> None:
    with pytest.raises(SyntaxRefused):
        parse(sql)


def test_tokens_know_their_depth() -> None:
    found = tokens("SELECT f(a, '(') /* ( */ -- )\n FROM $$ ( $$, x[1], \"(\", $1, 1.5e3")
    assert [(one.kind, one.depth) for one in found if one.depth] == [
        ("word", 1),
        ("comma", 1),
        ("string", 1),
        ("number", 1),
    ]
    assert [one.word for one in found if one.word] == ["select", "f", "a", "from", "x"]
    assert [one.kind for one in found][-3:] == ["param", "comma", "number"]


@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "'x'",
                "''",
                "(",
                ")",
                ",",
                '"q"',
                "$1",
                "$$x$$",
                "/* c /* d */ */",
                "--c\n",
                "1.5",
                "é",
                "E'\\''",
            ]
        )
    )
)
def test_tokens_lie_in_order_and_cover_everything_but_spaces(words: list[str]) -> None:
    sql = " ".join(words)
    at = 0
    for token in tokens(sql):
        assert token.start >= at
        at = token.end
    kept = " ".join(word for word in words if not word.startswith(("/*", "--")))
    assert " ".join(sql[one.start : one.end] for one in tokens(sql)) == kept


def test_edits_are_made_by_byte_offset() -> None:
    sql = "SELECT 'äö' FROM t, u"
    at = byte_offset(sql, sql.index("t,"))
    assert apply(sql, [Edit(at, at, "s.")]) == "SELECT 'äö' FROM s.t, u"
    end = len(sql.encode())
    assert apply(sql, [Edit(end - 1, end, "v"), Edit(at, at, "s.")], at) == "s.t, v"


@given(
    st.text(
        alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
    )
)
def test_quoted_names_are_read_back(name: str) -> None:
    tree = parse(f"SELECT 1 FROM {quote(name)}")[0].tree
    # PostgreSQL cuts names at 63 bytes
    assert name.encode().startswith(tree.from_clause[0].range_var.relname.encode())
    assert word_end(quote(name) + " x", 0) == len(quote(name).encode())


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_literals_are_read_back(value: str) -> None:
    tree = parse(f"SELECT {literal(value)}")[0].tree
    assert tree.target_list[0].res_target.val.a_const.sval.sval == value


@pytest.mark.parametrize("word", ["select", "user", "order", "table", "Users", "a b", "1a", "é"])
def test_names_that_need_quotes_get_them(word: str) -> None:
    assert quote(word) == f'"{word}"'


def test_the_schema_of_a_shard_is_quoted_as_a_whole() -> None:
    assert quoted_schema(HOLE, "public") == HOLE
    assert quoted_schema(HOLE, "sales") == HOLE + "_sales"
    assert quoted_schema(HOLE, 'My "x"') == f'"{HOLE}_My ""x"""'
    assert quoted_schema("here", "public") == "here"


def test_trees_are_compared_without_their_places() -> None:
    one, other = (
        parse(sql)[0].tree
        for sql in ("SELECT a, f(b) FROM t WHERE x IN (1,2)", "SELECT  a,f( b ) FROM t  WHERE x IN (1, 2)")
    )
    assert one != other
    assert without_places(one) == without_places(other)
    assert [strings(call.funcname) for call in find(one, "FuncCall")] == [("f",)]
