"""What may be set: for each keyspace its limits, for the whole cluster how eager balancing is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from pgherd.errors import BadSetting

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY_MINUTES: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """The minutes of the day (UTC) in which changes may begin; `start` may lie after `end`: over midnight."""

    start: int
    end: int

    def holds(self, now_s: float) -> bool:
        """Whether the moment (seconds since 1970) lies in the window."""
        minute = int(now_s // 60) % DAY_MINUTES
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (self.start, self.end))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspaceSettings:
    """The limits of one keyspace's shards.

    `size_max` bytes and `load_max` (busy seconds per second) above which a shard is split; a pair of neighbours is merged
    when together they stay below `merge_fill` of both limits, and no less than `shards_min` shards are left (0: as many
    as there are groups, four times as many for hash). After a change a shard is left alone for `cooldown_s`, after a move it
    stays for `stay_s`, and it is merged only `merge_after_s` after it came to be.
    """

    autosplit: bool = True
    automove: bool = True
    automerge: bool = True
    size_max: int = 8 * GIB
    load_max: float = 1.0
    merge_fill: float = 0.25
    shards_min: int = 0
    shards_max: int = 65536
    window: Window | None = None
    cooldown_s: float = 300.0
    stay_s: float = 3600.0
    merge_after_s: float = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How eager balancing is, for the whole cluster. Shares are of a group's fair part, which is 1.

    Balancing starts when a group is above 1 + `trigger` or below 1 - `trigger` for `sustain_rounds` pictures, and goes on until
    all are within `settle`. A move must leave its target at least `gain_min` of the difference below what its source was.
    Below `floor_load` (busy seconds per second) and `floor_bytes` per group, on average, differences do not count.
    `balancing` off: nothing is begun but what empties a draining group. A round every `round_s`; what the controller has changed can
    be taken back for `keep_for_s`. Sources of load report every `report_s`, and what they told fades with `half_life_s`.
    """

    trigger: float = 0.25
    settle: float = 0.10
    gain_min: float = 0.10
    floor_load: float = 0.05
    floor_bytes: int = GIB
    sustain_rounds: int = 3
    move_cost_bytes: int = 64 * MIB  # what a move costs beside its bytes: a workflow, a pause
    reserve: float = 0.10  # of a group's disk is left free by moves
    sample_min: int = 24  # keys in a sample, below which it says nothing
    side_max: float = 0.80  # of the load on one side: more, and a split does not help
    merge_share_max: float = 0.10  # of a group's fair part, for a merged shard
    workflows_max: int = 64
    balancing: bool = True
    round_s: float = 10.0
    keep_for_s: float = 600.0
    report_s: float = 10.0
    half_life_s: float = 300.0


_SIZES: Final = {"": 1, "b": 1, "kb": KIB, "mb": MIB, "gb": GIB, "tb": 1 << 40}
_TIMES: Final = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _boolean(text: str) -> bool:
    word = text.lower()
    if word in ("on", "true", "yes", "1"):
        return True
    if word in ("off", "false", "no", "0"):
        return False
    raise ValueError("on or off")


def _with_unit(text: str, units: Mapping[str, float], examples: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower().replace("ib", "b"))
    if found is None or found[2] not in units:
        raise ValueError(examples)
    return float(found[1]) * units[found[2]]


def _size(text: str) -> int:
    size = int(_with_unit(text, _SIZES, "a size such as 8GB or 512MB"))
    if size < MIB:
        raise ValueError("at least 1MB")
    return size


def _duration(text: str) -> float:
    return _with_unit(text, _TIMES, "a time such as 90s, 10min, 6h or 1d")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError("a number above 0")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 0.5:
        raise ValueError("a number from 0 to 0.5")  # above, a merged shard could be split at once
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1_000_000:
        raise ValueError("a whole number from 0 on")
    return value


def _window(text: str) -> Window | None:
    if text.lower() in ("", "none", "off", "always"):
        return None
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise ValueError("times of the day in UTC such as 02:00-05:00, or none")
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if start == end:
        raise ValueError("two different times")
    return Window(start, end)


