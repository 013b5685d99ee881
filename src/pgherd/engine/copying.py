"""COPY streams: one file in, divided over the shards; every group's rows out, as one file.

In: a group's branch carries one COPY at a time. A group with one shard gets one COPY for the whole stream. Where a
group has several shards their rows are piled up, and one COPY for a shard follows another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from pgherd.catalog.model import GroupId, Shard, ShardId
from pgherd.engine.copy import CopyJoiner, copy_divider
from pgherd.engine.copy_binary import TRAILER
from pgherd.engine.link import Link
from pgherd.engine.work import Work, side_by_side
from pgherd.plan.plans import CopyIn, CopyOut

WAITING = 4  # pieces that wait for a group at most, before the reader is held back


async def copy_in(plan: CopyIn, chunks: AsyncIterator[bytes], work: Work) -> int:
    """COPY ... FROM STDIN; the number of rows. Whoever calls rolls back on an error."""
    if plan.table.kind == "distributed":
        return await _divided(plan, chunks, work)
    groups = work.groups if plan.table.kind == "reference" else (GroupId(0),)
    return await _whole(plan, groups, chunks, work)


def copy_sql(plan: CopyIn, shard: ShardId | None = None) -> str:
    """The COPY statement for a shard, or for a table that is not distributed."""
    head = plan.head.pieces[0] if shard is None else plan.head.for_shard(shard)
    return f"{head} {plan.options}".rstrip()


class Stream:
    """What goes to one group: a queue of pieces, and the task that copies them in.

    After an error it swallows the rest, so that nobody waits for it in vain; `ended` raises the error.
    """

    def __init__(self, plan: CopyIn, link: Link) -> None:
        self.rows = 0
        self.error: Exception | None = None
        self._plan = plan
        self._link = link
        self._queue: asyncio.Queue[tuple[ShardId | None, bytes] | None] = asyncio.Queue(WAITING)
        self._next: tuple[ShardId | None, bytes] | None = None
        self._seen: set[ShardId | None] = set()
        self.preamble = b""
        self.task = asyncio.create_task(self._run())

    async def put(self, shard: ShardId | None, data: bytes) -> None:
        """More of a shard's stream. Waits while the group is behind."""
        await self._queue.put((shard, data))

    async def ended(self) -> int:
        """End the stream; the number of rows. Raises what the group refused."""
        await self._queue.put(None)
        await self.task
        if self.error is not None:
            raise self.error
        return self.rows

    async def _run(self) -> None:
        self._next = await self._queue.get()
        try:
            while self._next is not None:
                shard = self._next[0]
                self.rows += await self._link.copy_in(copy_sql(self._plan, shard), self._pieces(shard))
                self._seen.add(shard)
        except Exception as error:
            self.error = error
            while self._next is not None:
                self._next = await self._queue.get()

    async def _pieces(self, shard: ShardId | None) -> AsyncIterator[bytes]:
        if shard in self._seen and self.preamble:
            yield self.preamble
        while self._next is not None and self._next[0] == shard:
            yield self._next[1]
            self._next = await self._queue.get()
        if self._plan.format == "binary" and shard is not None:
            yield TRAILER


@contextlib.asynccontextmanager
async def _streams(streams: dict[GroupId, Stream]) -> AsyncGenerator[None]:
    """End all streams, whatever happens: after a bad row politely, as their connections are still of use."""
    try:
        yield
    except Exception:
        await asyncio.gather(*(stream.ended() for stream in streams.values()), return_exceptions=True)
        raise
    except BaseException:
        for stream in streams.values():
            stream.task.cancel()
        await asyncio.gather(*(stream.task for stream in streams.values()), return_exceptions=True)
        raise


async def _whole(plan: CopyIn, groups: tuple[GroupId, ...], chunks: AsyncIterator[bytes], work: Work) -> int:
    """The same stream to each of `groups`."""
    streams: dict[GroupId, Stream] = {}
    async with _streams(streams):
        for group in groups:
            streams[group] = Stream(plan, await work.tx.branch(group))
            await streams[group].put(
                None, b""
            )  # an empty file is a COPY of no rows, and may still be refused
        async for chunk in chunks:
            for stream in streams.values():
                await stream.put(None, chunk)
            if any(stream.error is not None for stream in streams.values()):
                break
        counts = await _ended(streams, work)
    return counts[groups[0]]


async def _ended(streams: dict[GroupId, Stream], work: Work) -> dict[GroupId, int]:
    return await side_by_side(
        streams, lambda group: streams[group].ended(), limit=max(len(streams), work.bounds.parallel)
    )


async def _divided(plan: CopyIn, chunks: AsyncIterator[bytes], work: Work) -> int:
    """Every row to its shard."""
    keyspace = work.map.keyspace_of(plan.table)
    divider = copy_divider(plan, keyspace)
    piles = Piles(keyspace.by_id, work.bounds.copy_bytes)
    streams: dict[GroupId, Stream] = {}

    async def send(ready: list[tuple[Shard, bytes]]) -> None:
        for shard, data in ready:
            stream = streams.get(shard.group)
            if stream is None:
                stream = streams[shard.group] = Stream(plan, await work.tx.branch(shard.group))
            stream.preamble = divider.preamble
            await stream.put(shard.id, data)

    async with _streams(streams):
        async for chunk in chunks:
            await send(piles.add(divider.feed(chunk)))
            if any(stream.error is not None for stream in streams.values()):
                break
        else:
            last = divider.close()
            await send(piles.rest({} if plan.format == "binary" else last))
        counts = await _ended(streams, work)
    return sum(counts.values())


class Piles:
    """Rows that wait for their shard's turn: small pieces of a shard go together."""

    def __init__(self, shards: dict[ShardId, Shard], bytes_max: int) -> None:
        self._shards = shards
        self._bytes_max = bytes_max
        self._held: dict[ShardId, list[bytes]] = {}
        self._sizes: dict[ShardId, int] = {}

    def add(self, divided: dict[ShardId, bytes]) -> list[tuple[Shard, bytes]]:
        """Take more rows; answers what is due."""
        ready: list[tuple[Shard, bytes]] = []
        for shard, data in divided.items():
            self._held.setdefault(shard, []).append(data)
            self._sizes[shard] = self._sizes.get(shard, 0) + len(data)
            if self._sizes[shard] >= self._bytes_max:
                ready.append(self._take(shard))
        return ready

    def rest(self, divided: dict[ShardId, bytes]) -> list[tuple[Shard, bytes]]:
        """The last rows, and everything that still waits."""
        ready = self.add(divided)
        return [*ready, *(self._take(shard) for shard in list(self._held))]

    def _take(self, shard: ShardId) -> tuple[Shard, bytes]:
        del self._sizes[shard]
        return self._shards[shard], b"".join(self._held.pop(shard))


async def copy_out(plan: CopyOut, work: Work) -> AsyncIterator[bytes]:
    """COPY ... TO STDOUT: the arms one after another as one file, all on one snapshot."""
    joiner = CopyJoiner(header=plan.header, binary=plan.binary)
    groups = tuple(dict.fromkeys(group for group, _ in plan.arms))
    async with work.tx.reading(groups) as links:
        for number, (group, sql) in enumerate(plan.arms):
            if number:
                joiner.next_stream()
            async for chunk in links[group].copy_out(sql):
                if data := joiner.feed(chunk):
                    yield data
    if data := joiner.close():
        yield data
