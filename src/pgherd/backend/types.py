"""Types that users define have other OIDs in every group; clients only ever see those of group 0.

Built-in OIDs (below 16384) are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct

FIRST_USER_OID = 16384
_COLUMN = Struct(">IhIhih")  # table oid, attribute number, type oid, type size, type modifier, format


class TypeMap:
    """The OIDs of one group against those of group 0, found by schema and name of the type."""

    __slots__ = ("_descriptions", "_inward", "_outward")

    def __init__(self, here: Mapping[str, int], home: Mapping[str, int]) -> None:
        self._outward = {oid: home[name] for name, oid in here.items() if name in home}
        self._inward = {theirs: ours for ours, theirs in self._outward.items()}
        self._descriptions: dict[bytes, bytes] = {}

    def inward(self, oids: Sequence[int]) -> list[int]:
        """Parameter OIDs as a client gave them, in this group's numbers."""
        return [self._inward.get(oid, oid) if oid >= FIRST_USER_OID else oid for oid in oids]

    def outward(self, oid: int) -> int:
        return self._outward.get(oid, oid)

    def row_description(self, message: bytes) -> bytes:
        """A RowDescription message with group 0's type OIDs; table OIDs, which mean nothing elsewhere, become 0."""
        found = self._descriptions.get(message)
        if found is None:
            found = self._translate(message)
            if len(self._descriptions) > 2_000:
                self._descriptions.clear()
            self._descriptions[message] = found
        return found

    def _translate(self, message: bytes) -> bytes:
        out = bytearray(message)
        pos = 7
        for _ in range(int.from_bytes(message[5:7], "big")):
            pos = message.index(b"\0", pos) + 1
            _, _, oid, size, modifier, form = _COLUMN.unpack_from(message, pos)
            _COLUMN.pack_into(out, pos, 0, 0, self._outward.get(oid, oid), size, modifier, form)
            pos += _COLUMN.size
        return bytes(out)


TYPES_SQL = (
    "SELECT n.nspname || '.' || t.typname, t.oid FROM pg_catalog.pg_type t "
    "JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace "
    f"WHERE t.oid >= {FIRST_USER_OID} AND n.nspname !~ '^(shard_[0-9]+|global|here|pgherd)(_|$)' "
    "AND (t.typtype IN ('e','d','r','m','b') OR t.typtype = 'c')"
)
