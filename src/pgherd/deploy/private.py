"""Files that only their owner may read: they hold passwords."""

from __future__ import annotations

import secrets
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write such a file anew; nobody else could read it at any moment."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def password(path: Path) -> str:
    """The random password in `path`, made when it is first asked for."""
    if not path.exists():
        write(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()
