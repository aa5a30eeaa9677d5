"""Search: which messages contain a text, or have a field with a value. Without regard to case, for all of Unicode."""

import functools
import json
from typing import Annotated, NamedTuple

from msgspec import Meta

from common.protocol.content import Content

CONTAINS_CHARACTERS = 1_000  # limit on a text that is searched for
NAME_CHARACTERS = 128  # limit on the name of a field
FIELDS = 16  # limit on the fields of one search

Wanted = Annotated[str, Meta(max_length=CONTAINS_CHARACTERS)]
FieldName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS)]


class Search(NamedTuple):
    """What a message must have to be found; all of it.

    Attributes:
        contains: a part of its text; "" for any text.
        fields: names of its fields, each with its value. A number or a boolean is compared in the form of JSON.
    """

    contains: Wanted = ""
    fields: Annotated[tuple[tuple[FieldName, Wanted], ...], Meta(max_length=FIELDS)] = ()

    def __bool__(self) -> bool:
        """False if every message is found."""
        return bool(self.contains or self.fields)


NO_SEARCH = Search()


class Matcher:
    """Tells which messages a search finds.

    Attributes:
        contains: the text that is searched for, folded.
        fields: the names of fields, each with its value, folded.
    """

    def __init__(self, search: Search) -> None:
        self.contains = search.contains.casefold()
        self.fields = [(name, value.casefold()) for name, value in search.fields]

    def matches(self, content: Content) -> bool:
        """True if the search finds a message."""
        return self.contains in content.msg.casefold() and (not self.fields or self._has_fields(content.fields))

    def _has_fields(self, fields: str) -> bool:
        values = fields_of(fields)
        return all(name in values and as_text(values[name]).casefold() == value for name, value in self.fields)


def fields_of(fields: str) -> dict[str, str | int | float | bool]:
    """The fields of a message, decoded; {} for "", and for what a broken peer may have sent."""
    try:
        found = json.loads(fields) if fields else {}
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def as_text(value: str | float | bool) -> str:
    """The value of a field as text: a number or a boolean in the form of JSON."""
    return value if isinstance(value, str) else json.dumps(value)


@functools.lru_cache(maxsize=16)
def matcher(search: Search) -> Matcher:
    """The matcher of a search; that of the same search is made once."""
    return Matcher(search)
