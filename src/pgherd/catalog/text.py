"""SQL text from values: literals, identifiers, arrays. Nothing here depends on a server's settings."""

from __future__ import annotations

from collections.abc import Iterable


def literal(value: str | int | bool | None) -> str:
    """A constant as SQL text, right under any standard_conforming_strings."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    quoted = value.replace("'", "''")
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def identifier(name: str) -> str:
    """A quoted name. Always quoted: no list of key words to keep up to date."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """`"schema"."name"`."""
    return f"{identifier(schema)}.{identifier(name)}"


def array(values: Iterable[str | int | None] | None, type_name: str = "text") -> str:
    """`ARRAY[…]::type[]`, or NULL."""
    if values is None:
        return f"NULL::{type_name}[]"
    return f"ARRAY[{', '.join(literal(value) for value in values)}]::{type_name}[]"


def call(function: str, *arguments: str) -> str:
    """`SELECT pgherd.function(arguments)`; the arguments are SQL texts already."""
    return f"SELECT pgherd.{function}({', '.join(arguments)})"
