"""Tests of tests.chaos.torture."""

from tests.support.processes import run_program


def test_an_unknown_fault_is_an_error_that_lists_the_known_ones() -> None:
    """The command exits with 2 before it starts anything."""
    ended = run_program("tests.chaos.torture", "--faults", "kill,earthquake", COLUMNS="160")

    assert 2 == ended.returncode
    assert "unknown fault 'earthquake'; known: kill, kill2, kill3, wipe, pause-node, pause-member, " in ended.stderr
