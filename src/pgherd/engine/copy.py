"""COPY FROM, divided: a stream of rows into one stream for each shard, byte for byte, in order.

Pure: bytes in, bytes for each shard out. Text and CSV are cut into records here; `copy_binary` does the
binary format. A record is looked at only as far as its key, and a key value is decoded once (see `copy_place`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol

from pgherd.catalog.model import Keyspace, ShardId
from pgherd.engine.copy_binary import BinaryDivider
from pgherd.engine.copy_fields import Shape, fields_of, key_pattern, value_of
from pgherd.engine.copy_join import CopyJoiner
from pgherd.engine.copy_place import Piles, Target, locator
from pgherd.engine.copy_quick import Place, batch_cut, short_cut
from pgherd.engine.copy_records import Records
from pgherd.errors import BadCopy, PgherdError
from pgherd.plan.plans import CopyIn

__all__ = ["CopyDivider", "CopyJoiner", "LineDivider", "Target", "copy_divider"]

REMEMBERED_MAX: Final = 30_000  # distinct key values per COPY
_SHOWN_CHARS_MAX: Final = 100


class CopyDivider(Protocol):
    """Divides one COPY stream. A shard that no row goes to never appears."""

    @property
    def preamble(self) -> bytes:
        """What each shard's stream began with: repeat it to cut a shard's rows into several COPYs."""
        ...

    def feed(self, data: bytes) -> dict[ShardId, bytes]:
        """What `data` completes, for each shard. Raises NullKey, NoShard, BadKey, BadCopy ... with `context` set."""
        ...

    def close(self) -> dict[ShardId, bytes]:
        """The stream has ended: what remains, for each shard. Raises BadCopy and as `feed`."""
        ...


def copy_divider(plan: CopyIn, keyspace: Keyspace) -> CopyDivider:
    """The divider for a COPY into a distributed table. Raises BadCopy if the file lacks a column of the shard key."""
    missing = [name for name in plan.table.key if name not in plan.columns]
    if missing:
        raise BadCopy(
            f'COPY {plan.table.name} lacks column "{missing[0]}" of the shard key',
            hint="Give every column of the shard key a value.",
        )
    target = Target(
        table=plan.table.name,
        columns=plan.columns,
        positions=tuple(plan.columns.index(name) for name in plan.table.key),
        keyspace=keyspace,
    )
    if plan.format == "binary":
        return BinaryDivider(target)
    shape = Shape(
        format=plan.format,
        delimiter=plan.delimiter.encode(),
        null=plan.null.encode(),
        quote=plan.quote.encode(),
        escape=plan.escape.encode(),
        columns=len(plan.columns),
    )
    return LineDivider(target, shape, header=plan.header)


class LineDivider:
    """Divides text and CSV. A header goes to every shard that gets rows, before them."""

    def __init__(
        self, target: Target, shape: Shape, *, header: bool = False, remembered_max: int = REMEMBERED_MAX
    ) -> None:
        target = self._target = target.narrowed()
        self._remembered_max = remembered_max
        self._shape = shape
        self._records = Records(shape)
        self._piles = Piles(target.keyspace)
        self._locate = locator(target)
        self._places: dict[Any, Place] = {}  # by the raw key field, or tuple of them
        self._known: Callable[[Any], Place | None] = self._places.get
        self._short_cut = short_cut(target, self._piles, shape.null)
        self._batch_cut = batch_cut(target, self._piles, shape.null)
        if self._batch_cut is not None:  # it is hardly slower than remembering, and learning is much slower
            self._remembered_max = min(remembered_max, 2_000)
            self._known = self._short_cut or self._known
        self._pick: Callable[[Sequence[Any]], Any] = itemgetter(*target.positions)
        self._single = len(target.positions) == 1
        self._count = max(target.positions) + 1
        self._pattern = key_pattern(shape, target.positions)
        self._groups = [sorted(target.positions).index(position) + 1 for position in target.positions]
        self._last = shape.columns - 1 in target.positions
        self._header: bytes | None = None if header else b""
        self._greeted: set[ShardId] = set()
        self._line = 0  # physical lines before the records at hand

    @property
    def preamble(self) -> bytes:
        """What each shard's stream began with: repeat it to cut a shard's rows into several COPYs."""
        return self._header or b""

    def feed(self, data: bytes) -> dict[ShardId, bytes]:
        """What `data` completes, for each shard."""
        return self._divide(self._records.feed(data))

    def close(self) -> dict[ShardId, bytes]:
        """The last record, if its newline was missing."""
        try:
            return self._divide(self._records.close())
        except BadCopy as error:
            line = self._line + self._records.open_lines + 1
            error.context = error.context or f"COPY {self._target.table}, line {line}"
            raise

    def _divide(self, records: list[bytes]) -> dict[ShardId, bytes]:
        if records and self._header is None:
            self._header = records[0] + b"\n"
            records = records[1:]
            self._line += self._header.count(b"\n")
        try:
            if not self._records.special:
                self._place_plain(records)
            else:
                self._place_special(records)
        except (PgherdError, IndexError) as error:
            raise self._explained(error, records) from None
        self._line += len(records)
        if self._records.special and self._shape.format == "csv":
            self._line += sum(record.count(b"\n") for record in records)
        return self._taken()

    def _place_plain(self, records: list[bytes]) -> None:
        """The hot loop: no record needs more than cutting at delimiters."""
        known, learn, pick = self._known, self._learn, self._pick
        delimiter, count = self._shape.delimiter, self._count
        if known is self._short_cut and self._place_together(records):
            return
        if count == 1:
            for record in records:
                raw = record.split(delimiter, 1)[0]
                (known(raw) or learn(raw))(record)
        else:
            for record in records:
                raw = pick(record.split(delimiter, count))
                (known(raw) or learn(raw))(record)

    def _place_together(self, records: list[bytes]) -> bool:
        """All records at once, if every key is plain; else nothing is done."""
        together, pick = self._batch_cut, self._pick
        if together is None or not records:
            return False
        delimiter, count = self._shape.delimiter, self._count
        try:
            raws = (
                [record.split(delimiter, 1)[0] for record in records]
                if count == 1
                else [pick(record.split(delimiter, count)) for record in records]
            )
        except IndexError:
            return False
        places = together(raws)
        if places is None:
            return False
        for record, place in zip(records, places, strict=True):
            place(record)
        return True

    def _place_special(self, records: list[bytes]) -> None:
        """Some records hold quotes or escaped delimiters."""
        known, learn, groups = self._known_special, self._learn, self._groups
        match = self._pattern.match
        for record in records:
            found = match(record)
            if found is None:
                raise IndexError
            raw = found.group(*groups)
            (known(raw) or learn(raw))(record)

    def _known_special(self, raw: Any) -> Place | None:
        """As `_known`, where quotes may surround the field; a quoted value is never the null marker."""
        if self._known is not self._short_cut or self._shape.format == "text":
            return self._known(raw)
        quote = self._shape.quote
        if raw.startswith(quote) and raw.endswith(quote):
            raw = raw[1:-1]
        return None if quote in raw or self._shape.escape in raw else self._known(raw)

    def _values(self, picked: Any) -> Sequence[bytes]:
        return (picked,) if self._single else picked

    def _bare(self, raw: bytes) -> bytes:
        """Without the carriage return of a CRLF line end, which the last column would otherwise show."""
        return raw[:-1] if self._records.crlf and self._last and raw.endswith(b"\r") else raw

    def _learn(self, picked: Any) -> Place:
        """The place for raw key fields not seen lately."""
        values = [value_of(self._bare(raw), self._shape) for raw in self._values(picked)]
        place = self._place(values)
        if len(self._places) >= self._remembered_max:
            self._places.clear()
            self._known = self._short_cut or self._known  # values hardly repeat: stop remembering them
        self._places[picked] = place
        return place

    def _place(self, values: Sequence[bytes | None]) -> Place:
        return self._piles.by_shard[self._locate(values).id].append

    def _taken(self) -> dict[ShardId, bytes]:
        streams: dict[ShardId, bytes] = {}
        for shard, pile in self._piles.take().items():
            pile.append(b"")
            stream = b"\n".join(pile)
            if shard not in self._greeted:
                self._greeted.add(shard)
                stream = self.preamble + stream
            streams[shard] = stream
        return streams

    def _explained(self, error: Exception, records: list[bytes]) -> PgherdError:
        """The error with its line, as PostgreSQL's CONTEXT has it."""
        at = len(self._piles)  # every record before the failing one lies on a pile
        record = records[at]
        line = self._line + at + 1
        if self._shape.format == "csv":
            line += sum(before.count(b"\n") for before in records[:at])
        shown = record.decode("utf-8", "replace").rstrip("\r")
        if len(shown) > _SHOWN_CHARS_MAX:
            shown = shown[:_SHOWN_CHARS_MAX] + "..."
        if not isinstance(error, PgherdError):
            found = len(fields_of(record, self._shape, self._count))
            error = BadCopy(f'missing data for column "{self._target.columns[found]}"')
        error.context = f'COPY {self._target.table}, line {line}: "{shown}"'
        return error
