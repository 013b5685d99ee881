"""Whether anything is left behind, anywhere: what workflows made, shards out of place, transactions in doubt. And how to repair it.

What belongs to a workflow that is under way is not looked at: it will take it away itself.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pgherd.backend.connection import ServerLink
from pgherd.catalog import store
from pgherd.catalog.model import ClusterMap, GroupId, Node, physical_schema
from pgherd.catalog.text import identifier, literal
from pgherd.engine.link import Row
from pgherd.errors import GroupDown
from pgherd.reshard.model import UNFINISHED, slot_prefix
from pgherd.transaction import recovery
from pgherd.transaction.perform import Lender

OLD_S = 10.0
STANDBY_S = 5.0
_SIDE = re.compile(r"[wb](\d+)(?:[sx]\d+)?(?:_.*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that should not be there, or not be so. `repair`: the statement that puts it right; None: a person must look."""

    group: GroupId
    kind: str
    what: str
    repair: str | None = None
    node: Node | None = None  # a standby; None: the primary


class EveryNode(Protocol):
    """Connections to the groups' other nodes; the caller closes them."""

    def standbys(self, group: GroupId) -> tuple[Node, ...]: ...

    async def dial(self, node: Node) -> ServerLink: ...


async def examine(lender: Lender, groups: Sequence[GroupId], every: EveryNode | None = None) -> list[Finding]:
    """Everything that is wrong on the groups' primaries, and (with `every`) what they left on standbys. Raises GroupDown."""
    home = GroupId(0)
    cluster = store.parse_map((await recovery.ask(lender, home, "SELECT pgherd.map()"))[0][0] or "{}")
    states = ", ".join(map(literal, UNFINISHED))
    rows = await recovery.ask(lender, home, f"SELECT id FROM pgherd.workflows WHERE state IN ({states})")
    busy = {int(row[0] or 0) for row in rows}
    prefix = slot_prefix((await recovery.ask(lender, home, "SELECT id FROM pgherd.cluster"))[0][0] or "")
    found: list[Finding] = []
    for group in groups:
        rows = await recovery.ask(lender, group, _THINGS.format(prefix=literal(prefix)))
        found += _left(group, rows, busy, prefix)
        found += await _out_of_place(lender, group, cluster, moving=bool(busy))
        found += await _map_differs(lender, group, cluster)
        if every is not None:
            for node in every.standbys(group):
                found += await _on_standby(every, node, busy, prefix)
    for item in await recovery.in_doubt(lender, groups):
        if item.age_s > OLD_S:
            found.append(Finding(group=item.group, kind="transaction in doubt", what=item.id))
    return found


async def _on_standby(every: EveryNode, node: Node, busy: set[int], prefix: str) -> list[Finding]:
    """Slots of a primary that became a standby: they hold back its log. One that is kept in step with the primary's is no concern."""
    try:
        link = await every.dial(node)
    except GroupDown as error:
        return [Finding(group=node.group, kind="node", what=error.message, node=node)]
    try:
        async with asyncio.timeout(STANDBY_S):
            rows = await link.run(_STRAY.format(prefix=literal(prefix)))
    except TimeoutError:
        return [
            Finding(group=node.group, kind="node", what=f"{node.host}:{node.port} does not answer", node=node)
        ]
    finally:
        link.close()
    return [replace(finding, node=node) for finding in _left(node.group, rows, busy, prefix)]


_STRAY = """
SELECT 'replication slot', slot_name::text, coalesce(active_pid::text, '') FROM pg_replication_slots s
WHERE database = current_database() AND starts_with(slot_name, {prefix}) AND NOT coalesce((to_jsonb(s)->>'synced')::boolean, false) ORDER BY 2
"""


async def repair(
    lender: Lender, findings: Sequence[Finding], every: EveryNode | None = None
) -> list[Finding]:
    """Put right what can be put right; answers what is left for a person."""
    left: list[Finding] = []
    groups = sorted({finding.group for finding in findings})
    if any(finding.kind == "transaction in doubt" for finding in findings):
        await recovery.recover(lender, groups)
    for finding in findings:
        if finding.repair is not None and finding.node is not None and every is not None:
            link = await every.dial(finding.node)
            try:
                await link.run(finding.repair)
            finally:
                link.close()
        elif finding.repair is not None:
            await recovery.ask(lender, finding.group, finding.repair)
        elif finding.kind != "transaction in doubt":
            left.append(finding)
    return left


