"""Who is told what a store does: `nodes.metrics`, or nobody."""

from collections.abc import Callable
from dataclasses import dataclass


def _nobody(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Observers:
    """Called from the thread that did it; each must be quick.

    Attributes:
        committed: a commit of the journal, with its flush to the disk, took so many seconds.
        mapped: the map took messages, in so many seconds.
        unmapped: the map did not take messages in time.
    """

    committed: Callable[[float], object] = _nobody
    mapped: Callable[[float], object] = _nobody
    unmapped: Callable[[], object] = _nobody


NOBODY = Observers()
