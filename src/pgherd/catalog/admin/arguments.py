"""The arguments of an admin procedure, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgherd.catalog.ddl.change import Change
from pgherd.catalog.model import GroupId, Shard, ShardId, Table
from pgherd.catalog.text import literal
from pgherd.errors import BadSetting, UndefinedProcedure, UndefinedTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """`values` in text form, by parameter name; `rest`: what follows the last parameter of a variadic procedure."""

    procedure: str
    values: Mapping[str, str]
    rest: tuple[str, ...] = ()

    @classmethod
    def match(
        cls,
        procedure: str,
        parameters: tuple[str, ...],
        args: Sequence[str | None],
        named: Mapping[str, str | None],
        *,
        variadic: bool = False,
        more: tuple[str, ...] = (),
    ) -> Arguments:
        """Arguments in their places. Raises UndefinedProcedure if there are too many, or a name is unknown. `more`: only by name."""
        known = {"table_name": "table", **{name: name for name in (*parameters, *more)}}
        wrong = [name for name in named if known.get(name) not in (*parameters, *more)]
        if wrong or (len(args) > len(parameters) and not variadic):
            raise UndefinedProcedure(
                f"pgherd.{procedure} does not take these arguments",
                hint=f"Its parameters: {', '.join((*parameters, *more))}.",
            )
        values = dict(zip(parameters, args, strict=False))
        values |= {known[name]: value for name, value in named.items()}
        rest = tuple(value for value in args[len(parameters) :] if value is not None)
        return cls(procedure=procedure, values={k: v for k, v in values.items() if v is not None}, rest=rest)

    def text(self, name: str) -> str:
        """A required argument."""
        value = self.values.get(name)
        if value is None:
            raise BadSetting(f"pgherd.{self.procedure} needs the argument {name}")
        return value

    def number(self, name: str) -> int:
        """A required whole number."""
        value = self.text(name)
        if not value.strip().lstrip("-").isdigit():
            raise BadSetting(f"pgherd.{self.procedure}: {name} must be a whole number, not {value!r}")
        return int(value)

    def optional_number(self, name: str) -> int | None:
        """A whole number, or None."""
        return self.number(name) if name in self.values else None


async def table_argument(change: Change, arguments: Arguments) -> Table:
    """The table that the argument `table` names, as PostgreSQL reads names (case folded unless quoted)."""
    given = arguments.text("table")
    rows = await change.run_home(f"SELECT pg_catalog.array_to_json(pg_catalog.parse_ident({literal(given)}))")
    parts: list[str] = json.loads(rows[0][0] or "[]")
    table = change.cluster.find(parts[-1], parts[-2] if len(parts) > 1 else None, change.path)
    if table is None:
        raise UndefinedTable(f'table "{given}" does not exist')
    return table


def shard_argument(change: Change, number: int) -> Shard:
    """The shard of that number."""
    for keyspace in change.cluster.keyspaces.values():
        found = keyspace.by_id.get(ShardId(number))
        if found is not None:
            return found
    raise BadSetting(f"there is no shard {number}", hint="SELECT * FROM pgherd.shards shows them.")


def group_argument(change: Change, number: int) -> GroupId:
    """The group of that number."""
    if number not in change.cluster.groups:
        raise BadSetting(f"there is no group {number}", hint="SELECT * FROM pgherd.groups shows them.")
    return GroupId(number)
