"""Parses the query parameters of `GET /v1/messages`. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from common import ids
from common.errors import RequestError
from common.protocol.content import UUID
from common.protocol.messages import PAGE_MESSAGES
from common.protocol.search import CONTAINS_CHARACTERS, FIELDS, NAME_CHARACTERS, NO_SEARCH, Search
from facade.api.content.draft import RecordShape
from facade.api.content.timestamp import ms_of_text

LIMIT = 100  # messages in a page by default
SEARCH = ("contains", "field.NAME")  # parameters of pages, lines and events
PARAMETERS = ("after", "limit", "from", "to", "order", *SEARCH)

_FIELD = "field."  # begins the name of a parameter that compares a field


@dataclass(frozen=True, slots=True)
class Query:
    """Which messages a client wants.

    Attributes:
        after, before: exclusive bounds of the message ids; "" for no bound.
        limit: limit on the messages of one page.
        newest_first: descending order of ids.
        search: what the messages must have.
        given: the parameters as the client sent them.
    """

    after: str = ""
    before: str = ""
    limit: int = LIMIT
    newest_first: bool = False
    search: Search = NO_SEARCH
    given: Mapping[str, str] = field(default_factory=dict)

    def bounds(self, cursor: str) -> dict[str, Any]:
        """The arguments of `Client.page` for the messages that follow a cursor."""
        after, before = (self.after, cursor) if self.newest_first else (cursor, self.before)
        return {"after": after, "before": before, "newest_first": self.newest_first, "search": self.search}

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
    since = ids.last_id(ms_of_text(given["from"], "from") - 1) if "from" in given else ""
    until = ids.first_id(ms_of_text(given["to"], "to")) if "to" in given else ""
    newest_first = order == "desc"
    return Query(
        after=since if newest_first else max(since, cursor),
        before=min(filter(None, (until, cursor)), default="") if newest_first else until,
        limit=_limit(given.get("limit", str(LIMIT))),
        newest_first=newest_first,
        search=search(given),
        given=given,
    )


def search(given: Mapping[str, str]) -> Search:
    """The search that the parameters describe.

    Raises:
        RequestError: a text is too long, or there are too many fields.
    """
    fields = tuple((name.removeprefix(_FIELD), value) for name, value in given.items() if name.startswith(_FIELD))
    found = Search(given.get("contains", ""), fields)
    if len(fields) > FIELDS:
        raise RequestError(f"{len(fields)} fields are compared, over the limit of {FIELDS}")
    if not all(1 <= len(name) <= NAME_CHARACTERS for name, _ in fields):
        raise RequestError(f"field.NAME needs a name of 1 to {NAME_CHARACTERS} characters")
    if any(len(text) > CONTAINS_CHARACTERS for text in (found.contains, *(value for _, value in fields))):
        raise RequestError(f"a text to search for has at most {CONTAINS_CHARACTERS} characters")
    return found


def shape(given: Mapping[str, str]) -> RecordShape | None:
    """Where the records of a POST have their text and time, None if they are messages.

    Raises:
        RequestError: a parameter is unknown, or time_field is given without msg_field.
    """
    refuse_unknown(given, ("msg_field", "time_field"))
    if not (msg_field := given.get("msg_field", "")) and given:
        raise RequestError("msg_field must name the member of each record that has its text")
    if msg_field and msg_field == given.get("time_field"):
        raise RequestError("msg_field and time_field must name two members")
    return RecordShape(msg_field, given.get("time_field", "")) if given else None


def refuse_unknown(given: Mapping[str, str], known: Sequence[str], where: str = "") -> None:
    """Raise RequestError for a parameter that is not in `known`; `where` is added to the message."""
    is_search = SEARCH[1] in known
    if unknown := sorted(name for name in given if name not in known and not (is_search and name.startswith(_FIELD))):
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
