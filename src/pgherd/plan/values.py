"""Constants and parameters as the tree writes them, and whether they can name a shard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pgherd.catalog import keys
from pgherd.errors import PgherdError
from pgherd.plan.plans import Const, Param
from pgherd.sql.tree import Tree

# how types are written in casts -> as format_type() names them
_TYPE_NAMES: Mapping[str, str] = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "text": "text",
    "varchar": "character varying",
    "uuid": "uuid",
    "date": "date",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "numeric": "numeric",
}
_INTS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying"})
UNTYPED = ""  # a string literal, or a parameter without a cast: it takes the type of what it is compared with


class Value(NamedTuple):
    """`source` and the type it is written with: UNTYPED, "integer literal", "numeric literal", or a type's name."""

    source: Param | Const
    type: str


class Within(NamedTuple):
    """A column is `op` one of `values`; op is =, <, <=, > or >=; several values only with =."""

    op: str
    values: tuple[Value, ...]


def same_kind(one: str, other: str) -> bool:
    """Whether equal values of the two types are the same key, order and hash."""
    return one == other or (one in _INTS and other in _INTS) or (one in _TEXTS and other in _TEXTS)


def fits(value: Value, key_type: str, param_types: tuple[int, ...] = ()) -> bool:
    """Whether the value, compared with a column of `key_type`, means what the key's own input syntax means."""
    kind = value.type
    if isinstance(value.source, Param):
        number = value.source.number
        oid = param_types[number - 1] if number <= len(param_types) else 0
        if oid and not keys.same_family(key_type, oid):
            return False
        return kind == UNTYPED or same_kind(kind, key_type)
    if kind == "integer literal":
        return key_type in _INTS or key_type == "numeric"
    if kind == "numeric literal":
        return key_type == "numeric"
    return kind == UNTYPED or same_kind(kind, key_type)


def canonical(value: Value, key_type: str) -> Any:
    """The canonical key value of a constant, None for NULL. Raises keys.Undecodable if Python cannot know it."""
    assert isinstance(value.source, Const)
    if value.source.text is None:
        return None
    try:
        return keys.decode_text(key_type, value.source.text)
    except PgherdError as error:  # a value that the column cannot hold: PostgreSQL shall say so
        raise keys.Undecodable(key_type) from error


def read_value(node: Tree) -> Value | None:
    """The constant or parameter that a Node is (casts without modifiers included), else None."""
    kind = node.WhichOneof("node")
    if kind == "param_ref":
        return Value(Param(node.param_ref.number), UNTYPED)
    if kind == "a_const":
        return _constant(node.a_const)
    if kind == "type_cast":
        return _cast(node.type_cast)
    if kind == "a_expr" and not node.a_expr.lexpr.WhichOneof("node"):
        return _negative(node.a_expr)
    return None


def _constant(const: Tree) -> Value | None:
    kind = const.WhichOneof("val")
    if const.isnull:
        return Value(Const(None), UNTYPED)
    if kind == "sval":
        return Value(Const(const.sval.sval), UNTYPED)
    if kind == "ival":
        return Value(Const(str(const.ival.ival)), "integer literal")
    if kind == "fval":
        text = const.fval.fval
        digits = text.isdigit()  # beyond int4: int8 or numeric
        return Value(Const(text), "integer literal" if digits else "numeric literal")
    return None


def _negative(expr: Tree) -> Value | None:
    if [name.string.sval for name in expr.name] != ["-"]:
        return None
    value = read_value(expr.rexpr)
    if value is None or not value.type.endswith(" literal") or not isinstance(value.source, Const):
        return None
    text = value.source.text or ""
    return Value(Const(text[1:] if text.startswith("-") else "-" + text), value.type)


def _cast(cast: Tree) -> Value | None:
    value = read_value(cast.arg)
    name = type_name(cast.type_name)
    if value is None or name is None:
        return None
    if value.type.endswith(" literal"):
        whole = name in _INTS and value.type == "integer literal"
        return Value(value.source, name) if whole or name == "numeric" else None
    if value.type == UNTYPED:
        return Value(value.source, name)
    return Value(value.source, name) if same_kind(value.type, name) else None


def type_name(node: Tree) -> str | None:
    """A plain type's name as format_type() gives it; None for arrays, modifiers, and types that keys do not use."""
    if node.typmods or node.array_bounds or node.setof or node.pct_type:
        return None
    names = [name.string.sval for name in node.names]
    if len(names) == 2 and names[0] == "pg_catalog":
        names = names[1:]
    return _TYPE_NAMES.get(names[0]) if len(names) == 1 else None
