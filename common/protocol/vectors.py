"""Version vectors as messages carry them."""

from typing import Annotated, NamedTuple

from msgspec import Meta

VECTOR_ENTRIES = 10_000  # incarnations in one version vector: each start of a node adds one; about 150 kB as a frame

Term = Annotated[int, Meta(ge=0)]
Incarnation = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # random and never 0; 63 bits fit SQLite's integers
Sequence = Annotated[int, Meta(ge=0)]


class VectorEntry(NamedTuple):
    """Up to `upto`, a journal has every record of the origin."""

    origin: Incarnation
    upto: Sequence


Vector = Annotated[tuple[VectorEntry, ...], Meta(max_length=VECTOR_ENTRIES)]
