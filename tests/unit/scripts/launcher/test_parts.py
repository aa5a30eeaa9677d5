"""Tests of scripts.launcher.parts."""

import pytest

from common.protocol.messages import State
from scripts.launcher.parts import Part, PartStatus

PART = Part("logging-1", "n:1", ("nodes", "logging"))


@pytest.mark.parametrize("state", ["", *State])
def test_only_a_part_that_says_so_is_ready(state: str) -> None:
    """A process that runs, but does not answer, or has another state, cannot serve yet."""
    assert (state == "ready") == PartStatus(PART, 1, state, 0).ready
