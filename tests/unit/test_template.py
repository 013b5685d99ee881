"""Literal normalisation: right literals, nothing doubtful, and rendering gives the original text back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.catalog.model import ShardId
from pgherd.plan import template as template_module
from pgherd.plan.plans import Text
from pgherd.plan.template import Literal, Skeleton, template
from pgherd.sql.parse import parse


@pytest.mark.parametrize(
    ("sql", "shape", "texts"),
    [
        ("SELECT * FROM t1 WHERE id = 5", "SELECT * FROM t1 WHERE id = $1", ["5"]),
        ("select a from t where id=-5 and b = - 6", "select a from t where id=$1 and b = - $2", ["-5", "6"]),
        ("select a-1, a -1 from t", "select a-$1, a -$2 from t", ["1", "1"]),
        (
            "select 'it''s', 1e5, .5, 1.5e-3, 2.",
            "select $1, $2, $3, $4, $5",
            ["it's", "1e5", ".5", "1.5e-3", "2."],
        ),
        ("values ('a', ''), ('b', '')", "values ($1, $2), ($3, $4)", ["a", "", "b", ""]),
        ('select "t 1"."a1" from "x"', 'select "t 1"."a1" from "x"', []),
        (
            "select * from t where a in ('x') and b like 'y%'",
            "select * from t where a in ($1) and b like $2",
            ["x", "y%"],
        ),
        ("select 'é' from tätig1", "select $1 from tätig1", ["é"]),
        ("select '5'::int8, x::numeric(10)", "select $1::int8, x::numeric($2)", ["5", "10"]),
        ("select (-1), a<-2", "select ($1), a<$2", ["-1", "-2"]),
    ],
)
def test_literals_become_parameters(sql: str, shape: str, texts: list[str]) -> None:
    found = template(sql)
    assert found is not None
    assert found[0] == shape
    assert [literal.text for literal in found[1]] == texts


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 -- c",
        "select /* c */ 1",
        "select $1",
        "select $$x$$",
        "select $a$x$a$",
        "select E'x'",
        "select e 'x'",
        "select U&'x'",
        "select u&\"x\" from t where a = 'y'",
        "select B'1'",
        "select x'1F'",
        "select N'x'",
        "select interval '1 day'",
        "select date '2020-01-01'",
        "select 'a\\b'",
        "select 'a'\n'b'",
        "select 0x1F",
        "select 1_000",
        "select a$1 from t where b = 2",
        'select "a$1" from t where b = 2',
        "select 'open",
        'select "open',
        "select 1a",
    ],
)
def test_doubtful_texts_are_left_alone(sql: str) -> None:
    assert template(sql) is None


def _render(sql: str) -> str | None:
    found = template(sql)
    if found is None:
        return None
    return Skeleton(Text(pieces=tuple(found[0].split("~~")))).render(ShardId(3), found[1])


_word = st.sampled_from(
    [
        "select",
        "from",
        "where",
        "and",
        "t1",
        "users",
        "a.b",
        "=",
        "(",
        ")",
        ",",
        "-",
        "--",
        "/",
        "/*",
        "*",
        "5",
        "-5",
        "1e5",
        ".5",
        "'x'",
        "'it''s'",
        "E'x'",
        '"q"',
        '"q1"',
        "$1",
        "$$",
        "interval",
        "::",
        ".",
        "<",
        ">",
        "&",
        "U&",
        "~~",
        "é",
        "\n",
        "\\",
    ]
)


@given(st.lists(_word, max_size=12), st.sampled_from(["", " "]))
def test_rendering_gives_the_text_back(words: list[str], glue: str) -> None:
    sql = glue.join(words)
    rendered = _render(sql)
    if rendered is not None:
        assert rendered == sql.replace("~~", "shard_3")


@given(st.text(max_size=30))
def test_any_text_is_rendered_back(sql: str) -> None:
    rendered = _render(sql)
    if rendered is not None:
        assert rendered == sql.replace("~~", "shard_3")


@given(
    st.text(alphabet=st.characters(exclude_characters="\\\0", exclude_categories=["Cs"]), max_size=20),
    st.integers(),
)
def test_values_are_what_postgres_reads(text: str, number: int) -> None:
    sql = f"select '{text.replace(chr(39), chr(39) * 2)}', {number}"
    found = template(sql)
    assert found is not None
    assert [literal.text for literal in found[1]] == [text, str(number)]
    node = parse(sql)[0].tree.target_list[0].res_target.val
    assert node.a_const.sval.sval == text


def test_a_shape_has_no_other_parameters() -> None:
    shape, literals = template("select 1, 'a', t2.x3 from t2") or ("", ())
    assert re.findall(r"\$\d+", shape) == ["$1", "$2"]
    assert literals == (Literal("1", "1"), Literal("a", "'a'"))


@given(st.lists(_word, max_size=12), st.sampled_from(["", " "]))
def test_the_quick_way_agrees_with_the_careful_one(words: list[str], glue: str) -> None:
    sql = glue.join(words)
    quick = template(sql)
    if quick is not None:
        assert quick == template_module._carefully(sql)
