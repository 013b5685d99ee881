"""The parameters of one Bind message, as the engine sees them: `engine.link.Params` over the wire's own bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pgherd.catalog import keys
from pgherd.errors import BadEncoding, ProtocolViolation
from pgherd.gateway import wire

_INT_NAMES: Final = {20: "bigint", 21: "smallint", 23: "integer"}


@dataclass(frozen=True, slots=True)
class BoundParams:
    """What a client bound. `oids` may be shorter than `values` (0 or missing: the server infers the type).

    `formats` and `result_formats` as in the protocol: empty is all text, one is for all, else one each; 0 text, 1 binary.
    """

    oids: tuple[int, ...] = ()
    formats: tuple[int, ...] = ()
    values: Sequence[bytes | None] = ()
    result_formats: tuple[int, ...] = ()

    @classmethod
    def from_tail(cls, oids: tuple[int, ...], tail: bytes) -> BoundParams:
        """From a Bind message's bytes after the two names. Raises ProtocolViolation."""
        formats, values, result_formats = wire.read_bind_tail(tail)
        return cls(oids, formats, values, result_formats)

    def oid(self, number: int) -> int:
        """The type of parameter `number`, 0 if it was not said."""
        return self.oids[number - 1] if number <= len(self.oids) else 0

    def format(self, number: int) -> int:
        """0 (text) or 1 (binary)."""
        formats = self.formats
        if not formats:
            return 0
        return formats[0] if len(formats) == 1 else formats[number - 1]

    def key(self, number: int, key_type: str) -> Any:
        """The canonical key value of parameter `number`, None for NULL. Raises keys.Undecodable, errors.BadKey."""
        if number > len(self.values):
            raise ProtocolViolation(f"there is no parameter ${number}")
        value = self.values[number - 1]
        if value is None:
            return None
        oid = self.oid(number)
        if self.format(number):
            return keys.decode_binary(key_type, oid, value)
        if not keys.same_family(key_type, oid):
            raise keys.Undecodable(key_type)
        try:
            # a bigint parameter may be compared with an integer column: it is read by its own type's rules
            return keys.decode_text(_INT_NAMES.get(oid, key_type), value.decode())
        except UnicodeDecodeError as error:
            wrong = " ".join(f"0x{byte:02x}" for byte in value[error.start : error.end])
            raise BadEncoding(f'invalid byte sequence for encoding "UTF8": {wrong}') from None

    def select(self, numbers: Sequence[int]) -> BoundParams:
        """Only these parameters, renumbered from 1."""
        return BoundParams(
            tuple(self.oid(number) for number in numbers),
            tuple(self.format(number) for number in numbers) if self.formats else (),
            [self.values[number - 1] for number in numbers],
            self.result_formats,
        )

    def as_text(self) -> BoundParams:
        """The same parameters, with results wanted as text."""
        return BoundParams(self.oids, self.formats, self.values, ())

    def bind_tail(self) -> bytes:
        """The bytes of a Bind message after the two names."""
        return wire.bind_tail(self.formats, self.values, self.result_formats)
