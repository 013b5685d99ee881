"""The part of a DSN that is pgherd's own: `?pgherd.read=session&pgherd.region=eu&pgherd.zone=a`. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pgherd.errors import BadSetting

PREFIX = "pgherd."
NAMES = frozenset({"read", "region", "zone", "failover_wait"})


def split(dsn: str | None) -> tuple[str | None, dict[str, str]]:
    """The DSN as asyncpg takes it, and pgherd's own parameters without their prefix. Raises BadSetting for an unknown one."""
    if dsn is None or "pgherd." not in dsn or "://" not in dsn:
        return dsn, {}
    query = urlsplit(dsn).query
    pairs = parse_qsl(query, keep_blank_values=True)
    own = {name.removeprefix(PREFIX): value for name, value in pairs if name.startswith(PREFIX)}
    for name in own:
        if name not in NAMES:
            raise BadSetting(
                f"unknown parameter {PREFIX}{name} in the DSN",
                hint=f"Known: {', '.join(sorted(PREFIX + known for known in NAMES))}.",
            )
    if not own:
        return dsn, {}
    rest = [(name, value) for name, value in pairs if not name.startswith(PREFIX)]
    bare = dsn.replace(f"?{query}", "", 1)
    return bare + (f"?{urlencode(rest)}" if rest else ""), own


def doors(dsn: str | None) -> list[dict[str, Any]]:
    """The hosts of a DSN, each as keyword arguments of asyncpg.connect: one that hangs shall not use up the others' time."""
    place = "" if dsn is None or "://" not in dsn else urlsplit(dsn).netloc.rpartition("@")[2]
    hosts = place.split(",")
    if len(hosts) < 2 or "[" in place:
        return [{}]
    found: list[dict[str, Any]] = []
    for host in hosts:
        name, _, port = host.partition(":")
        found.append({"host": unquote(name) or "localhost", "port": int(port) if port.isdigit() else 5432})
    return found


def seconds(text: str) -> float:
    """A number of seconds. Raises BadSetting."""
    try:
        return float(text)
    except ValueError:
        raise BadSetting(f"not a number of seconds: {text!r}") from None
