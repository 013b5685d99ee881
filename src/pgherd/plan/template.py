"""Literal normalisation: a simple query's shape, so that one plan serves all its literals.

`template` costs a few microseconds for plain texts. Whatever it does not know for certain it leaves alone
by answering None; the caller then parses and plans the text itself.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pgherd.catalog.model import ShardId
from pgherd.plan.plans import Text

_CHARS_MAX: Final = 20_000

# words that may stand right before a string without being its type
_PLAIN_WORDS: Final = (
    "and|or|not|in|like|ilike|between|then|else|when|where|select|values|set|is|by|having|return|limit|offset|on|as|using|"
    "to|from|similar|escape|any|all|distinct|union|except|intersect|case|default|do"
)
# a sign belongs to its number if what stands before it cannot be an operand
_SIGNED: Final = r"(?:(?<=[=(,<])-|(?<=[=(,<][ ])-)(?=\.?\d)"
_NEXT: Final = re.compile(
    rf"""
    (?: [^\w'"$\\/.&-]++                                  # punctuation and spaces
      | [^\W\d]\w*+ (?!\s*+'|[$&])                         # a word: not E'...', date '...', a$1
      | (?i:{_PLAIN_WORDS})(?![\w$&])(?=\s*+')
      | "[^"\\$]*+" (?!\s*['"&])                           # a quoted name
      | (?!{_SIGNED}) -(?!-) | /(?!\*) | \.(?!\d) | &(?!['"])
    )*+
    (?: '((?:[^'\\]|'')*+)' (?!\s*['"])                    # 1: a string, not continued
      | ((?:{_SIGNED})?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?)(?![\w.$'"])    # 2: a number
      | \Z )
    """,
    re.VERBOSE,
)


class Literal(NamedTuple):
    """A literal of the text: what it means (`text`, as in `plans.Const`), and how it was written (`raw`)."""

    text: str
    raw: str


_NUMBER: Final = re.compile(r"[0-9][0-9A-Za-z_.]*")
_PLAIN: Final = frozenset(_PLAIN_WORDS.split("|"))
_BEFORE_SIGN: Final = frozenset("=(,<")


class _Doubtful(Exception):
    """The quick way does not know this text."""


def template(sql: str) -> tuple[str, tuple[Literal, ...]] | None:
    """`sql` with $1, $2 ... in place of its literals, and the literals; None if anything in it is doubtful.

    Doubtful are comments, dollar quotes, backslashes, E'', U&'', B'' and X'' strings, existing parameters, typed literals
    (`date '...'`), and very long texts.
    """
    if len(sql) > _CHARS_MAX:
        return None
    if (
        not sql.isascii()
        or '"' in sql
        or "$" in sql
        or "\\" in sql
        or "--" in sql
        or "/*" in sql
        or "&" in sql
    ):
        return _carefully(sql)
    try:
        return _quickly(sql)
    except _Doubtful:
        return _carefully(sql)


def _quickly(sql: str) -> tuple[str, tuple[Literal, ...]]:
    """For plain ASCII: cut at quotes, then look for digits in between."""
    parts = sql.split("'")
    if len(parts) % 2 == 0:
        raise _Doubtful
    pieces: list[str] = []
    literals: list[Literal] = []
    last = len(parts) - 1
    at = 0
    while True:
        outside = parts[at]
        _numbers(outside, pieces, literals)
        if at == last:
            return "".join(pieces), tuple(literals)
        before = outside.rstrip()
        if (before[-1:].isalnum() and before.split()[-1].lower() not in _PLAIN) or before[-1:] == "_":
            raise _Doubtful
        start = at = at + 1
        while at + 1 < last and not parts[at + 1]:  # two quotes in a row are one quote in the string
            at += 2
        if at + 1 != last and parts[at + 1].isspace():
            raise _Doubtful
        text = parts[start] if at == start else "'".join(parts[start : at + 1 : 2])
        raw = text if at == start else "''".join(parts[start : at + 1 : 2])
        literals.append(Literal(text, f"'{raw}'"))
        pieces.append(f"${len(literals)}")
        at += 1


def _numbers(outside: str, pieces: list[str], literals: list[Literal]) -> None:
    at = 0
    for found in _NUMBER.finditer(outside):
        start, end = found.span()
        before = outside[start - 1] if start else " "
        if before.isalnum() or before == "_":
            continue
        text = found[0]
        if before == "." or not (text.isdigit() or text.replace(".", "", 1).isdigit()):
            raise _Doubtful
        if before == "-" and start > 1:
            sign = outside[start - 2] if outside[start - 2] != " " else outside[start - 3 : start - 2]
            if sign in _BEFORE_SIGN:
                start -= 1
                text = "-" + text
        literals.append(Literal(text, text))
        pieces.append(f"{outside[at:start]}${len(literals)}")
        at = end
    pieces.append(outside[at:])


def _carefully(sql: str) -> tuple[str, tuple[Literal, ...]] | None:
    """For any text, by the lexer's rules, a few times slower."""
    pieces: list[str] = []
    literals: list[Literal] = []
    at, end = 0, len(sql)
    following = _NEXT.match
    while at < end:
        found = following(sql, at)
        if found is None:
            return None
        kind = found.lastindex
        if kind is None:
            pieces.append(sql[at:])
            break
        if kind == 1:
            start = found.start(1) - 1
            literals.append(Literal(found[1].replace("''", "'"), sql[start : found.end()]))
        else:
            start = found.start(2)
            literals.append(Literal(found[2], found[2]))
        pieces.append(f"{sql[at:start]}${len(literals)}")
        at = found.end()
    return "".join(pieces), tuple(literals)


class Skeleton:
    """A plan's text for a shape, cut at shard schemas and parameters: `render` puts both back."""

    __slots__ = ("_literals", "_parts", "_shards")

    def __init__(self, text: Text) -> None:
        parts: list[str] = []
        self._shards: list[int] = []
        self._literals: list[tuple[int, int]] = []  # place in parts, index of the literal
        for number, piece in enumerate(text.pieces):
            if number:
                self._shards.append(len(parts))
                parts.append("")
            for at, one in enumerate(re.split(r"\$(\d+)", piece)):
                if at % 2:
                    self._literals.append((len(parts), int(one) - 1))
                parts.append(one)
        self._parts = parts

    def render(self, shard: ShardId, literals: tuple[Literal, ...]) -> str:
        """The text for a shard, with these literals as they were written."""
        parts = self._parts.copy()
        schema = f"shard_{shard}"
        for at in self._shards:
            parts[at] = schema
        for at, index in self._literals:
            parts[at] = literals[index].raw
        return "".join(parts)
