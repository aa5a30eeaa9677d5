"""Many runs of the simulator, and mutants that show that it finds what is broken."""

import pytest

from tests.simulation.faults import run
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import run_all

SEEDS = 200  # `make simulate` runs thousands


@pytest.mark.timeout(600)  # 90 s by itself; beside other work it took over 180
def test_no_seed_breaks_a_promise() -> None:
    """Processes die, hang and stand still, networks split, disks fill up and are lost: no promise is broken.

    A seed that fails is named; `make simulate FIRST=seed SEEDS=1` replays it.
    """
    results = run_all(0, SEEDS)

    assert {} == {result.seed: (result.problems, result.faults) for result in results if result.problems}
    assert sum(result.acknowledged for result in results) > 100 * SEEDS
    assert sum(result.reads for result in results) > 50 * SEEDS


def test_a_seed_replays_exactly() -> None:
    """Two runs of one seed are the same to the last write."""
    assert run(7) == run(7)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_is_found(mutant: Mutant) -> None:
    """A core, registry or disk that breaks one rule breaks a promise in a run that is whole without that."""
    assert not mutant.is_found(apply=False)
    assert mutant.is_found(apply=True)
