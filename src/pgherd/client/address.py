"""The part of a DSN that is pgherd's own: `?pgherd.read=session&pgherd.region=eu&pgherd.zone=a`. Pure."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

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


def seconds(text: str) -> float:
    """A number of seconds. Raises BadSetting."""
    try:
        return float(text)
    except ValueError:
        raise BadSetting(f"not a number of seconds: {text!r}") from None
