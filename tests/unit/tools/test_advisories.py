"""Tests of tests.tools.advisories and common.versions: what has known holes is told, and does not start."""

import json

import pytest

from common.errors import FatalError
from common.security.versions import FLOORS, Floor, refuse_known_bad
from tests.tools import advisories


def test_holes_and_what_was_not_asked_are_told_apart() -> None:
    """A package without an answer is neither good nor bad."""
    said = {
        "dependencies": [
            {"name": "good", "version": "1", "vulns": []},
            {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]},
            {"name": "away", "skip_reason": "no answer"},
        ]
    }

    assert advisories.Found(2, ("away: no answer",), ("bad 2: CVE-1, fixed in 3",)) == advisories.read(json.dumps(said))


@pytest.mark.parametrize("output", ["", "Traceback: no network", "[]", "{}", '{"x": []}'])
def test_an_audit_that_could_not_begin_is_told(output: str) -> None:
    """It counts as nothing checked."""
    found = advisories.read(output)

    assert (0, 1, ()) == (found.checked, len(found.unknown), found.holes)


def test_the_libraries_here_are_good() -> None:
    """So every process of ours starts."""
    refuse_known_bad("4.3.5")


@pytest.mark.parametrize("version", ["4.3.2", "4.2", "3", "4.3.2.dev1"])
def test_an_old_libzmq_is_refused(version: str) -> None:
    """The sentence names the advisory and the version that is needed."""
    with pytest.raises(FatalError, match=r"CVE-2020-15166.*4\.3\.3 or newer"):
        refuse_known_bad(version)


def test_a_library_below_its_floor_is_refused() -> None:
    """Whatever it is; one at its floor is good."""
    with pytest.raises(FatalError, match=r"waitress .* is not safe"):
        refuse_known_bad("4.3.5", {"waitress": Floor((99,), "a test")})
    refuse_known_bad("4.3.3", {"libzmq": FLOORS["libzmq"]})
