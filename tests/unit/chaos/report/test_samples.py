"""Tests of tests.chaos.report.samples: what processes use, and how it grows."""

import os
import subprocess
import sys

import psutil
import pytest

from tests.chaos.report.samples import Growth, Reading, Sample, growths, readings, tenths


def test_a_process_that_vanishes_before_it_is_measured_is_left_out() -> None:
    """A process that ends between the listing and the measurement has no reading, and the others have one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ended = psutil.Process(child.pid)
        child.kill()
    found = readings([("ended", ended), ("this", psutil.Process())])

    assert ["this"] == list(found)
    assert psutil.Process().pid == found["this"].pid
    assert min(found["this"].memory_mb, found["this"].descriptors, found["this"].threads) > 0


def test_a_zombie_is_left_out() -> None:
    """A zombie uses no memory, and has no reading."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = psutil.Process(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert {} == readings([("ended", found)])


def sample_of(minute: float, **memory: tuple[int, float]) -> Sample:
    """A sample of parts with a pid and a memory each."""
    return Sample(minute, {name: Reading(pid, mb, 10, 5) for name, (pid, mb) in memory.items()}, {}, {})


def test_growth_compares_the_last_tenth_with_the_second() -> None:
    """What a process needs during its start, and single peaks, do not count as growth."""
    values = [1.0] * 10 + [20.0] * 9 + [500.0] + [30.0] * 70 + [40.0] * 9 + [9_000.0]

    assert (20.0, 40.0) == tenths(values)
    assert 2.0 == Growth("facade", "memory_mb", 60.0, *tenths(values)).ratio


def test_growth_by_half_in_a_long_run_is_a_leak() -> None:
    """Growth does not count as a leak in a process that has run for a short time only."""
    assert Growth("facade", "memory_mb", 20.0, 60.0, 91.0).leaks
    assert not Growth("facade", "memory_mb", 60.0, 60.0, 90.0).leaks
    assert not Growth("logging-1", "memory_mb", 19.0, 60.0, 200.0).leaks


@pytest.mark.parametrize(
    ("values", "expected"), [([7.0], (7.0, 7.0)), ([7.0, 9.0], (9.0, 9.0)), ([1.0, 2.0, 4.0], (2.0, 4.0))]
)
def test_growth_is_known_after_one_sample(values: list[float], expected: tuple[float, float]) -> None:
    """A part that was started a moment ago has a figure, too."""
    assert expected == tenths(values)


def test_growth_begins_at_the_last_restart() -> None:
    """Only the last process of a part counts, and a part that does not run at the end has no figure."""
    samples = [
        sample_of(0, node=(1, 900.0), facade=(7, 50.0), closed=(9, 1.0)),
        sample_of(1, facade=(7, 50.0)),
        sample_of(2, node=(2, 10.0), facade=(7, 50.0)),
        sample_of(3, node=(2, 10.0), facade=(7, 50.0)),
        sample_of(4, node=(2, 15.0), facade=(7, 50.0)),
    ]
    memory = [one for one in growths(samples) if one.what == "memory_mb"]

    assert [Growth("node", "memory_mb", 2, 10.0, 15.0), Growth("facade", "memory_mb", 4, 50.0, 50.0)] == memory
    assert [1.5, 1.0] == [one.ratio for one in memory]
    assert [] == growths([])
