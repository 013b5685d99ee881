"""Random SQL over the small world of tests/integration/client_world.py, as hypothesis strategies.

Each statement is valid in PostgreSQL and has one right answer: what LIMIT keeps is fixed by ORDER BY over a unique key, and no
floats are added up. `ordered` says whether the rows' order counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

INT, TEXT, NUM = "int", "text", "numeric"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table: its columns with their types, and the unique key."""

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]


USERS = Relation("users", (("id", INT), ("name", TEXT), ("country", TEXT), ("credit", INT)), ("id",))
ORDERS = Relation("orders", (("user_id", INT), ("no", INT), ("amount", NUM)), ("user_id", "no"))
PEOPLE = Relation("people", (("last_name", TEXT), ("id", INT), ("age", INT)), ("last_name", "id"))
COUNTRIES = Relation("countries", (("code", TEXT), ("name", TEXT)), ("code",))
NOTES = Relation("notes", (("id", INT), ("body", TEXT)), ("id",))
RELATIONS = (USERS, ORDERS, PEOPLE, COUNTRIES, NOTES)

relations = st.sampled_from((USERS, USERS, ORDERS, ORDERS, PEOPLE, COUNTRIES, NOTES))
WORDS = ("user 1", "user 5", "de", "fr", "Baker", "Moore", "Zorn", "note 2", "", "M")


@dataclass(frozen=True, slots=True)
class Sql:
    """A statement with its arguments."""

    text: str
    args: tuple[Any, ...] = ()
    ordered: bool = False


