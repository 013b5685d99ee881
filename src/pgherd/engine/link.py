"""What the engine needs of a connection to one group: the seam between gateway (raw protocol) and client (asyncpg).

Everything above this line (two-phase commit, DDL, divided writes, gathered reads) is written once, against these
protocols; `backend.connection` and `client` implement them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pgherd.catalog.model import GroupId

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Rows in text form, with each column's name and its type as format_type() names it."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[Row]
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One group's share of a statement's answer. `rows` are opaque: whatever the caller's wire hands on."""

    rows: list[Any]
    tag: str  # "UPDATE 3"
    columns: Any = None  # the caller's row description, or None

    @property
    def count(self) -> int:
        """The number at the end of the command tag, 0 if there is none."""
        last = self.tag.rsplit(" ", 1)[-1]
        return int(last) if last.isdigit() else 0


class Params(Protocol):
    """The parameters of one execution. Numbers are from 1, as in `$1`."""

    def key(self, number: int, key_type: str) -> Any:
        """The canonical key value of parameter `number`, None for NULL. Raises keys.Undecodable or errors.BadKey."""
        ...

    def select(self, numbers: Sequence[int]) -> Params:
        """Only these parameters, renumbered from 1."""
        ...


class Link(Protocol):
    """A connection to the primary of one group, used by one task at a time."""

    @property
    def group(self) -> GroupId: ...

    @property
    def broken(self) -> bool:
        """The connection is lost; whatever ran on it has ended or will."""
        ...

    @property
    def pid(self) -> int:
        """The server process's id (BackendKeyData), 0 if unknown: recovery and deadlock detection know branches by it."""
        ...

    async def run(self, sql: str) -> list[Row]:
        """Run one or more statements (simple protocol, no parameters), answer the last result's rows as text.

        Raises errors.ServerError if the server refuses, errors.GroupDown if the connection is lost.
        """
        ...

    async def do(self, sql: str) -> None:
        """As `run`, for the effect alone. Cancelling it gives the connection up, and never sends a cancel request."""
        ...

    async def open(self, sql: str) -> None:
        """Begin a branch: run `sql` now, or in front of the next statement in the same round trip."""
        ...

    def abort(self) -> None:
        """Give the connection up at once: what waits on it fails with errors.GroupDown."""
        ...

    async def part(self, sql: str, params: Params) -> Part:
        """Run one statement with parameters; rows as the caller's wire wants them."""
        ...

    async def texts(self, sql: str, params: Params) -> TextRows:
        """Run one statement with parameters; rows and types as text, exact under a round trip through the type's input."""
        ...

    async def copy_in(self, sql: str, chunks: AsyncIterator[bytes]) -> int:
        """COPY ... FROM STDIN; answers the number of rows."""
        ...

    def copy_out(self, sql: str) -> AsyncIterator[bytes]:
        """COPY ... TO STDOUT, in chunks as they come (whole CopyData payloads)."""
        ...


class Workspace(Protocol):
    """A distributed transaction as DDL and admin procedures see it: branches open when first touched."""

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """All groups, ascending. Touch them in this order: then DDL cannot deadlock with DDL."""
        ...

    async def branch(self, group: GroupId, *, write: bool = True) -> Link:
        """The open branch in `group` (BEGIN has been sent)."""
        ...

    def notice(self, text: str, /) -> None:
        """A NOTICE for the user."""
        ...

    def progress(self, what: str, done: int, total: int, /) -> None:
        """Progress of long work, shown where somebody looks."""
        ...
