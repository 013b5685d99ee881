"""A workload out of a recording: lines of JSON as `pgherd.shard_load` and `pgherd.shards` gave them, one for each shard and moment.

    {"key_types": ["text"]}
    {"at": 1767225600, "shard": 7, "range_start": ["A"], "range_end": ["N"], "bytes": 1048576, "load": {...}}

The first line names the key's types; `at` is seconds since 1970, `load` the document of `pgherd.balance.load`. Range keyspaces only.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pgherd.balance.load import ShardLoad, from_json
from pgherd.balance.picture import STATEMENT_S
from pgherd.catalog import keys
from pgherd.catalog.model import Key
from pgherd.errors import BadSetting
from pgherd.simulate.workloads import Use


@dataclass(frozen=True, slots=True)
class _Line:
    at: float
    lower: Key | None
    upper: Key | None
    bytes: float
    load: ShardLoad


class Recorded:
    """The recorded use of keys, again and again from its beginning. Raises BadSetting for a file that is not a recording."""

    def __init__(self, texts: Iterable[str]) -> None:
        rows = [_row(number, text) for number, text in enumerate(texts, 1) if text.strip()]
        if len(rows) < 2 or "key_types" not in rows[0]:
            raise _bad(1, "the first line names key_types, the others are shards")
        self.key_types: tuple[str, ...] = tuple(rows[0]["key_types"])
        lines = [self._line(number, row) for number, row in enumerate(rows[1:], 2)]
        found = {
            key for line in lines for key in (*line.load.sample, line.lower, line.upper) if key is not None
        }
        self.keys: Sequence[Key] = [(), *sorted(found)]
        self._start = min(line.at for line in lines)
        moments = sorted({line.at for line in lines})
        self._moments = [at - self._start for at in moments]
        self._span = self._moments[-1] + (
            self._moments[-1] - self._moments[-2] if len(moments) > 1 else 3600.0
        )
        self._sums = [self._use([line for line in lines if line.at == at]) for at in moments]
        self._bounds = sorted({self._cell(line.lower) for line in lines if line.at == moments[0]} - {0})

    def bounds(self, shards: int) -> list[int]:
        """As recorded, whatever number was asked for."""
        del shards
        return self._bounds

    def use(self, now_s: float) -> Use:
        """What was recorded last before this moment."""
        loads, sizes = self._sums[bisect_right(self._moments, now_s % self._span) - 1]
        return Use(loads, sizes, 1.0, len(self.keys))

    def _cell(self, key: Key | None) -> int:
        return 0 if key is None else bisect_left(self.keys, key)

    def _line(self, number: int, row: Mapping[str, Any]) -> _Line:
        try:
            bounds = [self._bound(row.get(name)) for name in ("range_start", "range_end")]
            load = from_json(row["load"], self.key_types)
            return _Line(float(row["at"]), bounds[0], bounds[1], float(row["bytes"]), load)
        except (KeyError, TypeError, ValueError, keys.Undecodable) as error:
            raise _bad(number, f"{type(error).__name__} {error}") from None

    def _bound(self, texts: Sequence[str] | None) -> Key | None:
        if texts is None:
            return None
        return tuple(keys.decode_text(kind, text) for kind, text in zip(self.key_types, texts, strict=False))

    def _use(self, lines: Sequence[_Line]) -> tuple[list[float], list[float]]:
        loads, sizes = [0.0] * len(self.keys), [0.0] * len(self.keys)
        for line in lines:
            first = self._cell(line.lower)
            last = len(self.keys) if line.upper is None else self._cell(line.upper)
            busy = line.load.seconds_per_s + line.load.statements_per_s * STATEMENT_S
            cells = [max(bisect_right(self.keys, key) - 1, first) for key in line.load.sample] or [first]
            for cell in cells:
                loads[cell] += busy / len(cells)
            for cell in range(first, last):
                sizes[cell] += line.bytes / (last - first)
        return [0.0, *accumulate(loads)], [0.0, *accumulate(sizes)]


def _row(number: int, text: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise _bad(number, str(error)) from None
    if not isinstance(row, dict):
        raise _bad(number, "not an object")
    return row


def _bad(number: int, what: str) -> BadSetting:
    return BadSetting(
        f"line {number} of the recording is not understood: {what}",
        hint="docs/balancing.md says how a recording is made.",
    )
