"""Small readings of libpg_query's trees: which node it is, what names it holds, all nodes below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Tree = Any  # a protobuf message; the generated stubs are too wide to be of use

_message_fields: dict[Any, bool] = {}  # field descriptor -> holds messages


def children(message: Tree) -> Iterator[Tree]:
    """The messages directly inside `message`, in the order of its fields."""
    for field, value in message.ListFields():
        known = _message_fields.get(field)
        if known is None:
            known = _message_fields[field] = field.message_type is not None
        if known:
            if hasattr(value, "DESCRIPTOR"):
                yield value
            else:
                yield from value


def descend(message: Tree) -> Iterator[Tree]:
    """`message` and every message below it, parents first."""
    stack = [message]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(reversed(list(children(one))))


def is_a(message: Tree, name: str) -> bool:
    """Whether the message is of the type `name` ("ColumnRef")."""
    return message.DESCRIPTOR.name == name


def find(message: Tree, name: str) -> Iterator[Tree]:
    """Every message of type `name` in `message`, itself included."""
    return (one for one in descend(message) if is_a(one, name))


def strings(nodes: Iterable[Tree]) -> tuple[str, ...]:
    """The texts of a list of String nodes; anything else ("*") is left out."""
    return tuple([node.string.sval for node in nodes if node.HasField("string")])  # a list is faster


def inner(node: Tree) -> Tree | None:
    """What a Node holds, or None if it is empty."""
    kind = node.WhichOneof("node")
    return None if kind is None else getattr(node, kind)


_PLACES = frozenset({"location", "rexpr_list_start", "rexpr_list_end", "list_start", "list_end"})


def without_places(message: Tree) -> Tree:
    """A copy without byte offsets, to compare two trees by meaning."""
    copy = message.__class__()
    copy.CopyFrom(message)
    for one in list(descend(copy)):
        for field, _ in one.ListFields():
            if field.name in _PLACES:
                one.ClearField(field.name)
    return copy
