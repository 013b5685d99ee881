"""COPY streams: one file in, divided over the shards; every group's rows out, as one file.

In: a group's branch carries one COPY at a time. A group with one shard gets one COPY for the whole stream. Where a
group has several shards their rows are piled up, and one COPY for a shard follows another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from pgherd.catalog.model import GroupId, ShardId
from pgherd.engine.copy import CopyJoiner, copy_divider
from pgherd.engine.copy_binary import TRAILER
from pgherd.engine.link import Link
from pgherd.engine.references import entered
from pgherd.engine.work import Work, side_by_side
from pgherd.plan.plans import CopyIn, CopyOut

DUE = (
    4  # a quarter of what may wait for a group is worth a COPY; at first much less, so that all begin at once
)
SLICE = 128 * 1024  # bytes divided at once: meanwhile nobody else has a turn
WAIT: Final = ShardId(-1)  # no pile is worth a COPY yet


async def copy_in(plan: CopyIn, chunks: AsyncIterator[bytes], work: Work) -> int:
    """COPY ... FROM STDIN; the number of rows. Whoever calls rolls back on an error."""
    if plan.table.kind == "distributed":
        return await _divided(plan, chunks, work)
    if plan.table.kind != "reference":
        return await _whole(plan, (GroupId(0),), chunks, work)
    work = await entered(plan.table, work)
    return await _whole(plan, work.groups, chunks, work)


def copy_sql(plan: CopyIn, shard: ShardId | None = None) -> str:
    """The COPY statement for a shard, or for a table that is not distributed."""
    head = plan.head.pieces[0] if shard is None else plan.head.for_shard(shard)
    return f"{head} {plan.options}".rstrip()


class Stream:
    """What goes to one group: a pile of rows for each of its shards, and the task that copies them in.

    Whenever the group is ready for more, its largest pile goes next, so that it never waits for a pile to become full.
    After an error the stream swallows the rest, so that nobody waits for it in vain; `ended` raises the error.
    """

    def __init__(self, plan: CopyIn, link: Link, bytes_max: int) -> None:
        self.rows = 0
        self.error: Exception | None = None
        self.preamble = b""
        self._plan = plan
        self._link = link
        self._bytes_max = bytes_max  # what waits at most, in all piles
        self._due_bytes = bytes_max // 32  # what is worth a COPY
        self._piles: dict[ShardId | None, list[bytes]] = {}
        self._sizes: dict[ShardId | None, int] = {}
        self._held = 0
        self._over = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._seen: set[ShardId | None] = set()
        self.task = asyncio.create_task(self._run())

    async def put(self, shard: ShardId | None, data: bytes) -> None:
        """More of a shard's stream. Waits while the group is behind."""
        if self.error is not None:
            return
        self._piles.setdefault(shard, []).append(data)
        self._sizes[shard] = self._sizes.get(shard, 0) + len(data)
        self._held += len(data)
        self._more.set()
        while self._held >= self._bytes_max and self.error is None:
            self._room.clear()
            await self._room.wait()

    async def ended(self) -> int:
        """End the stream; the number of rows. Raises what the group refused."""
        self._over = True
        self._more.set()
        await self.task
        if self.error is not None:
            raise self.error
        return self.rows

    async def _run(self) -> None:
        try:
            while self._piles or not self._over:
                shard = self._due()
                if shard == WAIT:
                    self._more.clear()
                    await self._more.wait()
                    continue
                self.rows += await self._link.copy_in(copy_sql(self._plan, shard), self._pieces(shard))
                self._seen.add(shard)
                self._due_bytes = min(2 * self._due_bytes, self._bytes_max // DUE)
        except Exception as error:
            self.error = error
        finally:
            self._piles.clear()
            self._room.set()

    def _due(self) -> ShardId | None:
        """The shard that is worth a COPY now, or WAIT."""
        if not self._piles:
            return WAIT
        largest = max(self._sizes, key=self._sizes.__getitem__)
        worth = self._sizes[largest] >= self._due_bytes or self._held >= self._bytes_max
        return largest if worth or self._over or largest is None else WAIT

    async def _pieces(self, shard: ShardId | None) -> AsyncIterator[bytes]:
        """The shard's pile, and what comes meanwhile; it ends when another shard's pile is larger, and due."""
        if shard in self._seen and self.preamble:
            yield self.preamble
        yield self._taken(shard)  # never nothing: the divider's first piece for a shard brings the preamble
        while (due := self._due()) == WAIT or due == shard:
            if shard in self._piles:
                yield self._taken(shard)
            elif self._over:
                break
            else:
                self._more.clear()
                await self._more.wait()
        if self._plan.format == "binary" and shard is not None:
            yield TRAILER

    def _taken(self, shard: ShardId | None) -> bytes:
        self._held -= self._sizes.pop(shard)
        self._room.set()
        return b"".join(self._piles.pop(shard))


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
            streams[group] = Stream(plan, await work.tx.branch(group), work.bounds.copy_bytes)
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
    streams: dict[GroupId, Stream] = {}

    async def send(divided: dict[ShardId, bytes]) -> None:
        for shard, data in divided.items():
            group = keyspace.by_id[shard].group
            stream = streams.get(group)
            if stream is None:
                stream = streams[group] = Stream(plan, await work.tx.branch(group), work.bounds.copy_bytes)
            stream.preamble = divider.preamble
            await stream.put(shard, data)

    async with _streams(streams):
        async for chunk in _slices(chunks):
            await send(divider.feed(chunk))
            if any(stream.error is not None for stream in streams.values()):
                break
        else:
            last = divider.close()
            await send({} if plan.format == "binary" else last)
        counts = await _ended(streams, work)
    return sum(counts.values())


async def _slices(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Large chunks in slices; between them the groups' streams have their turn."""
    async for chunk in chunks:
        for at in range(0, len(chunk), SLICE):
            yield chunk[at : at + SLICE] if len(chunk) > SLICE else chunk
            await asyncio.sleep(0)


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
