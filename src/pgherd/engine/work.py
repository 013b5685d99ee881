"""What a multi-step plan needs in order to run: its transaction, the map, the id source, bounds.

Gateway and client fill a `Work` for each statement; the steps themselves (`execute` and its siblings) are written
once above it and never know which of the two they serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.engine.link import Link, Params, Part
from pgherd.errors import StaleMap
from pgherd.plan.plans import Plan
from pgherd.transaction.coordinator import Transaction

if TYPE_CHECKING:
    from pgherd.engine.metering import Meter

T = TypeVar("T")


class Ids(Protocol):
    """A source of cluster-unique ids."""

    def next(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Sizes that no statement exceeds. `batch_rows` and `batch_bytes` bound one divided INSERT's text; `copy_bytes` what
    waits for one group during a COPY."""

    parallel: int = 16
    batch_rows: int = 2_000
    batch_bytes: int = 1_000_000
    held_rows: int = 1_000_000
    copy_bytes: int = 4_000_000


def no_notice(text: str) -> None:
    """Drop a notice: nobody listens."""


def no_node(group: GroupId, plan: Plan) -> str | None:
    """Nothing is known of nodes: each group is one."""


def no_progress(what: str, done: int, total: int) -> None:
    """Drop a progress report: nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One statement's surroundings; also the `Workspace` of definitions and procedures.

    `node`: which node of a group would answer a plan, and why, in one line (EXPLAIN). `path`: the schemas that unqualified names mean. `params()` without arguments is the caller's empty parameter list."""

    tx: Transaction
    map: ClusterMap
    ids: Ids
    params: Params
    bounds: Bounds = field(default_factory=Bounds)
    prefer: GroupId | None = None
    path: tuple[str, ...] = ("public",)
    notice: Callable[[str], None] = no_notice
    progress: Callable[[str, int, int], None] = no_progress
    node: Callable[[GroupId, Plan], str | None] = no_node
    meter: Meter | None = None  # counts statements of one shard that the executor itself sends
    renew: Callable[[], Awaitable[ClusterMap]] | None = None  # reads the map again, for the caller as well

    async def renewed(self) -> Work:
        """The same with the map as it is now, for a statement that found out before it did anything. Raises StaleMap."""
        if self.renew is None:
            raise StaleMap("the map was old")
        return replace(self, map=await self.renew())

    @property
    def nothing(self) -> Params:
        """No parameters at all."""
        return self.params.select(())

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """All groups, ascending."""
        return tuple(sorted(self.map.groups))

    async def branch(self, group: GroupId, *, write: bool = True) -> Link:
        """The open branch in `group`."""
        return await self.tx.branch(group, write=write)

    @property
    def somewhere(self) -> GroupId:
        """A group for what any group can answer: the caller's preference, else the first."""
        return self.prefer if self.prefer is not None else self.groups[0]


async def side_by_side(
    keys: Iterable[GroupId], job: Callable[[GroupId], Awaitable[T]], *, limit: int
) -> dict[GroupId, T]:
    """Run `job` for every group, at most `limit` at a time; answers in the order of `keys`.

    All jobs end before this returns, also when one fails: a half-run statement on a branch would leave its
    connection in the middle of a message. The first error in the order of `keys` is raised.
    """
    order = list(dict.fromkeys(keys))
    if len(order) == 1:
        return {order[0]: await job(order[0])}
    room = asyncio.Semaphore(limit)

    async def bounded(key: GroupId) -> T:
        async with room:
            return await job(key)

    answers = await asyncio.gather(*(bounded(key) for key in order), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return dict(zip(order, answers, strict=True))  # type: ignore[arg-type]


def merged(parts: Sequence[Part], tag: str | None = None) -> Part:
    """Several groups' parts as one: rows one after another, counts summed. `tag` overrides the first word(s)."""
    first = parts[0]
    rows: list[Any] = [row for part in parts for row in part.rows] if len(parts) > 1 else first.rows
    columns = next((part.columns for part in parts if part.columns is not None), None)
    return Part(rows=rows, tag=counted(tag or first.tag, sum(part.count for part in parts)), columns=columns)


def counted(tag: str, count: int) -> str:
    """The command tag with another number: ("UPDATE 3", 7) is "UPDATE 7"; tags without a number stay."""
    words = tag.split(" ")
    if words[-1].isdigit():
        words[-1] = str(count)
        return " ".join(words)
    return f"INSERT 0 {count}" if tag == "INSERT" else f"{tag} {count}" if tag in COUNTED else tag


COUNTED = frozenset({"SELECT", "UPDATE", "DELETE", "MERGE", "COPY", "FETCH", "MOVE"})


def quoted(text: str | None) -> str:
    """A value in PostgreSQL's text form as a literal of unknown type, whatever standard_conforming_strings says."""
    if text is None:
        return "NULL"
    doubled = text.replace("'", "''")
    return f"'{doubled}'" if "\\" not in doubled else " E'" + doubled.replace("\\", "\\\\") + "'"


def array_text(values: Iterable[str | None]) -> str:
    """Values in text form as an array literal's text: {"a","b",NULL}."""
    values = list(values)
    if values and None not in values:
        joined = '","'.join(cast("list[str]", values))
        if "\\" not in joined and joined.count('"') == 2 * (
            len(values) - 1
        ):  # the usual case: nothing to escape
            return '{"' + joined + '"}'
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def name_text(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


async def answer(
    work: Work, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str | None]], tag: str
) -> Part:
    """Rows of our own making as the caller's wire wants them: a server turns the text into values.

    `columns` are (name, type) pairs; values are in text form.
    """
    link = await work.tx.branch(work.somewhere, write=False)
    arrays = ", ".join(
        f"{quoted(array_text(row[at] for row in rows))}::{kind}[]" for at, (_, kind) in enumerate(columns)
    )
    names = ", ".join(name_text(name) for name, _ in columns)
    part = await link.part(f"SELECT * FROM unnest({arrays}) AS t({names})", work.nothing)
    return Part(rows=part.rows, tag=tag, columns=part.columns)
