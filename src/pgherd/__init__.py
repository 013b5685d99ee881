"""pgherd: many ordinary PostgreSQL servers as one distributed database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgherd.client import connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    # loaded when first used: the command line and the gateway do not need asyncpg
    if name == "connect":
        from pgherd.client import connect

        return connect
    raise AttributeError(f"module 'pgherd' has no attribute {name!r}")
