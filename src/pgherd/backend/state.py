"""The settings that a session carries from one server connection to the next.

A state is immutable and interned: two sessions with the same settings share one object, so that "does this
connection have my settings?" is a comparison of identities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_interned: dict[tuple[tuple[str, str], ...], SessionState] = {}
_INTERNED_MAX = 10_000

# Restored by statements of their own: RESET ALL leaves them alone.
IDENTITY = ("session_authorization", "role")


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    """Settings in the order in which they must be applied; make one with `state_of`."""

    items: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.items if key == name), None)

    def with_value(self, name: str, value: str | None) -> SessionState:
        """The state after SET name = value (None: RESET name)."""
        rest = tuple(item for item in self.items if item[0] != name)
        return state_of(rest if value is None else (*rest, (name, value)))


def state_of(items: tuple[tuple[str, str], ...]) -> SessionState:
    """The one state with these settings. Identity settings come first, the rest by name."""
    order = tuple(sorted(items, key=lambda item: (item[0] not in IDENTITY, item[0] == "role", item[0])))
    found = _interned.get(order)
    if found is None:
        if len(_interned) >= _INTERNED_MAX:
            _interned.clear()
        found = _interned[order] = SessionState(order)
    return found


_UNITS_S = {"": 0.001, "us": 0.000001, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|)\s*")


def seconds(text: str | None) -> float | None:
    """A timeout as PostgreSQL writes it ('5s', '1min', 1500 milliseconds without a unit); None if there is none, or it is 0."""
    found = _TIME.fullmatch(text or "")
    return (float(found[1]) * _UNITS_S[found[2]] or None) if found else None


def literal(text: str) -> str:
    """A string literal that means `text` whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def switch_sql(before: SessionState | None, after: SessionState) -> str:
    """The statements that take a connection from one state to another; `before` None: it is not known."""
    if before is after:
        return ""
    steps: list[str] = []
    held: dict[str, str] = {}
    if before is None:
        steps += ["RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL"]
    else:
        held = dict(before.items)
        wanted = {name for name, _ in after.items}
        if any(name in held and name not in wanted for name in IDENTITY) or any(
            held.get(name) != after.get(name) for name in IDENTITY
        ):
            steps += ["RESET ROLE", "RESET SESSION AUTHORIZATION"]
            held = {name: value for name, value in held.items() if name not in IDENTITY}
        steps += [f"RESET {_name(name)}" for name in held if name not in wanted]
    steps += [
        f"SELECT pg_catalog.set_config({literal(name)}, {literal(value)}, false)"
        for name, value in after.items
        if held.get(name) != value
    ]
    return "; ".join(steps)


def _name(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
