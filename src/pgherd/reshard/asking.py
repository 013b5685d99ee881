"""The session that asks for a workflow: one connection to group 0 beside its transactions, with the rights of its own role."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgherd.catalog import naming
from pgherd.catalog.model import ClusterMap, GroupId, Keyspace, Shard, Table
from pgherd.catalog.text import literal
from pgherd.engine.link import Link, Row
from pgherd.engine.work import Work
from pgherd.errors import BadSetting, WrongState
from pgherd.reshard.model import Piece
from pgherd.transaction.perform import borrowed

if TYPE_CHECKING:
    from pgherd.catalog.admin.arguments import Arguments

HOME = GroupId(0)


@dataclass(frozen=True, slots=True)
class Asking:
    """`home`: the connection. `path`: the schemas that unqualified names mean."""

    work: Work
    home: Link
    cluster: ClusterMap
    path: tuple[str, ...]

    async def ask(self, *texts: str) -> list[Row]:
        """Run texts on group 0; the last one's rows."""
        return await self.home.run("; ".join(texts))

    async def elsewhere(self, group: GroupId, text: str) -> list[Row]:
        """Run a text in any group."""
        if group == HOME:
            return await self.home.run(text)
        async with borrowed(self.work.tx.lender, group) as link:
            return await link.run(text)

    async def table(self, arguments: Arguments) -> Table:
        """The distributed table that the argument `table` names."""
        return naming.distributed(await self.any_table(arguments))

    async def any_table(self, arguments: Arguments) -> Table:
        """The table that the argument `table` names, of any kind."""
        return await naming.table(self.ask, self.cluster, self.path, arguments.text("table"))

    async def piece(self, shard: Shard) -> Piece:
        """The shard as the catalog has it."""
        rows = await self.ask(f"SELECT to_jsonb(s) FROM pgherd.shards s WHERE id = {shard.id}")
        if not rows:
            raise BadSetting(f"there is no shard {shard.id} any more")
        return Piece.read(json.loads(rows[0][0] or "{}"))

    def keyspace(self, shard: Shard) -> Keyspace:
        """The keyspace of a shard."""
        return self.cluster.keyspaces[shard.keyspace]

    async def settings(self, arguments: Arguments) -> dict[str, Any]:
        """What was said about pauses and keeping, as the workflow's settings."""
        found: dict[str, Any] = {}
        for name, key, unit in (("max_pause", "max_pause_ms", 1000), ("keep_for", "keep_for_s", 1)):
            text = arguments.values.get(name)
            if text is not None:
                found[key] = await self._interval(text, unit)
        if "verify" in arguments.values:
            found["verify"] = truth(arguments, "verify")
        return found

    async def _interval(self, text: str, unit: int) -> int:
        plain = text.strip()
        value = (
            f"{plain}::float8 / {1000 if unit == 1000 else 1}"
            if plain.isdigit()
            else f"extract(epoch FROM {literal(plain)}::interval)"
        )
        rows = await self.ask(f"SELECT ceil({value} * {unit})::bigint")
        return int(rows[0][0] or 0)


def truth(arguments: Arguments, name: str) -> bool:
    """A boolean argument; false if it was not given."""
    text = arguments.values.get(name, "false").strip().lower()
    if text not in ("true", "false", "t", "f", "on", "off", "1", "0", "yes", "no"):
        raise BadSetting(f"pgherd.{arguments.procedure}: {name} must be true or false, not {text!r}")
    return text in ("true", "t", "on", "1", "yes")


@asynccontextmanager
async def asking(work: Work, cluster: ClusterMap, path: tuple[str, ...], what: str) -> AsyncGenerator[Asking]:
    """Beside the caller's transaction, which must be the statement's own: a workflow outlives it, and cannot be rolled back."""
    if work.tx.explicit:
        raise WrongState(
            f"CALL pgherd.{what} cannot run inside a transaction block",
            hint="It is a workflow of its own: call it by itself.",
        )
    async with borrowed(work.tx.lender, HOME) as link:
        yield Asking(work, link, cluster, path)
