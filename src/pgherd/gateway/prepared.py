"""Texts that clients have sent, planned and ready to route: what makes the second time cheap.

A `Prepared` belongs to one map and one search path; when the map changes, all are forgotten and made anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from pgherd.catalog.model import ClusterMap, GroupId, Keyspace, ShardId
from pgherd.engine.plans_cache import Planned
from pgherd.errors import PgherdError, SyntaxRefused
from pgherd.gateway import wire
from pgherd.plan.plans import AnyPlan, Empty, OneGroup, Param, Single
from pgherd.plan.template import Literal, Skeleton, template
from pgherd.sql import functions
from pgherd.sql.statement import Statement
from pgherd.sql.tree import find, strings

_numbers = count(1)
# What stands before a bracket, but for the table of an INSERT, and words that are no functions.
_CALL = re.compile(r'(?<!into )(?<!INTO )(?<![\w".])([\w".]*\w"?)\s*\(')
_BEFORE_BRACKETS = frozenset(
    {"values", "in", "and", "or", "not", "any", "all", "exists", "as", "on", "key", "coalesce"}
)
Plans = Callable[[str, tuple[str, ...]], tuple[Planned, ...]]


@dataclass(frozen=True, slots=True)
class Target:
    """One rendered form of a statement: for a shard, or for a whole group (shard None)."""

    group: GroupId
    shard: ShardId | None
    sql: str
    name: bytes  # of the server-side prepared statement
    parse: bytes  # Parse message that makes it
    parse_unnamed: bytes
    query: bytes  # simple Query message


class Prepared:
    """One statement text with its parameter types, planned. `described` is filled by the first Describe."""

    __slots__ = (
        "_keyspace",
        "_number",
        "_targets",
        "described",
        "fast",
        "oids",
        "plan",
        "plans",
        "single_param",
        "sql",
        "statement",
        "taints",
        "uses",
    )

    def __init__(
        self, sql: str, oids: tuple[int, ...], statement: Statement, plan: AnyPlan, plans: PathPlans
    ) -> None:
        self.sql = sql
        self.plans = plans
        self.oids = oids
        self.statement = statement
        self.plan = plan
        self.uses = 0
        self.described: tuple[bytes, bytes] | None = None
        self._number = next(_numbers)
        self._targets: dict[tuple[GroupId, ShardId | None], Target] = {}
        self._keyspace: Keyspace | None = None
        self.single_param: tuple[int, str] | None = None
        self.fast = False
        self.taints = _taints(statement)
        if isinstance(plan, Single):
            self._keyspace = plans.cluster.keyspaces[plan.keyspace]
            self.fast = plan.in_transaction and not plan.pin and not self.taints
            if len(plan.key) == 1 and isinstance(plan.key[0], Param):
                self.single_param = (plan.key[0].number, self._keyspace.key_types[0])
        elif isinstance(plan, OneGroup):
            plain = not (plan.pin or plan.unknown or plan.reads)
            self.fast = plan.in_transaction and plain and not self.taints

    @property
    def keyspace(self) -> Keyspace:
        assert self._keyspace is not None
        return self._keyspace

    def shard_target(self, group: GroupId, shard: ShardId) -> Target:
        found = self._targets.get((group, shard))
        if found is None:
            assert isinstance(self.plan, Single)
            found = self._make(group, shard, self.plan.text.for_shard(shard))
        return found

    def group_target(self, group: GroupId, sql: str) -> Target:
        found = self._targets.get((group, None))
        return found if found is not None else self._make(group, None, sql)

    def _make(self, group: GroupId, shard: ShardId | None, sql: str) -> Target:
        name = f"h{self._number}_{group}_{shard if shard is not None else ''}"
        target = Target(
            group=group,
            shard=shard,
            sql=sql,
            name=name.encode(),
            parse=wire.parse(name, sql, self.oids),
            parse_unnamed=wire.parse("", sql, self.oids),
            query=wire.query(sql),
        )
        self._targets[group, shard] = target
        return target


def _taints(statement: Statement) -> bool:
    """Whether it may change settings of its server connection: it runs code that we do not know."""
    if statement.kind in ("do_stmt", "call_stmt"):
        return True
    calls = {name.strip('"').lower() for name in _CALL.findall(statement.text)}
    if statement.tree is None or all(
        name in _BEFORE_BRACKETS or _known(tuple(name.split("."))) for name in calls
    ):
        return False  # the tree of a long INSERT is long as well
    return any(not _known(strings(call.funcname)) for call in find(statement.tree, "FuncCall"))


def _known(name: tuple[str, ...]) -> bool:
    if name[:-1] == ("pgherd",):
        return True
    return name[:-1] in ((), ("pg_catalog",)) and (
        name[-1] in functions.KNOWN or name[-1] in functions.GROUP_ZERO
    )


@dataclass(frozen=True, slots=True)
class Templated:
    """A simple query's shape, whatever its literals are: a single-shard plan and how to write its text.

    `bindable`: its literals may travel as parameters of a prepared statement, which spares the server parsing and planning.
    """

    prepared: Prepared
    skeleton: Skeleton
    bindable: bool


# After these words a number is a place or a count, not a value: ORDER BY 1 is not ORDER BY $1.
_NOT_VALUES = re.compile(r"\b(?:order|group|limit|offset|fetch|distinct|window|over)\b", re.IGNORECASE)
_INT4_MAX, _INT8_MAX = 2**31 - 1, 2**63 - 1
_UNKNOWN, _INT4, _INT8, _NUMERIC = 0, 23, 20, 1700


def literal_oid(raw: str) -> int:
    """The type that PostgreSQL gives to a literal as it is written: a parameter of that type means the same."""
    if raw[0] == "'":
        return _UNKNOWN
    if not raw.isdigit():
        return _NUMERIC
    number = int(raw)
    return _INT4 if number <= _INT4_MAX else _INT8 if number <= _INT8_MAX else _NUMERIC


class PathPlans:
    """Everything prepared for one search path under one map."""

    __slots__ = ("_by_key", "_plans", "by_body", "by_text", "cluster", "path", "templates")
    MAX = 5_000

    def __init__(self, path: tuple[str, ...], cluster: ClusterMap, plans: Plans) -> None:
        self.path = path
        self.cluster = cluster
        self._plans = plans
        self._by_key: dict[tuple[str, tuple[int, ...]], Prepared] = {}
        self.by_body: dict[bytes, Prepared] = {}  # the body of an unnamed Parse message
        self.by_text: dict[bytes, Prepared] = {}  # the text of a simple query
        self.templates: dict[str, Templated | None] = {}

    @property
    def epoch(self) -> int:
        return self.cluster.epoch

    def prepare(self, sql: str, oids: tuple[int, ...]) -> Prepared:
        """Parse and plan one statement. Raises SyntaxRefused, Refused and what else planning raises."""
        key = (sql, oids)
        found = self._by_key.get(key)
        if found is None:
            planned = self._plans(sql, self.path)
            if len(planned) > 1:
                raise SyntaxRefused("cannot insert multiple commands into a prepared statement")
            statement, plan = (
                planned[0]
                if planned
                else (Statement(text="", kind="empty", tree=None), Empty(rows=False, tag=""))
            )
            found = Prepared(sql, oids, statement, plan, self)
            self._remember(key, found)
        return found

    def _remember(self, key: tuple[str, tuple[int, ...]], prepared: Prepared) -> None:
        if len(key[0]) > 20_000:
            return
        if len(self._by_key) >= self.MAX:
            for table in (self._by_key, self.by_body, self.by_text):
                table.clear()
        self._by_key[key] = prepared

    def learn_body(self, body: bytes, prepared: Prepared) -> None:
        """The next unnamed Parse with these very bytes needs no look at its text."""
        if prepared.fast and len(body) < 20_000:
            self.by_body[body] = prepared

    def learn_text(self, text: bytes, sql: str, prepared: Prepared) -> None:
        """The next simple query with this text, or with its shape and other literals, is routed at once."""
        if not prepared.fast or len(text) > 20_000:
            return
        shape = template(sql)
        if shape is None or not isinstance(prepared.plan, Single):
            if len(self.by_text) >= self.MAX:
                self.by_text.clear()
            self.by_text[text] = prepared
            return
        if shape[0] not in self.templates:
            if len(self.templates) >= self.MAX:
                self.templates.clear()
            self.templates[shape[0]] = self._templated(shape[0])

    def _templated(self, shape: str) -> Templated | None:
        try:
            prepared = self.prepare(shape, ())
        except PgherdError:
            return None  # the shape with parameters is not SQL: `interval $1`
        plan = prepared.plan
        if not isinstance(plan, Single) or not prepared.fast:
            return None
        return Templated(prepared, Skeleton(plan.text), _NOT_VALUES.search(shape) is None)


def bound_literals(literals: tuple[Literal, ...]) -> bytes:
    """The body of a Bind message after its names: these literals' values as text, results as text."""
    parts = [b"\0\0", len(literals).to_bytes(2, "big")]
    for literal in literals:
        value = literal.text.encode()
        parts += (len(value).to_bytes(4, "big"), value)
    parts.append(b"\0\0")
    return b"".join(parts)
