"""The types of version vectors in messages."""

from typing import Annotated, NamedTuple

from msgspec import Meta

VECTOR_ENTRIES = (
    10_000  # limit on the incarnations in a version vector, one for each start of a node; about 150 kB in a frame
)

Term = Annotated[int, Meta(ge=0)]
Incarnation = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # random and never 0; 63 bits fit SQLite's integers
Sequence = Annotated[int, Meta(ge=0)]


class VectorEntry(NamedTuple):
    """States that a journal has every record of `origin` up to and including number `upto`."""

    origin: Incarnation
    upto: Sequence


Vector = Annotated[tuple[VectorEntry, ...], Meta(max_length=VECTOR_ENTRIES)]
