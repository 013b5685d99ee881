"""What servers say as the user should see it: errors without the names of physical schemas, nodes as they are watched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgherd.gateway.server import Gateway
    from pgherd.topology.views import NodeView

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


NODES_NAMES = (
    "name", "group", "address", "region", "zone", "role", "timeline", "lag_bytes", "round_trip_ms", "trusted", "problem",
)  # fmt: skip


def nodes_now(gateway: Gateway) -> list[list[str | None]]:
    """Every node as the gateway sees it at this moment, in the columns NODES_NAMES. Groups that are not watched: what is known."""
    rows: list[list[str | None]] = []
    for group in gateway.groups():
        trusted = gateway.watch.trusted(group)
        views = gateway.watch.views(group)
        newest = max((view.answer.position for view in views if view.answer is not None), default=0)
        rows.extend(_node_row(view, view.node == trusted, newest) for view in views)
        if not views and trusted is not None:
            where = f"{trusted.host}:{trusted.port}"
            rows.append(
                [
                    trusted.name,
                    str(group),
                    where,
                    trusted.region,
                    trusted.zone,
                    "primary",
                    *[None] * 3,
                    "t",
                    None,
                ]
            )
    return rows


def _node_row(view: NodeView, trusted: bool, newest: int) -> list[str | None]:
    node, answer = view.node, view.answer
    known: list[str | None] = [None, None, None]
    if answer is not None:
        role = "standby" if answer.in_recovery else "primary"
        known = [role, str(answer.timeline), str(max(newest - answer.position, 0))]
    trip = f"{view.rtt_s * 1000:.2f}" if view.rtt_s else None
    where = f"{node.host}:{node.port}"
    return [
        node.name,
        str(node.group),
        where,
        node.region,
        node.zone,
        *known,
        trip,
        "t" if trusted else "f",
        view.error,
    ]
