"""Methods that change shards and their places: each is one CALL of the procedure of its name."""

from __future__ import annotations

from typing import Any

from pgherd.catalog.text import literal


class Balancing:
    """The part of a `Database` that deals with shards. Changes run as workflows in the cluster, and these methods wait for their end; what is
    told on the way (also the plan of a dry run) goes to the log listeners. `more`: max_pause, keep_for, verify, dry_run, wait."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """`Queries.execute`."""
        raise NotImplementedError

    async def _call(self, name: str, *args: Any, **more: Any) -> None:
        given = [*map(_text, args), *(f"{key} => {_text(value)}" for key, value in more.items())]
        await self.execute(f"CALL pgherd.{name}({', '.join(given)})")

    async def split(self, table: str, *point: Any, **more: Any) -> None:
        """Cut the shard that holds the key `point` in two: the point begins the second. Without: the largest shard, in the middle."""
        await self._call("split", table, *map(str, point), **more)

    async def move(self, shard: int, group: int, **more: Any) -> None:
        """Move a shard to another group."""
        await self._call("move", shard, group, **more)

    async def merge(self, shard: int, other: int, **more: Any) -> None:
        """Make one shard of two neighbours, in the first one's group."""
        await self._call("merge", shard, other, **more)

    async def rebalance(self, *, dry_run: bool = False) -> None:
        """Move shards until all groups carry about their part, one after the other."""
        await self._call("rebalance", **({"dry_run": True} if dry_run else {}))

    async def drain(self, group: int, *, stop: bool = False, wait: bool = True) -> None:
        """Let a group become empty, and wait until it is; `stop`: let it have shards again."""
        more = {"stop": True} if stop else {}
        await self._call("drain", group, **more, **({} if wait else {"wait": False}))

    async def set_keyspace(self, table: str, setting: str, value: str | None) -> None:
        """Change a setting of the keyspace that a table belongs to; None: back to its default."""
        await self._call("set_keyspace", table, setting, value)

    async def set_balancing(self, setting: str, value: str | None) -> None:
        """Change how eager balancing is in the whole cluster; None: back to its default."""
        await self._call("set_balancing", setting, value)

    async def pause(self, workflow: int) -> None:
        """Let a workflow rest; what it has made stays."""
        await self._call("pause", workflow)

    async def resume(self, workflow: int) -> None:
        """Let a paused workflow go on."""
        await self._call("resume", workflow)

    async def cancel(self, workflow: int) -> None:
        """End a workflow before its cutover, and take away what it has made."""
        await self._call("cancel", workflow)

    async def undo(self, workflow: int) -> None:
        """Take a workflow back after its cutover, while the old copy is kept in step."""
        await self._call("undo", workflow)

    async def confirm(self, workflow: int) -> None:
        """End the time in which a workflow can be undone: the old copy goes."""
        await self._call("confirm", workflow)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool | int):
        return literal(value)
    return literal(str(value))
