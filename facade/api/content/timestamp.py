"""Times in requests: RFC 3339 texts, and numbers since 1970 as shippers send them. Pure."""

import re
from datetime import UTC, datetime, timedelta

from common.errors import RequestError

HIGHEST_MS = (1 << 48) - 1  # the highest time that an id can carry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339, section 5.6: T and Z may be lower case, and T a blank. An unescaped + in a URL arrives as a blank.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt _](\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
# Numbers below each bound are in a unit of so many nanoseconds: s, ms, us, ns. The bounds are the year 5138.
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**20, 1))


def ms_of_text(text: str, name: str) -> int:
    """Milliseconds since 1970, rounded up: `from` then includes nothing earlier, and `to` excludes nothing earlier.

    Args:
        text: the time.
        name: what it is, for the error.

    Raises:
        RequestError: it is not a time of RFC 3339.
    """
    return min(max(-(-_us_of_text(text, name) // 1_000), 1), HIGHEST_MS)


def ns_of_value(value: object, name: str) -> int:
    """Nanoseconds since 1970 of a JSON value: a time of RFC 3339, or a number of s, ms, us or ns by its size.

    Raises:
        RequestError: it is neither; the error refers to it as `name`.
    """
    if isinstance(value, str):
        return max(_us_of_text(value, name) * 1_000, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _UNITS[-1][0]:
        raise _not_a_time(name)
    return int(value * next(unit for bound, unit in _UNITS if value < bound))


def _us_of_text(text: str, name: str) -> int:
    """Microseconds since 1970; a leap second, 23:59:60, is the second after it, as in Unix time."""
    if (found := _TIME.fullmatch(text)) is None:
        raise _not_a_time(name)
    date, clock, second, fraction, offset = found.groups()
    if date.startswith("0000"):
        return 0  # Python's first year is 1
    leap_s = int(second == "60")
    second = "59" if leap_s else second
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}:{second}{fraction or ''}{offset.upper().replace(' ', '+')}")
        return (moment - _EPOCH + timedelta(seconds=leap_s)) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise _not_a_time(name) from error


def _not_a_time(name: str) -> RequestError:
    return RequestError(f"{name} must be a time as RFC 3339 has it, such as 2026-11-24T08:00:00Z")
