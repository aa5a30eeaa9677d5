"""Many runs of the simulator, and mutants that show that it finds what is broken."""

import re
from collections.abc import Iterator

import pytest
from coverage import Coverage

from tests.simulation.faults import run
from tests.simulation.mutants import MUTANTS, Mutant
from tests.support.processes import run_program

SEEDS = 200  # `make simulate` runs thousands


@pytest.fixture(autouse=True, scope="module")
def _unmeasured() -> Iterator[None]:
    """Run without coverage, which takes two thirds of the CPU time."""
    measuring = Coverage.current()
    if measuring:
        measuring.stop()
    yield
    if measuring:
        measuring.start()


@pytest.mark.timeout(600)  # 25 s by itself on two cores
def test_no_seed_breaks_a_promise() -> None:
    """Processes die, hang and stand still, networks split, disks fill up and are lost: no promise is broken.

    A seed that fails is named; `make simulate FIRST=seed SEEDS=1` replays it.
    """
    ended = run_program("tests.simulation.run", "--seeds", str(SEEDS), timeout_s=600)
    summary = r"^0 of (\d+) runs broke a promise; (\d+) writes acknowledged, (\d+) whole reads"
    counts = re.search(summary, ended.stdout, re.M)

    assert counts, ended.stdout + ended.stderr
    seeds, acknowledged, reads = map(int, counts.groups())
    assert seeds == SEEDS
    assert acknowledged > 100 * SEEDS
    assert reads > 50 * SEEDS


def test_a_seed_replays_exactly() -> None:
    """Two runs of one seed are the same to the last write."""
    assert run(7) == run(7)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_is_found(mutant: Mutant) -> None:
    """A core, registry or disk that breaks one rule breaks a promise in a run that is whole without that."""
    assert not mutant.is_found(apply=False)
    assert mutant.is_found(apply=True)
