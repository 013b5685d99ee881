"""Random SELECTs over tables `people`, `bills` (colocated by last_name) and `places` (a reference table), for comparing a
cluster with one PostgreSQL that holds the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

_KEYS = ("'Smith'", "'Nash'", "'Adams'", "'Nobody'")
_TABLES = ("people", "people", "bills", "bills", "places")

Alias = tuple[str, str]  # alias, table


def key_of(table: str) -> str:
    """The column that joins: the shard key, or the reference table's name."""
    return "name" if table == "places" else "last_name"


@dataclass(slots=True)
class RandomSelect:
    """Makes one SELECT after another. Answers are sets: nothing in them depends on the order of rows."""

    random: Random
    _count: int = field(default=0, init=False)

    def text(self) -> str:
        """The next statement."""
        self._count = 0
        source, aliases = self._from(0)
        body = source + self._where(aliases, 3, 0)
        alias, table = self.random.choice(aliases)
        key = f"{alias}.{key_of(table)}"
        columns = ", ".join(f"{name}.{key_of(of)} AS k{number}" for number, (name, of) in enumerate(aliases))
        return self.random.choice(
            [
                f"SELECT {columns} FROM {body}",
                f"SELECT {columns} FROM {body}",
                f"SELECT count(*), min({key}), count({key}) FROM {body}",
                f"SELECT {key}, count(*) FROM {body} GROUP BY {key}",
                f"SELECT DISTINCT {key} FROM {body}",
                f"WITH w AS (SELECT {key} AS kk FROM {body}) SELECT w.kk, count(*) FROM w JOIN people p ON p.last_name = w.kk GROUP BY 1",
            ]
        )

    def _alias(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def _where(self, aliases: list[Alias], most: int, depth: int) -> str:
        found = [self._condition(aliases, depth) for _ in range(self.random.randint(0, most))]
        return " WHERE " + " AND ".join(found) if found else ""

    def _item(self, depth: int) -> tuple[str, Alias]:
        if depth < 2 and self.random.random() < 0.2:
            inner = self._subquery(depth + 1)
            alias = self._alias()
            return f"({inner}) {alias}", (alias, "subquery")
        table, alias = self.random.choice(_TABLES), self._alias()
        return f"{table} {alias}", (alias, table)

    def _from(self, depth: int) -> tuple[str, list[Alias]]:
        text, first = self._item(depth)
        aliases = [first]
        for _ in range(self.random.choice([0, 0, 1, 1, 2])):
            item, alias = self._item(depth)
            kind = self.random.choice(["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"])
            if kind == "CROSS JOIN":
                text += f" CROSS JOIN {item}"
            else:
                text += f" {kind} {item} ON {self._on(kind, aliases, alias)}"
            aliases.append(alias)
        return text, aliases

    def _on(self, kind: str, aliases: list[Alias], alias: Alias) -> str:
        other, table = self.random.choice(aliases)
        found = [f"{other}.{key_of(table)} = {alias[0]}.{key_of(alias[1])}"]
        if kind != "FULL JOIN":
            found = found if self.random.random() < 0.8 else []
            found += [self._condition([*aliases, alias], 1)] if self.random.random() < 0.4 else []
        return " AND ".join(found) or "true"

    def _subquery(self, depth: int) -> str:
        source, aliases = self._from(depth)
        alias, table = aliases[0]
        key = f"{alias}.{key_of(table)}"
        body = source + self._where(aliases, 2, 1)
        if self.random.random() < 0.3:
            return f"SELECT {key} AS last_name, count(*) AS age FROM {body} GROUP BY {key}"
        return f"SELECT {key} AS last_name, 30 AS age FROM {body}"

    def _condition(self, aliases: list[Alias], depth: int) -> str:
        alias, table = self.random.choice(aliases)
        other, of = self.random.choice(aliases)
        key = f"{alias}.{key_of(table)}"
        one, two = self.random.choice(_KEYS), self.random.choice(_KEYS)
        plain = [
            f"{key} = {one}",
            f"{key} = {one}",
            f"{key} = {other}.{key_of(of)}",
            f"{key} IN ({one}, {two})",
            f"{key} > 'M'",
            f"{key} IS NULL",
            {"people": f"{alias}.age > 25", "bills": f"{alias}.total > 1.5"}.get(table, f"{key} <> {one}"),
        ]
        if depth >= 2 or self.random.random() < 0.6:
            return self.random.choice(plain)
        first, second = self._condition(aliases, depth + 1), self._condition(aliases, depth + 1)
        return self.random.choice(
            [
                f"({first} OR {second})",
                f"NOT ({first})",
                self._subselect(key, aliases, depth),
                self._subselect(key, aliases, depth),
            ]
        )

    def _subselect(self, key: str, aliases: list[Alias], depth: int) -> str:
        table, alias = self.random.choice(["people", "bills"]), self._alias()
        seen = [(alias, table), *(aliases if self.random.random() < 0.7 else [])]
        found = [self._condition(seen, depth + 1) for _ in range(self.random.randint(0, 2))]
        if self.random.random() < 0.5:
            found.append(f"{alias}.last_name = {key}")
        where = " WHERE " + " AND ".join(found) if found else ""
        negated = self.random.choice(["", "NOT "])
        if self.random.random() < 0.5:
            return f"{negated}EXISTS (SELECT 1 FROM {table} {alias}{where})"
        return f"{key} {negated}IN (SELECT {alias}.last_name FROM {table} {alias}{where})"