_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "autosplit": _boolean,
    "automove": _boolean,
    "automerge": _boolean,
    "size_max": _size,
    "load_max": _positive,
    "merge_fill": _fraction,
    "shards_min": _count,
    "shards_max": _count,
    "window": _window,
    "cooldown": _duration,
    "stay": _duration,
    "merge_after": _duration,
}
_FIELDS: Final = {field.name for field in fields(KeyspaceSettings)}
_RULE_FIELDS: Final = {field.name for field in fields(Rules)}
NAMES: Final = tuple(_READ)


def changed(settings: KeyspaceSettings, name: str, text: str) -> KeyspaceSettings:
    """The settings with one changed, as a user writes it: ('autosplit', 'off'), ('size_max', '2GB'). Raises BadSetting."""
    read = _READ.get(name)
    if read is None:
        raise BadSetting(f"a keyspace has no setting {name!r}", hint=f"There are: {', '.join(NAMES)}.")
    try:
        value = read(text.strip())
    except ValueError as error:
        raise BadSetting(f"invalid value for {name}: {text!r}", hint=f"Use {error}.") from None
    field = name if name in _FIELDS else f"{name}_s"
    made: KeyspaceSettings = replace(settings, **{field: value})
    if made.size_max and made.shards_max and made.shards_min > made.shards_max:
        raise BadSetting("shards_min is more than shards_max", hint="Change the other one first.")
    return made


_RULES: Final[Mapping[str, Callable[[str], Any]]] = {
    "balancing": _boolean,
    "round": _duration,
    "keep_for": _duration,
    "report": _duration,
    "half_life": _duration,
    "sustain_rounds": _count,
    "workflows_max": _count,
    "trigger": _positive,
    "settle": _positive,
    "floor_load": _positive,
    "floor_bytes": _size,
}
RULE_NAMES: Final = tuple(_RULES)


def changed_rules(rules: Rules, name: str, text: str) -> Rules:
    """The rules with one changed, as a user writes it: ('round', '30s'), ('balancing', 'off'). Raises BadSetting."""
    made = _with_rule(rules, name, text)
    if made.settle >= made.trigger:
        raise BadSetting("settle must be below trigger", hint="Change the other one first.")
    return made


def _with_rule(rules: Rules, name: str, text: str) -> Rules:
    read = _RULES.get(name)
    if read is None:
        raise BadSetting(f"balancing has no setting {name!r}", hint=f"There are: {', '.join(RULE_NAMES)}.")
    try:
        value = read(text.strip())
        if name in ("round", "report", "half_life") and not 0.2 <= value <= 86400:
            raise ValueError("a time from 0.2s to 1d")
    except ValueError as error:
        raise BadSetting(f"invalid value for {name}: {text!r}", hint=f"Use {error}.") from None
    made: Rules = replace(rules, **{name if name in _RULE_FIELDS else f"{name}_s": value})
    return made


def read_rules(texts: Mapping[str, str]) -> Rules:
    """The rules out of the rows of pgherd.balance_settings. What is unknown, or not understood, is passed over."""
    found = Rules()
    for name, text in texts.items():
        with suppress(BadSetting):
            found = _with_rule(found, name, text)
    return found


def read(texts: Mapping[str, str]) -> KeyspaceSettings:
    """The settings out of the texts that a keyspace's row in pgherd.keyspace_settings holds. Unknown names are passed over."""
    settings = KeyspaceSettings()
    for name, text in texts.items():
        if name in _READ:  # a newer version may know more
            settings = changed(settings, name, text)
    return settings


def shown(settings: KeyspaceSettings) -> dict[str, Any]:
    """All settings for people and JSON, under the names that `changed` takes."""
    values = asdict(settings)
    values["window"] = str(settings.window) if settings.window else "none"
    return {name: values[name if name in _FIELDS else f"{name}_s"] for name in NAMES}