_THINGS = """
SELECT 'replication slot', slot_name::text, coalesce(active_pid::text, '') FROM pg_replication_slots
    WHERE database = current_database() AND starts_with(slot_name, {prefix})
UNION ALL SELECT 'publication', pubname::text, '' FROM pg_publication WHERE pubname ~ '^pgherd_[wb][0-9]+$'
UNION ALL SELECT 'schema', nspname::text, '' FROM pg_namespace WHERE nspname ~ '^pgherd_[wb][0-9]+([sx][0-9]+)?(_.*)?$'
UNION ALL SELECT 'subscription', subname::text, '' FROM pg_subscription WHERE subname ~ '^pgherd_'
    AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'stream record', stream, '' FROM pgherd.applied
UNION ALL SELECT 'constraint', conname || ' on ' || conrelid::regclass, '' FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
    JOIN pg_namespace n ON n.oid = r.relnamespace WHERE c.conname = 'pgherd_bound' AND n.nspname ~ '^shard_[0-9]+'
UNION ALL SELECT 'unchecked foreign key', conname || ' on ' || conrelid::regclass, '' FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
    JOIN pg_namespace n ON n.oid = r.relnamespace WHERE c.contype = 'f' AND NOT c.convalidated AND n.nspname ~ '^shard_[0-9]+'
    AND EXISTS (SELECT FROM pg_constraint t JOIN pg_class p ON p.oid = t.conrelid WHERE t.conname = c.conname AND p.relname = r.relname
                AND p.relkind = 'p' AND t.convalidated)
ORDER BY 1 DESC, 2
"""


def _left(group: GroupId, rows: Sequence[Row], busy: set[int], prefix: str) -> list[Finding]:
    """What no workflow under way answers for."""
    found: list[Finding] = []
    for kind, name, extra in ((row[0] or "", row[1] or "", row[2] or "") for row in rows):
        side = _SIDE.match(name.removeprefix(prefix).removeprefix("pgherd_"))
        mine = int(side[1]) in busy if side is not None else bool(busy)
        if not mine:
            found.append(Finding(group=group, kind=kind, what=name, repair=_repair(kind, name, extra)))
    return found


def _repair(kind: str, name: str, extra: str) -> str | None:
    match kind:
        case "replication slot":
            first = f"SELECT pg_terminate_backend({extra}, 2000); " if extra else ""
            return f"{first}SELECT pg_drop_replication_slot({literal(name)})"
        case "publication":
            return f"DROP PUBLICATION IF EXISTS {identifier(name)}"
        case "schema":
            return f"DROP SCHEMA IF EXISTS {identifier(name)} CASCADE"
        case "stream record":
            return f"DELETE FROM pgherd.applied WHERE stream = {literal(name)}"
        case "constraint" | "unchecked foreign key":
            constraint, _, table = name.partition(" on ")
            verb = "DROP" if kind == "constraint" else "VALIDATE"
            return f"ALTER TABLE {table} {verb} CONSTRAINT {identifier(constraint)}"
        case _:
            return None


_TABLES = """
SELECT n.nspname, c.relname, c.relkind, coalesce(s.srvname, ''), EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE n.nspname ~ '^shard_[0-9]+(_|$)' AND c.relkind IN ('r', 'f')
"""


async def _out_of_place(
    lender: Lender, group: GroupId, cluster: ClusterMap, *, moving: bool
) -> list[Finding]:
    """Shards' tables that are not what the map says: real here, foreign elsewhere, each a part of global."""
    have = {(row[0], row[1]): row[2:] for row in await recovery.ask(lender, group, _TABLES)}
    found: list[Finding] = []
    for table in cluster.tables.values():
        if table.kind != "distributed":
            continue
        sync = f"SELECT pgherd.sync_table({literal(table.schema)}, {literal(table.name)})"
        for shard in cluster.keyspace_of(table).shards:
            name = (physical_schema(f"shard_{shard.id}", table.schema), table.name)
            wanted = ("r", "", "t") if shard.group == group else ("f", f"group_{shard.group}", "t")
            is_ = have.pop(name, None)
            if is_ is None or tuple(str(value) for value in is_) != wanted:
                lost = wanted[0] == "r" or (is_ is not None and is_[0] == "r")
                found.append(
                    Finding(
                        group=group, kind="table out of place", what=f"{name[0]}.{name[1]} is {is_ or 'missing'}, not {wanted}",
                        repair=None if lost else sync,
                    )
                )  # fmt: skip
    if moving:
        return found
    for schema in sorted({str(name[0]) for name in have}):
        empty = all(row[0] == "f" for name, row in have.items() if name[0] == schema)
        found.append(
            Finding(
                group=group, kind="schema of no shard", what=schema,
                repair=f"DROP SCHEMA {identifier(schema)} CASCADE" if empty else None,
            )
        )  # fmt: skip
    return found


async def _map_differs(lender: Lender, group: GroupId, cluster: ClusterMap) -> list[Finding]:
    """Metadata that is not the same as in group 0."""
    text = "SELECT jsonb_agg(jsonb_build_array(id, group_id) ORDER BY id) FROM pgherd.shards"
    rows = await recovery.ask(lender, group, text)
    have = json.loads(rows[0][0] or "[]")
    wanted = sorted(
        [int(s.id), int(s.group)] for keyspace in cluster.keyspaces.values() for s in keyspace.shards
    )
    if have != wanted:
        return [Finding(group=group, kind="metadata", what=f"shards are {have}, not {wanted}")]
    return []
