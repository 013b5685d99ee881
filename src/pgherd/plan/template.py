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
# No possessive quantifiers: those of the first releases of Python 3.11 are broken (a match can end before it begins).
_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<word>[^\W\d]\w*)
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^'\\]|'')*')
    | (?P<name>"[^"\\$]*")
    | (?P<doubtful>--|/\*|[$\\'"]|&(?=['"]))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_AFTER_NUMBER: Final = re.compile(r"[\w.$'\"]")


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
        if before == "-" and _signed(outside, start):
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
    at = 0
    before = ("", "")  # kind and text of the token before, spaces left out
    for found in _TOKEN.finditer(sql):
        kind, text = found.lastgroup, found.group()
        start = found.start()
        if kind == "space":
            continue
        if kind == "doubtful" or not _may_follow(str(kind), before, sql, start, found.end()):
            return None
        if kind in ("string", "number"):
            if kind == "number" and _signed(sql, start):
                start, text = start - 1, "-" + text
            meant = text[1:-1].replace("''", "'") if kind == "string" else text
            literals.append(Literal(meant, text))
            pieces.append(f"{sql[at:start]}${len(literals)}")
            at = found.end()
        before = (str(kind), text)
    pieces.append(sql[at:])
    return "".join(pieces), tuple(literals)


def _may_follow(kind: str, before: tuple[str, str], sql: str, start: int, end: int) -> bool:
    """Whether a token is what it looks like: no `date '...'`, no continued string, no number inside a name."""
    if kind == "string":
        return before[0] not in ("string", "name") and (before[0] != "word" or before[1].lower() in _PLAIN)
    if kind == "number":
        return not _AFTER_NUMBER.match(sql, end) and not (
            start and (sql[start - 1] == "." or sql[start - 1].isalnum())
        )
    return kind != "name" or before[0] != "string"


def _signed(sql: str, start: int) -> bool:
    """Whether the sign in front of a number belongs to it: what stands before cannot be an operand."""
    if start < 2 or sql[start - 1] != "-":
        return False
    sign = sql[start - 2] if sql[start - 2] != " " else sql[start - 3 : start - 2]
    return sign in _BEFORE_SIGN and sign != ""


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
