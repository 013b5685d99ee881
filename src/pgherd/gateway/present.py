"""Servers' errors as the user should see them: without the names of physical schemas, positions in the user's text."""

from __future__ import annotations

import re

_PHYSICAL = re.compile(r'"?\b(?:shard_\d+|global|here)(?:_(\w+))?"?\.')
_SCHEMA = re.compile(r"^(?:shard_\d+|global|here)(?:_(\w+))?$")
_MESSAGE = re.compile(r"\bshard_\d+(?:_(\w+))?\.")


def present(fields: dict[str, str], sent: str | None) -> dict[str, str]:
    """The fields of an error in the user's terms; `sent` is the text that the server got."""
    shown = dict(fields)
    schema = _SCHEMA.match(fields.get("s", ""))
    if schema is not None:
        shown["s"] = schema.group(1) or "public"
    for field in "MDW":
        if field in shown and "shard_" in shown[field]:
            shown[field] = _MESSAGE.sub(
                lambda found: f"{found.group(1)}." if found.group(1) else "", shown[field]
            )
    position = fields.get("P", "")
    if position.isdigit() and sent is not None:
        before = sent[: int(position) - 1]
        added = sum(
            len(found.group(0)) - (len(found.group(1)) + 1 if found.group(1) else 0)
            for found in _PHYSICAL.finditer(before)
        )
        shown["P"] = str(max(1, int(position) - added))
    return shown
