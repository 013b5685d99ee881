"""Dates and timestamps between PostgreSQL's ISO text and its numbers: days or microseconds since 2000-01-01.

Only forms whose meaning depends neither on DateStyle nor on TimeZone are read; for any other the answer is None.
The day arithmetic is proleptic Gregorian, for years far outside those of Python's datetime.
"""

from __future__ import annotations

import re
from typing import Final

DATE_BEFORE_ALL: Final = -(2**31)  # '-infinity'
DATE_AFTER_ALL: Final = 2**31 - 1
TIME_BEFORE_ALL: Final = -(2**63)
TIME_AFTER_ALL: Final = 2**63 - 1

_DAY_US: Final = 86_400_000_000
_FIRST_DAY: Final = -2451545  # 4714-11-24 BC, PostgreSQL's first
_LAST_DATE: Final = 2145031948  # 5874897-12-31
_END_TIME_US: Final = 9_223_371_331_200_000_000  # 294277-01-01 00:00, the first that is no timestamp
_INFINITIES: Final = {"infinity": 1, "-infinity": -1}
_SPACES: Final = " \t\n\v\f\r"

_FORM: Final = re.compile(
    r"(?P<year>[0-9]{4,7})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?P<time>[ T](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})(\.(?P<fraction>[0-9]{1,6}))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}(:?[0-9]{2}(:[0-9]{2})?)?)?)?(?P<bc> BC)?"
)
_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _day_number(year: int, month: int, day: int) -> int:
    """Days since 2000-01-01 of a proleptic Gregorian date; year 0 is 1 BC."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 730425


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day number: the inverse of `_day_number`."""
    era, of_era = divmod(days + 730425, 146097)
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return era * 400 + year + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _day(found: re.Match[str]) -> int | None:
    year, month, day = int(found["year"]), int(found["month"]), int(found["day"])
    if not year or not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        return None
    if found["bc"]:
        year = 1 - year
    if month == 2 and day == 29 and (year % 4 or (not year % 100 and year % 400)):
        return None
    return _day_number(year, month, day)


def _zone_us(zone: str) -> int | None:
    """The offset east of Greenwich in microseconds, or None for one that PostgreSQL would refuse."""
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hours > 15 or minutes > 59 or seconds > 59:
        return None
    offset = (hours * 3600 + minutes * 60 + seconds) * 1_000_000
    return -offset if zone[0] == "-" else offset


def date_from_text(text: str) -> int | None:
    """Days since 2000-01-01 of 'YYYY-MM-DD[ BC]' or an infinity; None: not understood here."""
    text = text.strip(_SPACES)
    sign = _INFINITIES.get(text.lower())
    if sign is not None:
        return DATE_AFTER_ALL if sign > 0 else DATE_BEFORE_ALL
    found = _FORM.fullmatch(text)
    if found is None or found["time"]:
        return None
    days = _day(found)
    return days if days is not None and _FIRST_DAY <= days <= _LAST_DATE else None


def time_from_text(text: str, *, zoned: bool) -> int | None:
    """Microseconds since 2000-01-01 (UTC if `zoned`, and then the text must give an offset); None: not understood here."""
    text = text.strip(_SPACES)
    sign = _INFINITIES.get(text.lower())
    if sign is not None:
        return TIME_AFTER_ALL if sign > 0 else TIME_BEFORE_ALL
    found = _FORM.fullmatch(text)
    if found is None or bool(found["zone"]) is not zoned:
        return None
    days = _day(found)
    hour, minute, second = int(found["hour"] or 0), int(found["minute"] or 0), int(found["second"] or 0)
    if days is None or hour > 23 or minute > 59 or second > 59:
        return None
    us = int((found["fraction"] or "").ljust(6, "0"))
    us += days * _DAY_US + (hour * 3600 + minute * 60 + second) * 1_000_000
    offset = _zone_us(found["zone"]) if zoned else 0
    if offset is None or not _FIRST_DAY * _DAY_US <= us - offset < _END_TIME_US:
        return None
    return us - offset


def date_to_text(days: int) -> str:
    """ISO text of a day number, with ' BC' where it belongs."""
    if days in (DATE_AFTER_ALL, DATE_BEFORE_ALL):
        return "infinity" if days > 0 else "-infinity"
    year, month, day = _civil(days)
    return f"{year:04}-{month:02}-{day:02}" if year > 0 else f"{1 - year:04}-{month:02}-{day:02} BC"


def time_to_text(us: int, *, zoned: bool) -> str:
    """ISO text of a timestamp; with '+00' if `zoned`."""
    if us in (TIME_AFTER_ALL, TIME_BEFORE_ALL):
        return "infinity" if us > 0 else "-infinity"
    days, rest = divmod(us, _DAY_US)
    seconds, fraction = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if fraction:
        clock += f".{fraction:06}".rstrip("0")
    day, _, era = date_to_text(days).partition(" ")
    return f"{day} {clock}{'+00' if zoned else ''}{' ' + era if era else ''}"