class Making:
    """A statement in the making: draws pieces and collects arguments."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.args: list[Any] = []

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def chance(self, percent: int) -> bool:
        return self.draw(st.integers(0, 99)) < percent

    def column(self, relation: Relation, alias: str, kind: str | None = None) -> tuple[str, str]:
        fitting = [one for one in relation.columns if kind is None or one[1] == kind] or list(
            relation.columns
        )
        name, found = self.pick(*fitting)
        return f"{alias}.{name}", found

    def value(self, kind: str) -> str:
        """A literal, or a parameter."""
        value: Any = self.pick(*WORDS) if kind == TEXT else self.draw(st.integers(0, 45))
        if self.chance(40) and kind != NUM:
            self.args.append(value)
            return f"${len(self.args)}::{kind}"
        return f"'{value}'" if kind == TEXT else str(value)

    def condition(self, relation: Relation, alias: str, depth: int = 0) -> str:
        column, kind = self.column(relation, alias)
        shape = self.draw(st.integers(0, 10))
        if shape <= 4:
            return f"{column} {self.pick('=', '=', '<', '>=', '<>')} {self.value(kind)}"
        if shape == 5:
            return f"{column} IN ({self.value(kind)}, {self.value(kind)}, {self.value(kind)})"
        if shape == 6:
            return f"{column} BETWEEN {self.value(kind)} AND {self.value(kind)}"
        if shape == 7:
            return f"{column} IS {self.pick('', 'NOT ')}NULL"
        if shape == 8 and depth < 2:
            return f"({self.condition(relation, alias, depth + 1)} {self.pick('AND', 'OR')} {self.condition(relation, alias, depth + 1)})"
        if shape == 9 and depth < 1:
            return self.subquery_condition(relation, alias, column, kind)
        return f"{relation.key[0] if not alias else alias + '.' + relation.key[0]} = {self.value(dict(relation.columns)[relation.key[0]])}"

    def subquery_condition(self, relation: Relation, alias: str, column: str, kind: str) -> str:
        inner: Relation = self.draw(relations)
        other, found = self.column(inner, "s", kind)
        if found != kind:
            return f"{column} IS NOT NULL"
        where = self.condition(inner, "s", 2)
        shape = self.draw(st.integers(0, 3))
        if shape == 0:
            return f"{column} {self.pick('IN', 'NOT IN')} (SELECT {other} FROM {inner.name} s WHERE {other} IS NOT NULL AND {where})"
        if shape == 1:
            return f"{self.pick('', 'NOT ')}EXISTS (SELECT 1 FROM {inner.name} s WHERE {other} = {column} AND {where})"
        if shape == 2:
            return f"{column} > (SELECT max({other}) FROM {inner.name} s WHERE {where})"
        return f"{column} = ANY (SELECT {other} FROM {inner.name} s WHERE {where})"

    def where(self, relation: Relation, alias: str) -> str:
        return f" WHERE {self.condition(relation, alias)}" if self.chance(70) else ""

    def expression(self, relation: Relation, alias: str) -> str:
        column, kind = self.column(relation, alias)
        if kind == TEXT:
            return self.pick(column, f"upper({column})", f"length({column})", f"coalesce({column}, '-')")
        return self.pick(
            column, f"{column} + 1", f"CASE WHEN {column} > 10 THEN 'many' ELSE 'few' END", f"-{column}"
        )

    def aggregate(self, relation: Relation, alias: str) -> str:
        column, kind = self.column(relation, alias)
        distinct = self.pick("", "", "DISTINCT ")
        plain = [f"count({distinct}{column})", "count(*)", f"min({column})", f"max({column})"]
        if kind == TEXT:
            plain.append(f"string_agg({distinct}{column}, ',' ORDER BY {column})")
        else:
            plain += [
                f"sum({distinct}{column})",
                f"avg({distinct}{column})",
                f"array_agg({column} ORDER BY {column})",
            ]
        chosen = self.pick(*plain)
        return f"{chosen} FILTER (WHERE {self.condition(relation, alias, 2)})" if self.chance(20) else chosen


def _plain(make: Making) -> Sql:
    relation: Relation = make.draw(relations)
    items = ", ".join(make.expression(relation, "t") for _ in range(make.draw(st.integers(1, 3))))
    distinct = make.chance(20)
    text = (
        f"SELECT {'DISTINCT ' if distinct else ''}{items} FROM {relation.name} t{make.where(relation, 't')}"
    )
    if distinct or make.chance(40):
        return Sql(text, tuple(make.args))
    key = ", ".join(f"t.{name}{make.pick('', ' DESC')}" for name in relation.key)
    text += f" ORDER BY {make.column(relation, 't')[0]}{make.pick('', ' DESC', ' NULLS FIRST')}, {key}"
    if make.chance(60):
        text += f" LIMIT {make.draw(st.integers(0, 12))}"
    if make.chance(20):
        text += f" OFFSET {make.draw(st.integers(0, 6))}"
    return Sql(text, tuple(make.args), ordered=True)


def _aggregated(make: Making) -> Sql:
    relation: Relation = make.draw(relations)
    aggregates = [make.aggregate(relation, "t") for _ in range(make.draw(st.integers(1, 3)))]
    where = make.where(relation, "t")
    if make.chance(40):
        return Sql(f"SELECT {', '.join(aggregates)} FROM {relation.name} t{where}", tuple(make.args))
    groups = [make.column(relation, "t")[0] for _ in range(make.draw(st.integers(1, 2)))]
    by = make.pick(", ".join(groups), ", ".join(groups), f"ROLLUP ({', '.join(groups)})")
    text = f"SELECT {', '.join([*groups, *aggregates])} FROM {relation.name} t{where} GROUP BY {by}"
    if make.chance(30):
        text += f" HAVING count(*) > {make.draw(st.integers(0, 3))}"
    return Sql(text, tuple(make.args))


def _joined(make: Making) -> Sql:
    left: Relation = make.draw(relations)
    right: Relation = make.draw(relations)
    one, kind = make.column(left, "a")
    other, found = make.column(right, "b", kind)
    if {one.split(".")[1], other.split(".")[1]} == {"id", "user_id"} or make.chance(30):
        one, other = (f"a.{left.key[0]}", f"b.{right.key[0]}")
        kind, found = dict(left.columns)[left.key[0]], dict(right.columns)[right.key[0]]
    cast = "" if kind == found else "::text"
    join = make.pick("JOIN", "JOIN", "LEFT JOIN", "FULL JOIN")
    source = f"{left.name} a {join} {right.name} b ON {one}{cast} = {other}{cast}"
    where = f" WHERE {make.condition(left, 'a')}" if make.chance(60) else ""
    if make.chance(40):
        items = f"count(*), {make.aggregate(left, 'a')}, {make.aggregate(right, 'b')}"
    else:
        items = f"{make.expression(left, 'a')}, {make.expression(right, 'b')}"
    return Sql(f"SELECT {items} FROM {source}{where}", tuple(make.args))


def _combined(make: Making) -> Sql:
    first: Relation = make.draw(relations)
    second: Relation = make.draw(relations)
    one, kind = make.column(first, "a")
    other, found = make.column(second, "b", kind)
    cast = "" if kind == found else "::text"
    operator = make.pick("UNION", "UNION ALL", "EXCEPT", "INTERSECT")
    return Sql(
        f"SELECT {one}{cast} FROM {first.name} a{make.where(first, 'a')} {operator} "
        f"SELECT {other}{cast} FROM {second.name} b{make.where(second, 'b')}",
        tuple(make.args),
    )


def _windowed(make: Making) -> Sql:
    relation: Relation = make.draw(relations)
    key = ", ".join(f"t.{name}" for name in relation.key)
    part = make.column(relation, "t")[0]
    function = make.pick("row_number()", "count(*)", f"lag({make.column(relation, 't')[0]})", f"max({part})")
    return Sql(
        f"SELECT {key}, {function} OVER (PARTITION BY {part} ORDER BY {key}) FROM {relation.name} t{make.where(relation, 't')}",
        tuple(make.args),
    )


def _with(make: Making) -> Sql:
    relation: Relation = make.draw(relations)
    other: Relation = make.draw(relations)
    column, kind = make.column(relation, "t")
    second, found = make.column(other, "o", kind)
    cast = "" if kind == found else "::text"
    return Sql(
        f"WITH w AS (SELECT {column} AS c, count(*) AS n FROM {relation.name} t{make.where(relation, 't')} GROUP BY 1) "
        f"SELECT w.c, w.n, count({second}) FROM w LEFT JOIN {other.name} o ON {second}{cast} = w.c{cast} GROUP BY 1, 2",
        tuple(make.args),
    )


@st.composite
def reads(draw: Any) -> Sql:
    """A SELECT of any of the shapes above."""
    make = Making(draw)
    shape = make.pick(_plain, _plain, _aggregated, _aggregated, _joined, _joined, _combined, _windowed, _with)
    return shape(make)


_NEW = {
    "users": ("id, name, credit", "({n}, {word}, {small})"),
    "orders": ("user_id, no, amount", "({user}, {n}, length({word}))"),
    "people": ("last_name, id, age", "({word}, {n}, {small})"),
    "countries": ("code, name", "('c' || {n}, {word})"),
    "notes": ("id, body", "({n}, {word})"),
}
_SET = {
    "users": ("name", "credit", "country"),
    "orders": ("amount", "no"),
    "people": ("last_name", "age"),
    "countries": ("name",),
    "notes": ("body",),
}


def _insert(make: Making) -> Sql:
    relation: Relation = make.draw(relations)
    columns, shape = _NEW[relation.name]
    rows = ", ".join(
        shape.format(
            n=make.draw(st.integers(1, 60)),
            user=make.draw(st.integers(1, 40)),
            word=make.value(TEXT),
            small=make.value(INT) if "{small}" in shape else "",
        )
        for _ in range(make.draw(st.integers(1, 4)))
    )
    column = columns.rsplit(", ", 1)[-1]
    key = ", ".join(relation.key)
    conflict = make.pick(
        "",
        f" ON CONFLICT ({key}) DO NOTHING",
        f" ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}",
    )
    return Sql(
        f"INSERT INTO {relation.name} ({columns}) VALUES {rows}{conflict}{_returning(make, relation)}",
        tuple(make.args),
    )


def _returning(make: Making, relation: Relation) -> str:
    return make.pick("", f" RETURNING {relation.key[0]}, {relation.columns[-1][0]}")


def _update(make: Making) -> Sql:
    relation: Relation = make.draw(relations)
    name = make.pick(*_SET[relation.name])
    kind = dict(relation.columns)[name]
    changed = f"{name} || 'x'" if kind == TEXT else f"{name} + 100"
    value = make.value(kind) if make.chance(50) else changed
    where = f" WHERE {make.condition(relation, relation.name, 1)}" if make.chance(80) else ""
    return Sql(
        f"UPDATE {relation.name} SET {name} = {value}{where}{_returning(make, relation)}", tuple(make.args)
    )


def _delete(make: Making) -> Sql:
    relation: Relation = make.pick(ORDERS, PEOPLE, COUNTRIES, NOTES)
    return Sql(
        f"DELETE FROM {relation.name} WHERE {make.condition(relation, relation.name, 1)}{_returning(make, relation)}",
        tuple(make.args),
    )


def _insert_select(make: Making) -> Sql:
    """The source has each key once: which of several ON CONFLICT would keep is anybody's guess."""
    target: Relation = make.pick(USERS, PEOPLE, NOTES)
    source: Relation = make.draw(relations)
    word, _ = make.column(source, "s", TEXT)
    number, text = _NEW[target.name][0].split(", ")[:2]
    if target is PEOPLE:
        number, text = text, number
    query = (
        f"SELECT length({word}::text) + 100, min({word}::text) FROM {source.name} s{make.where(source, 's')}"
    )
    return Sql(
        f"INSERT INTO {target.name} ({number}, {text}) "
        f"SELECT * FROM ({query} GROUP BY 1) q WHERE q IS NOT NULL ON CONFLICT DO NOTHING",
        tuple(make.args),
    )


@st.composite
def writes(draw: Any) -> Sql:
    """An INSERT, UPDATE or DELETE."""
    make = Making(draw)
    return make.pick(_insert, _insert, _update, _update, _delete, _insert_select)(make)
