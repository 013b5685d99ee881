"""COPY TO, joined: several streams, one after another, as one file."""

from __future__ import annotations

from pgherd.engine.copy_binary import TRAILER, header_end


class CopyJoiner:
    """Keeps the first stream's header line (or binary header) and drops the later ones'; one binary trailer at the end.

    Call `feed` with each chunk, `next_stream` between streams, and `close` at the end; send what they answer.
    """

    def __init__(self, *, header: bool = False, binary: bool = False, quote: bytes = b"") -> None:
        self._header = header
        self._binary = binary
        self._quote = quote  # CSV: a header's quoted names may hold newlines
        self._skipping = False
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of `data` belongs into the file."""
        if self._skipping:
            data = self._held + data
            self._held = b""
            end = header_end(data) if self._binary else self._line_end(data)
            if end is None:
                self._held = data
                return b""
            data = data[end:]
            self._skipping = False
        if not self._binary:
            return data
        data = self._held + data  # the last two bytes may be the trailer
        self._held = data[-len(TRAILER) :]
        return data[: -len(TRAILER)]

    def next_stream(self) -> None:
        """The stream has ended, and another one follows."""
        self._held = b""
        self._skipping = self._header or self._binary

    def close(self) -> bytes:
        """All streams have ended: what is still to be sent."""
        return TRAILER if self._binary else b""

    def _line_end(self, data: bytes) -> int | None:
        at = data.find(b"\n")
        while at >= 0 and self._quote and data.count(self._quote, 0, at) % 2:
            at = data.find(b"\n", at + 1)
        return at + 1 if at >= 0 else None
