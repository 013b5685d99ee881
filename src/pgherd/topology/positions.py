"""What a session has seen of each group: a vector of WAL positions, for reads on replicas that never go back. Pure.

A position is a timeline and a count of WAL bytes. Both matter: a standby that was cut off before a failover may have
received more bytes of the old timeline than the new primary has written, and holds none of the new writes.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pgherd.catalog.model import GroupId
from pgherd.errors import BadToken

GROUPS_MAX = 4096  # of one token: some 80 kB
_PREFIX = "pgherd1."  # the format's version
_GROUP_MAX = 2**31 - 1
_TIMELINE_MAX = 2**31 - 1
_LSN_MAX = 2**63 - 1


class Position(NamedTuple):
    """A place in a group's history. The order of two positions is the order of that history.

    Everything acknowledged on a timeline was replicated before the next one branched off, so what is later in this order
    holds everything acknowledged that is earlier.
    """

    timeline: int
    lsn: int  # WAL bytes

    def held_by(self, replayed: Position) -> bool:
        """Whether a node that has replayed so far certainly holds everything acknowledged up to here."""
        return replayed.timeline >= self.timeline and replayed.lsn >= self.lsn


class Positions:
    """One session's vector. A group is *dirty* when the session wrote there or read on its primary since it last knew a position.

    `watch.Watch.settle` asks the primaries of dirty groups. `epoch`: of the newest map by which the session worked; with an older
    one its rows might be looked for in a group that has given them away.
    """

    __slots__ = ("_seen", "dirty", "epoch")

    def __init__(self) -> None:
        self.dirty: set[GroupId] = set()
        self.epoch = 0
        self._seen: dict[GroupId, Position] = {}

    def wrote(self, group: GroupId) -> None:
        """The session wrote in `group`, or read on its primary: its position is not known any more."""
        self.dirty.add(group)

    def saw(self, group: GroupId, position: Position) -> None:
        """What a replica had replayed after the session's read there. Positions only grow."""
        known = self._seen.get(group)
        if known is None or position > known:
            self._seen[group] = position

    def settled(self, group: GroupId, position: Position) -> None:
        """The primary's insert position, asked after all that the session did there: the group is no longer dirty."""
        self.saw(group, position)
        self.dirty.discard(group)

    def forget(self, group: GroupId) -> None:
        """The group is gone or has one node only: nothing needs to be known."""
        self.dirty.discard(group)
        self._seen.pop(group, None)

    def get(self, group: GroupId) -> Position | None:
        """How far a replica must have replayed; None if the session has seen nothing of `group`. Settle a dirty group first."""
        return self._seen.get(group)

    def __iter__(self) -> Iterator[GroupId]:
        """The groups of which something is known."""
        return iter(self._seen)

    def token(self) -> str:
        """The vector as an opaque text for another session. Settle first: what is dirty is not in it."""
        numbers = bytearray()
        _put(numbers, self.epoch)
        for group, position in sorted(self._seen.items()):
            for number in (group, *position):
                _put(numbers, number)
        body = bytes(numbers)
        packed = zlib.crc32(body).to_bytes(4, "big") + body
        return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def merge(self, token: str) -> None:
        """Be at least as far as the session that made `token`. Raises BadToken, and then nothing has changed."""
        epoch, found = _read(token)
        self.epoch = max(self.epoch, epoch)
        for group, position in found:
            self.saw(group, position)


def _put(numbers: bytearray, number: int) -> None:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    while number > 127:
        numbers.append(number & 127 | 128)
        number >>= 7
    numbers.append(number)


def _read(token: str) -> tuple[int, list[tuple[GroupId, Position]]]:
    if not token.startswith(_PREFIX) or len(token) > GROUPS_MAX * 32:
        raise _bad("it does not begin as one")
    text = token.removeprefix(_PREFIX)
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad("it has other characters") from None
    body = packed[4:]
    if len(packed) < 4 or zlib.crc32(body).to_bytes(4, "big") != packed[:4]:
        raise _bad("its check sum is wrong")
    numbers = _numbers(body)
    if len(numbers) % 3 != 1:
        raise _bad("it is cut off")
    epoch = numbers.pop(0)
    found = [
        (GroupId(group), Position(timeline, lsn))
        for group, timeline, lsn in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    ]
    if epoch > _LSN_MAX or len(found) > GROUPS_MAX or not all(_possible(group, at) for group, at in found):
        raise _bad("its numbers are too large")
    return epoch, found


def _numbers(body: bytes) -> list[int]:
    found: list[int] = []
    number = shift = 0
    for byte in body:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(number)
            number = shift = 0
        elif shift > 70:
            raise _bad("its numbers are too large")
    if shift:
        raise _bad("it is cut off")
    return found


def _possible(group: int, at: Position) -> bool:
    return group <= _GROUP_MAX and at.timeline <= _TIMELINE_MAX and at.lsn <= _LSN_MAX


def _bad(reason: str) -> BadToken:
    return BadToken(f"invalid session token: {reason}")
