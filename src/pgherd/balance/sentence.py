"""Figures in sentences: sizes, loads, times and keys as people read them."""

from __future__ import annotations

from pgherd.catalog import keys
from pgherd.catalog.model import Key


def size(count: float) -> str:
    """Bytes: 312 MiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def percent(share: float) -> str:
    """80 %."""
    return f"{share * 100:.0f} %"


def seconds(value: float) -> str:
    """240 s, 12 min, 5 h."""
    if value < 600:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def load(busy: float) -> str:
    """A load in busy seconds per second: 0.42 s/s."""
    return f"{busy:.2f} s/s"


def key(key_types: tuple[str, ...], value: Key) -> str:
    """A key or bound as one would write it in SQL: 'N', or ('Smith', 42)."""
    texts: list[str] = []
    for key_type, part in zip(key_types, value, strict=False):
        text = keys.encode_text(key_type, part)
        plain = key_type in ("smallint", "integer", "bigint", "numeric")
        texts.append(text if plain else "'" + text.replace("'", "''") + "'")
    if not texts:
        return "the least key"
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
