"""Parses the query parameters of `GET /v1/messages`. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from common import ids
from common.errors import RequestError
from common.protocol.messages import PAGE_MESSAGES, UUID

LIMIT = 100  # messages in a page by default
PARAMETERS = ("after", "limit", "from", "to", "order")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339, section 5.6: T and Z may be lower case, and T a blank. An unescaped + in a URL arrives as a blank.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt _](\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
_HIGHEST_MS = (1 << 48) - 1  # the highest time that an id can carry


@dataclass(frozen=True, slots=True)
class Query:
    """Which messages a client wants.

    Attributes:
        after, before: exclusive bounds of the message ids; "" for no bound.
        limit: limit on the messages of one page.
        newest_first: descending order of ids.
        given: the parameters as the client sent them.
    """

    after: str = ""
    before: str = ""
    limit: int = LIMIT
    newest_first: bool = False
    given: Mapping[str, str] = field(default_factory=dict)

    def following(self, cursor: str) -> str:
        """The query string of the next page."""
        return urlencode({**self.given, "after": cursor})


def parse(given: Mapping[str, str]) -> Query:
    """The query that the parameters describe.

    Raises:
        RequestError: a parameter is unknown or not valid; the error names it and what is allowed.
    """
    refuse_unknown(given, PARAMETERS)
    if (order := given.get("order", "asc")) not in ("asc", "desc"):
        raise RequestError(f"order must be asc or desc, not {order[:40]!r}")
    cursor = message_id(given["after"], "after") if given.get("after") else ""
    since = ids.last_id(_ms(given["from"], "from") - 1) if "from" in given else ""
    until = ids.first_id(_ms(given["to"], "to")) if "to" in given else ""
    newest_first = order == "desc"
    return Query(
        after=since if newest_first else max(since, cursor),
        before=min(filter(None, (until, cursor)), default="") if newest_first else until,
        limit=_limit(given.get("limit", str(LIMIT))),
        newest_first=newest_first,
        given=given,
    )


def refuse_unknown(given: Mapping[str, str], known: Sequence[str], where: str = "") -> None:
    """Raise RequestError for a parameter that is not in `known`; `where` is added to the message."""
    if unknown := sorted(given.keys() - known):
        raise RequestError(f"there is no parameter {unknown[0][:40]!r}{where}; known: {', '.join(known)}")


def single(given: Mapping[str, str | list[str]]) -> dict[str, str]:
    """The same parameters, each with one value; raises RequestError if one is given more than once."""
    values: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(value, str):
            raise RequestError(f"{name[:40]} is given {len(value)} times")
        values[name] = value
    return values


def message_id(text: str, name: str) -> str:
    """A message id in lower case; raises RequestError, which refers to the parameter as `name`."""
    if not re.fullmatch(UUID, lowered := text.lower()):
        raise RequestError(f"{name} must be the id of a message, a UUID such as {ids.first_id(0)}")
    return lowered


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= PAGE_MESSAGES:
        raise RequestError(f"limit must be a number from 1 to {PAGE_MESSAGES}")
    return int(text)


def _ms(text: str, name: str) -> int:
    """Milliseconds since 1970, rounded up: `from` then includes nothing earlier, and `to` excludes nothing earlier.

    A leap second, 23:59:60, is the second after it, as in Unix time.
    """
    if (found := _TIME.fullmatch(text)) is None:
        raise _not_a_time(name)
    date, clock, second, fraction, offset = found.groups()
    if date.startswith("0000"):
        return 1  # Python's first year is 1
    leap_s = int(second == "60")
    second = "59" if leap_s else second
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}:{second}{fraction or ''}{offset.upper().replace(' ', '+')}")
        ms = -((_EPOCH - moment - timedelta(seconds=leap_s)) // timedelta(milliseconds=1))
    except (ValueError, OverflowError) as error:
        raise _not_a_time(name) from error
    return min(max(ms, 1), _HIGHEST_MS)


def _not_a_time(name: str) -> RequestError:
    return RequestError(f"{name} must be a time as RFC 3339 has it, such as 2026-11-24T08:00:00Z")
