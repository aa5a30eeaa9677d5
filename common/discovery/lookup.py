"""Looking a name up at the registries: one question after the other, until a registry answers. No I/O."""

import enum
from collections.abc import Awaitable, Callable, Container, Generator, Sequence
from typing import NamedTuple

from common.errors import PeerError, RefusedError, UnavailableError
from common.protocol.messages import Code, LookupResult

ANSWER_S = 0.5  # for the answer of one registry, to whatever it is asked; then the next one is asked

AskRegistry = Callable[[str], LookupResult]  # asks the registry at an address; raises PeerError


class LookupOutcome(enum.StrEnum):
    """How a lookup ended."""

    ANSWERED = "answered"
    STALE = "stale"  # no registry answered; the last good answer was used
    FAILED = "failed"  # no registry answered, and there was no earlier answer


class Found(NamedTuple):
    """What is registered under a name, and where that is known from."""

    values: tuple[str, ...]
    outcome: LookupOutcome


class RegistryLookup:
    """Decides which registry is asked next, and remembers the last good answer for each name.

    Args:
        registries: host:port of each registry, in the order in which they are asked.
    """

    def __init__(self, registries: Sequence[str]) -> None:
        self._registries = tuple(registries)
        self._last: dict[str, tuple[str, ...]] = {}

    def steps(self, name: str, suspects: Container[str] = ()) -> Generator[str, LookupResult | PeerError, Found]:
        """Yield the registry to ask; the caller sends back its answer, or the error. Returns what was found.

        Suspected registries are skipped if there is an earlier answer, so that a hung registry does not delay each
        request. A registry that has just started does not know yet who is in sync. If there are only such registries,
        nobody is found: an earlier answer may name a replica that was fenced since.

        Raises:
            UnavailableError: no registry answered, and none has answered before.
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
    """Carry out the steps of a lookup; raises UnavailableError."""
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
    """Carry out the steps of a lookup in an event loop; raises UnavailableError."""
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
