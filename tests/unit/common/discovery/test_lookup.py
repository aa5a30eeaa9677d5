"""Tests of common.discovery.lookup: which registry is asked, and what counts when none answers."""

import asyncio
from collections.abc import Callable

import pytest

from common.discovery import lookup
from common.discovery.lookup import Found, LookupOutcome, RegistryLookup
from common.errors import PeerError, RefusedError, UnavailableError, UnreachableError
from common.protocol.messages import Code, LookupResult

NAME = "logging-service"
FIRST, SECOND = "r:1", "r:2"
ANSWER = LookupResult(name=NAME, values=("n:1", "n:2"))
GONE = UnreachableError(FIRST, "no connection")


def answering(answers: dict[str, LookupResult | PeerError], asked: list[str]) -> Callable[[str], LookupResult]:
    """Registries with these answers; `asked` gets the address of each request."""

    def ask(registry: str) -> LookupResult:
        asked.append(registry)
        answer = answers[registry]
        if isinstance(answer, PeerError):
            raise answer
        return answer

    return ask


def test_the_first_registry_that_answers_ends_the_lookup() -> None:
    """The next one is asked only after a failure."""
    asked: list[str] = []
    found = lookup.run(
        RegistryLookup([FIRST, SECOND, "r:3"]).steps(NAME), answering({FIRST: GONE, SECOND: ANSWER}, asked)
    )

    assert Found(ANSWER.values, LookupOutcome.ANSWERED) == found
    assert [FIRST, SECOND] == asked


def test_the_last_answer_is_used_when_no_registry_answers() -> None:
    """Without an earlier answer the lookup fails, with the last reason."""
    registries = RegistryLookup([FIRST])
    with pytest.raises(UnavailableError, match=r"no registry answers .*no connection"):
        lookup.run(registries.steps(NAME), answering({FIRST: GONE}, []))
    lookup.run(registries.steps(NAME), answering({FIRST: ANSWER}, []))

    stale = lookup.run(registries.steps(NAME), answering({FIRST: GONE}, []))
    assert Found(ANSWER.values, LookupOutcome.STALE) == stale


def test_no_earlier_answer_is_used_while_a_registry_starts() -> None:
    """It may contain a replica that has been fenced since."""
    registries = RegistryLookup([FIRST, SECOND])
    lookup.run(registries.steps(NAME), answering({FIRST: ANSWER}, []))
    starting = RefusedError(FIRST, "starting", Code.STARTING)

    found = lookup.run(registries.steps(NAME), answering({FIRST: starting, SECOND: GONE}, []))
    assert Found((), LookupOutcome.FAILED) == found


def test_a_suspected_registry_is_asked_only_without_an_earlier_answer() -> None:
    """So that a hung registry does not delay every request."""
    registries, asked = RegistryLookup([FIRST, SECOND]), list[str]()
    ask = answering({FIRST: ANSWER, SECOND: ANSWER}, asked)
    for _ in range(2):
        lookup.run(registries.steps(NAME, suspects={FIRST}), ask)

    assert [FIRST, SECOND] == asked


def test_the_steps_run_in_an_event_loop_too() -> None:
    """The first registry that answers ends the lookup there as well."""
    ask = answering({FIRST: GONE, SECOND: ANSWER}, [])

    async def ask_async(registry: str) -> LookupResult:
        return ask(registry)

    found = asyncio.run(lookup.run_async(RegistryLookup([FIRST, SECOND]).steps(NAME), ask_async))
    assert Found(ANSWER.values, LookupOutcome.ANSWERED) == found
