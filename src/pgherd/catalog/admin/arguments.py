"""The arguments of an admin procedure, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgherd.catalog import naming
from pgherd.catalog.ddl.change import Change
from pgherd.catalog.model import Table
from pgherd.errors import BadSetting, UndefinedProcedure

# Of parameters that are no texts. The catalog declares the procedures in the same way (sql/71_procedures.sql).
_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("shard", "other", "group", "workflow", "shards"), "integer"),
    **dict.fromkeys(("verify", "dry_run", "offline", "wait", "stop", "if_exists"), "boolean"),
}


def type_of(parameter: str) -> str:
    """The SQL type of a procedure's parameter."""
    return _TYPES.get(parameter, "text")


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
    """The table that the argument `table` names."""
    return await naming.table(change.run_home, change.cluster, change.path, arguments.text("table"))
