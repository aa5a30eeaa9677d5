"""Tests of common.errors: the tree of errors, and the facts that they carry."""

import re
from collections.abc import Iterator

import pytest

from common import errors
from common.errors import (
    DisconnectedError,
    FailedError,
    OutcomeUnknownError,
    PeerError,
    RefusedError,
    ThreefoldError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
)
from common.protocol.messages import Code
from nodes.storage.database import UnusableError
from scripts.client.connection import HttpStatusError
from scripts.client.facades import ApiError

INDENT = 4  # columns for each level of the drawn tree


def drawn_parents() -> Iterator[tuple[str, str]]:
    """Each error in the tree at the top of the module, except its root, and the error above it."""
    path: list[str] = []
    for line in str(errors.__doc__).splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error)\b", line):
            del path[len(found[1]) // INDENT :]
            if path:
                yield found[2], path[-1]
            path.append(found[2])


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    """The tree at the top of the module has every error, each below the class that it extends."""
    classes = [one for one in vars(errors).values() if isinstance(one, type) and one is not ThreefoldError]
    elsewhere = (UnusableError, ApiError, HttpStatusError)

    assert {one.__name__: one.__base__.__name__ for one in (*classes, *elsewhere) if one.__base__} == dict(
        drawn_parents()
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnreachableError("a:1", "no connection"), "unreachable"),
        (TimedOutError("a:1", "no reply in 1 s"), "timedout"),
        (DisconnectedError("a:1", "the connection was closed"), "disconnected"),
        (FailedError("a:1", "failed: a full disk"), "failed"),
        (RefusedError("a:1", "behind: 3 records", Code.BEHIND), "behind"),
        (RefusedError("a:1", "starting: not yet", Code.STARTING), "starting"),
    ],
)
def test_a_failed_attempt_has_a_kind_for_metrics(error: PeerError, kind: str) -> None:
    """It is the name of the error, or the code of a refusal; never the text, which would make labels without end."""
    assert kind == error.kind


def test_an_error_says_where_and_why() -> None:
    """The text names the address or the service; both facts are attributes, too."""
    failed, unavailable = UnreachableError("a:1", "no connection"), UnavailableError("logging-service", "no node")

    assert ("a:1: no connection", "a:1", "no connection") == (str(failed), failed.address, failed.reason)
    assert "logging-service is not available: no node" == str(unavailable)
    assert ("logging-service", "no node") == (unavailable.service, unavailable.reason)


def test_an_unknown_outcome_is_not_reported_as_a_failure() -> None:
    """The client learns the id under which the message may be stored; the error is not one of "nothing was done"."""
    unknown = OutcomeUnknownError("018bcfe5-687b-7fff-bfff-ffffffffffff", "a:1: no reply in 1 s")

    assert "018bcfe5-687b-7fff-bfff-ffffffffffff" == unknown.message_id
    assert "it may still be stored: a:1: no reply in 1 s" in str(unknown)
    assert not isinstance(unknown, UnavailableError)
