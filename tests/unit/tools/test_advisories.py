"""Tests of tests.tools.advisories: the known holes of installed packages."""

import json

import pytest

from tests.tools import advisories


def test_packages_with_holes_and_unknown_packages_are_told_apart() -> None:
    """A package about which the service said nothing is neither good nor bad."""
    audit = {
        "dependencies": [
            {"name": "good", "version": "1", "vulns": []},
            {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]},
            {"name": "away", "skip_reason": "no answer"},
        ]
    }

    assert advisories.Found(2, ("away: no answer",), ("bad 2: CVE-1, fixed in 3",)) == advisories.read(
        json.dumps(audit)
    )


@pytest.mark.parametrize("output", ["", "Traceback: no network", "[]", "{}", '{"x": []}'])
def test_an_audit_without_a_result_is_unknown(output: str) -> None:
    """No package counts as checked."""
    found = advisories.read(output)

    assert (0, 1, ()) == (found.checked, len(found.unknown), found.holes)
