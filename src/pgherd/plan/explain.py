"""A plan as plain data: what `pgherd explain` and the plan tests show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from pgherd.catalog import keys
from pgherd.catalog.model import ClusterMap, Table
from pgherd.errors import PgherdError
from pgherd.plan.plans import (
    AnyPlan,
    Const,
    Declare,
    Explain,
    Expr,
    InsertRow,
    InsertSelect,
    NewId,
    Param,
    Plan,
    Single,
    Supplied,
    Text,
)
from pgherd.plan.prune import constant_key
from pgherd.sql.statement import Statement

_DEFAULTS = {"rows": True, "in_transaction": True, "row_limit": 200_000, "format": "text"}


def explain(plan: AnyPlan | Plan, cluster: ClusterMap) -> dict[str, Any]:
    """`route` (the plan's kind), `why`, and whatever says more than the default: texts, groups, shards, key.

    In texts `shard_?` stands for the shard's schema. All values are str, int, bool, list or dict.
    """
    shown: dict[str, Any] = {"route": type(plan).__name__, "why": plan.why}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if (
            field.name in ("why", "replica", "epoch")
            or value in (None, (), "", False)
            or value == _DEFAULTS.get(field.name, ...)
        ):
            continue
        if field.name == "fallback":
            shown["fallback"] = value.sql
        elif isinstance(plan, Supplied) and field.name == "sources":
            shown.update({f"source {one.number}": explain(one.plan, cluster) for one in plan.sources})
        elif field.name in ("inner", "source") and isinstance(
            plan, Explain | Declare | InsertSelect | Supplied
        ):
            shown[field.name] = explain(value, cluster)
        else:
            shown[field.name] = plain(value)
    if not plan.rows:
        shown["rows"] = False
    if isinstance(plan, Single):
        shown["shards"] = _shards(plan, cluster)
    return shown


def _shards(plan: Single, cluster: ClusterMap) -> list[int]:
    """The shard, if constants name it; else any one of the keyspace's."""
    keyspace = cluster.keyspaces[plan.keyspace]
    if all(isinstance(source, Const) for source in plan.key):
        try:
            key = constant_key(plan.key, keyspace)
            found = None if None in key else keyspace.locate(key)
        except (keys.Undecodable, PgherdError):
            found = None
        if found is not None:
            return [found.id]
    return [shard.id for shard in keyspace.shards]


def plain(value: Any) -> Any:
    """Any value of a plan as str, int, bool, list or dict."""
    match value:
        case Text():
            return "shard_?".join(value.pieces)
        case Param():
            return f"${value.number}"
        case Const():
            return "NULL" if value.text is None else f"'{value.text}'"
        case NewId():
            return "<new id>"
        case Expr():
            return f"<{value.sql}{' on group 0' if value.zero else ''}>"
        case InsertRow():
            return {"row": _joined(value.parts), "key": [plain(one) for one in value.key]}
        case Table():
            return f"{value.schema}.{value.name}"
        case Statement():
            return value.text
        case tuple() | list():
            return [plain(one) for one in value]
        case _ if is_dataclass(value):
            return repr(value)
        case _:
            return value


def _joined(parts: Iterable[Any]) -> str:
    return "".join(part if isinstance(part, str) else str(plain(part)) for part in parts)
