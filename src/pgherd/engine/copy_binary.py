"""COPY's binary format, divided. PostgreSQL manual, COPY, "Binary Format"."""

from __future__ import annotations

import struct
from typing import Final

from pgherd.catalog import keys
from pgherd.catalog.model import ShardId
from pgherd.engine.copy_place import Piles, Target, nowhere, null_key, undecodable
from pgherd.errors import BadCopy, PgherdError, TooLarge

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER: Final = SIGNATURE + bytes(8)  # no flags, no extension
TRAILER: Final = b"\xff\xff"
RECORD_BYTES_MAX: Final = 1 << 28

_int16 = struct.Struct(">h").unpack_from
_int32 = struct.Struct(">i").unpack_from
_heads = struct.Struct(">II").unpack_from


def header_end(data: bytes) -> int | None:
    """Where the first tuple starts, or None if the header is not complete. Raises BadCopy."""
    if not data.startswith(SIGNATURE[: len(data)]):
        raise BadCopy("COPY file signature not recognized")
    if len(data) < len(HEADER):
        return None
    flags, extension = _heads(data, len(SIGNATURE))
    if flags & 1 << 16:
        raise BadCopy("invalid COPY file header (WITH OIDS)")
    if flags >> 16:
        raise BadCopy("unrecognized critical flags in COPY file header")
    if extension > RECORD_BYTES_MAX:
        raise BadCopy("invalid COPY file header (wrong length)")
    end = len(HEADER) + extension
    return end if len(data) >= end else None


class BinaryDivider:
    """Divides the binary format: each shard gets a header of its own before its first row, and a trailer at the end."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._piles = Piles(target.keyspace)
        self._rest: list[bytes] = []
        self._kept = 0
        self._wanted = len(HEADER)  # bytes that must be there before it is worth reading on
        self._started = False
        self._ended = False
        self._greeted: set[ShardId] = set()
        self._rows = 0
        self._kinds = target.keyspace.key_types

    @property
    def preamble(self) -> bytes:
        """What each shard's stream began with: repeat it to cut a shard's rows into several COPYs."""
        return HEADER

    def feed(self, data: bytes) -> dict[ShardId, bytes]:
        """What `data` completes, for each shard. Raises NullKey, NoShard, BadKey, BadCopy, TooLarge."""
        self._rest.append(data)
        self._kept += len(data)
        if self._kept < self._wanted:
            return {}
        block = b"".join(self._rest)
        try:
            at = self._read(block)
        except PgherdError as error:
            error.context = f"COPY {self._target.table}, line {self._rows + 1}"
            raise
        self._rest = [block[at:]]
        self._kept = len(block) - at
        return self._taken()

    def close(self) -> dict[ShardId, bytes]:
        """The stream has ended. Raises BadCopy if it ended inside a row."""
        if self._kept or not self._started:
            error = BadCopy("unexpected EOF in COPY data")
            error.context = f"COPY {self._target.table}, line {self._rows + 1}"
            raise error
        return dict.fromkeys(self._greeted, TRAILER)

    def _read(self, block: bytes) -> int:
        """Pile up the whole rows in `block`; answers where the first incomplete one starts."""
        at = 0
        if not self._started:
            end = header_end(block)
            if end is None:
                self._wanted = len(block) + 1
                return 0
            self._started, at = True, end
        while (end := self._row(block, at)) is not None:
            at = end
        return at

    def _row(self, block: bytes, at: int) -> int | None:
        """Pile up the row that starts at `at`; answers where it ends, None if it is not complete."""
        size = len(block)
        if size == at:
            self._wanted = 1
            return None
        if self._ended:
            raise BadCopy("received copy data after EOF marker")
        if size - at < 2:
            self._wanted = 2
            return None
        (count,) = _int16(block, at)
        if count == -1:
            self._ended = True
            return at + 2
        if count != len(self._target.columns):
            raise BadCopy(f"row field count is {count}, expected {len(self._target.columns)}")
        fields = self._fields(block, at, count)
        if fields is None:
            return None
        end = fields.pop()
        key = tuple([self._canonical(number, block, fields) for number in range(len(self._kinds))])
        shard = self._target.keyspace.locate(key) or nowhere(self._target, key)
        self._piles.by_shard[shard.id].append(block[at:end])
        self._rows += 1
        return end

    def _fields(self, block: bytes, at: int, count: int) -> list[int] | None:
        """Where each field's length stands, and the row's end; None (and `_wanted`) if the row is not complete."""
        size = len(block)
        starts: list[int] = []
        pos = at + 2
        while len(starts) < count and size - pos >= 4:
            starts.append(pos)
            (length,) = _int32(block, pos)
            if length < -1:
                raise BadCopy("invalid field size")
            pos += 4 + max(length, 0)
        if len(starts) == count and pos <= size:
            return [*starts, pos]
        self._wanted = max(pos, size + 1) - at
        if self._wanted > RECORD_BYTES_MAX:
            raise TooLarge(f"a record of COPY exceeds {RECORD_BYTES_MAX} bytes")
        return None

    def _canonical(self, number: int, block: bytes, starts: list[int]) -> object:
        """The canonical value of the key's column `number`."""
        start = starts[self._target.positions[number]]
        (length,) = _int32(block, start)
        if length < 0:
            raise null_key(self._target, number)
        value = block[start + 4 : start + 4 + length]
        try:
            return keys.decode_binary(self._kinds[number], 0, value)
        except keys.Undecodable:
            raise undecodable(self._target, number, value) from None

    def _taken(self) -> dict[ShardId, bytes]:
        streams: dict[ShardId, bytes] = {}
        for shard, pile in self._piles.take().items():
            head = b"" if shard in self._greeted else HEADER
            self._greeted.add(shard)
            streams[shard] = head + b"".join(pile)
        return streams
