"""What every part of the planner is handed: the statement, the map, and what was read from the statement."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.plan.prune import all_wanted, groups_of
from pgherd.plan.scope import Scope
from pgherd.sql import functions
from pgherd.sql.statement import Statement

ZERO = GroupId(0)

_OID_NAMES = re.compile(
    r"\breg(class|type|proc|procedure|oper|operator|namespace|role|collation)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Context:
    """One statement being planned."""

    statement: Statement
    cluster: ClusterMap
    path: tuple[str, ...]
    param_types: tuple[int, ...]
    scope: Scope

    @property
    def text(self) -> str:
        return self.statement.text

    @property
    def returns(self) -> bool:
        """Whether the statement answers with rows."""
        return self.statement.kind == "select_stmt" or self.statement.tree.HasField("returning_clause")

    @property
    def calls_unknown(self) -> bool:
        """It calls functions that may do anything."""
        return any(not _harmless(schema, name) for schema, name in self.scope.functions)

    @property
    def needs_zero(self) -> bool:
        """It calls functions whose state lives on group 0 alone."""
        return any(
            schema in ("", "pg_catalog") and name in functions.GROUP_ZERO
            for schema, name in self.scope.functions
        ) or (self.scope.time and "current_catalog" in self.text.lower())

    @property
    def speaks_of_oids(self) -> bool:
        """It may name objects by OID, and a client knows group 0's: `pg_get_partkeydef(16385)`, `16385::regclass`."""
        names = (name for schema, name in self.scope.functions if schema in ("", "pg_catalog"))
        about = functions.ABOUT_OBJECTS
        return any(
            name.startswith(about) and name not in functions.SAME_EVERYWHERE for name in names
        ) or bool(_OID_NAMES.search(self.text))

    @property
    def pins(self) -> bool:
        return any(not schema and name in functions.PINNING for schema, name in self.scope.functions)

    @property
    def same_everywhere(self) -> bool:
        """Every group would compute the same from the same rows."""
        known = functions.SAME_EVERYWHERE | functions.AGGREGATES
        return (
            not self.scope.time
            and all(name in known for schema, name in self.scope.functions if schema in ("", "pgherd"))
            and not any(schema for schema, _ in self.scope.functions)
        )

    @property
    def replicable(self) -> bool:
        """A replica may answer: it reads tables whose kind is known, locks nothing, and calls nothing that may do more than read."""
        scope = self.scope
        return (
            self.statement.kind == "select_stmt"
            and not (scope.locking or scope.into or scope.writes or self.pins)
            and scope.kinds() <= {"distributed", "reference", "single"}
            and all(not schema and name in functions.STEADY for schema, name in scope.functions)
        )

    def read_groups(self) -> tuple[GroupId, ...]:
        """The groups whose rows a whole-table read of the statement may need, ascending."""
        if any(one.table is not None and one.table.distributed_view for one in self.scope.relations):
            return tuple(sorted(self.cluster.groups))
        groups = set(groups_of(all_wanted(self.scope, self.cluster)))
        if self.touches_zero:
            groups.add(ZERO)
        return tuple(sorted(groups))

    @property
    def touches_zero(self) -> bool:
        """It names something that is, or may be, on group 0 alone."""
        return any(
            one.kind in ("single", "unknown", "catalog")
            or (one.kind == "view" and one.table is not None and not one.table.on_all)
            for one in self.scope.relations
        )


def _harmless(schema: str, name: str) -> bool:
    if schema:
        return schema == "pgherd"
    return name in functions.KNOWN
