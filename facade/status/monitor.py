"""Looks at the cluster again and again, and remembers what changed."""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from facade.server.scheduler import Event
from facade.status.events import changes
from facade.status.fresh import FRESH_S, Fresh
from facade.status.survey import Survey
from facade.status.view import ClusterView, EventView

log = structlog.get_logger()

EVENTS = 200  # that are remembered
LOOK_S = 1.0  # between two looks when nobody asks

# What differs in each look although nothing has changed: an entity tag is not made of it.
_RESTLESS = ("time", "round_trip_ms", "lease_age_s", "traffic")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen, and its entity tag: it is the same as long as nothing has changed but times of answers."""

    view: ClusterView
    etag: str


class Watch:
    """Shared by the requests of a facade.

    Args:
        survey: looks.
        clock: seconds from any start.
    """

    def __init__(self, survey: Survey, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._survey = survey
        self.traffic = survey.traffic
        self._events: deque[EventView] = deque(maxlen=EVENTS)
        self._last: ClusterView | None = None
        self._looks = Fresh(survey.scheduler, self._again, clock=clock)

    def look(self, *, fresh_s: float = FRESH_S) -> Look:
        """How the cluster is, not older than so many seconds."""
        return self._looks.get(fresh_s=fresh_s)

    def run(self, stop: Event) -> None:
        """Look until `stop` is set; for a greenlet of its own."""
        while not stop.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("looking at the cluster broke")  # a defect of ours; without this nobody would look again

    def _again(self) -> Look:
        found = self._survey.take()
        if self._last:
            self._events.extendleft(changes(self._last, found))
        self._last = found
        view = msgspec.structs.replace(found, events=list(self._events))
        return Look(view, _etag(view))


def _etag(view: ClusterView) -> str:
    calm = msgspec.json.encode(_calm(msgspec.to_builtins(view)))
    return hashlib.sha256(calm).hexdigest()[:32]


def _calm(value: object) -> object:
    """The same without what is restless; the events keep their times."""
    match value:
        case dict():
            restless = () if "kind" in value else _RESTLESS
            return {name: _calm(item) for name, item in value.items() if name not in restless}
        case list():
            return [_calm(item) for item in value]
        case _:
            return value
