"""Lookup of a name at the registries: they are asked one after the other until one answers. Without I/O."""

import enum
from collections.abc import Awaitable, Callable, Container, Generator, Sequence
from typing import NamedTuple

from common.errors import PeerError, RefusedError, UnavailableError
from common.protocol.messages import Code, LookupResult

ANSWER_S = 0.5  # timeout of any request to one registry; then the next registry is asked

AskRegistry = Callable[[str], LookupResult]  # asks the registry at an address; raises PeerError


class LookupOutcome(enum.StrEnum):
    """How a lookup ended."""

    ANSWERED = "answered"
    STALE = "stale"  # no registry answered; the last good answer was used
    FAILED = "failed"  # no registry could answer, and no earlier answer can be used


class Found(NamedTuple):
    """The values that are registered under a name, and how the lookup ended."""

    values: tuple[str, ...]
    outcome: LookupOutcome


class RegistryLookup:
    """Decides which registry to ask next, and keeps the last good answer for each name.

    Args:
        registries: host:port of each registry, in the order in which they are asked.
    """

    def __init__(self, registries: Sequence[str]) -> None:
        self._registries = tuple(registries)
        self._last: dict[str, tuple[str, ...]] = {}

    def steps(self, name: str, suspects: Container[str] = ()) -> Generator[str, LookupResult | PeerError, Found]:
        """Yield each registry to ask; the caller sends back its answer or the error. Returns the result of the lookup.

        Registries in `suspects` are skipped if there is an earlier answer, so that a hung registry does not delay every
        request. A registry that has just started does not have the in-sync set yet. If no registry answers and one
        has just started, the result is empty: an earlier answer may contain a replica that has been fenced since.

        Raises:
            UnavailableError: no registry answered, and there is no earlier answer.
        """
        failure: PeerError | None = None
        starting = False
        for registry in self._registries:
            if registry in suspects and name in self._last:
                continue
            answer = yield registry
            if isinstance(answer, LookupResult):
                self._last[name] = answer.values
                return Found(answer.values, LookupOutcome.ANSWERED)
            failure = answer
            starting = starting or (isinstance(answer, RefusedError) and answer.code == Code.STARTING)
        if starting:
            return Found((), LookupOutcome.FAILED)
        if name in self._last:
            return Found(self._last[name], LookupOutcome.STALE)
        raise UnavailableError(name, f"no registry answers ({failure})") from failure


def run(steps: Generator[str, LookupResult | PeerError, Found], ask: AskRegistry) -> Found:
    """Run the steps of a lookup with blocking calls; raises UnavailableError."""
    try:
        registry = next(steps)
        while True:
            try:
                answer: LookupResult | PeerError = ask(registry)
            except PeerError as error:
                answer = error
            registry = steps.send(answer)
    except StopIteration as end:
        found: Found = end.value
        return found


async def run_async(
    steps: Generator[str, LookupResult | PeerError, Found], ask: Callable[[str], Awaitable[LookupResult]]
) -> Found:
    """Run the steps of a lookup in an event loop; raises UnavailableError."""
    try:
        registry = next(steps)
        while True:
            try:
                answer: LookupResult | PeerError = await ask(registry)
            except PeerError as error:
                answer = error
            registry = steps.send(answer)
    except StopIteration as end:
        found: Found = end.value
        return found
