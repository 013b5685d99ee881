"""A statement's tokens, for the few places where the tree does not say where something begins or ends."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w]*)?\$)
    | (?P<escape>[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
    | (?P<param>\$\d+)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$]*)
    | (?P<number>\d[\w.]*|\.\d\w*)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<comma>,)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` as in the pattern's group names; `word` is lower-cased text of unquoted words, else ""; offsets are characters.

    `depth` is the number of open brackets around it; a bracket itself counts as outside.
    """

    kind: str
    start: int
    end: int
    depth: int
    word: str


def tokens(text: str) -> list[Token]:
    """All tokens but spaces and comments. The text must be valid SQL already."""
    found: list[Token] = []
    at, depth, length = 0, 0, len(text)
    match = _TOKEN.match
    while at < length:
        one = match(text, at)
        assert one is not None
        kind, end = one.lastgroup or "other", one.end()
        if kind == "comment":
            at = _comment_end(text, end)
            continue
        if kind == "dollar":
            end = text.index(one.group(), end) + len(one.group())
        if kind == "close":
            depth -= 1
        if kind != "space":
            word = text[at:end].lower() if kind == "word" else ""
            found.append(Token(kind, at, end, depth, word))
        if kind == "open":
            depth += 1
        at = end
    return found


def _comment_end(text: str, at: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, at)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def byte_offset(text: str, at: int) -> int:
    """The byte offset of character `at`."""
    return at if text.isascii() else len(text[:at].encode())
