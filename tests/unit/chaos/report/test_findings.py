"""Tests of tests.chaos.report.findings: the figures of a soak, and the contents of its plot."""

from dataclasses import replace

from tests.chaos.checker import FullRead, Write, WriteOutcome, check
from tests.chaos.report.findings import FaultEvent, Findings, drawn, longest, rates
from tests.chaos.report.samples import Growth, Reading, Sample

EVENTS = [
    FaultEvent("kill", 1.0, 1.2, 1.3, 200.0, 80.0),
    FaultEvent("stop", 2.0, 2.1, 2.2, 30.0, 20.0),
    FaultEvent("kill", 3.0, 3.2, 3.3, 150.0, 90.0),
]


def sample(minute: float, pid: int) -> Sample:
    """A sample of a node with this pid, of its member, and of the facade."""
    parts = {"facade": Reading(7, 50.0, 60, 64), "logging-1": Reading(pid, 60.0, 40, 9)}
    member = {"member-1": Reading(pid + 100, 300.0, 30, 60)}
    return Sample(minute, parts | member, {"logging-1": minute}, {"facade": 0.1, "logging-1": 0.2})


FOUND = Findings(
    seed=1,
    minutes=4.0,
    every_s=60.0,
    rate=100.0,
    events=EVENTS,
    put_off=0,
    failures=[],
    errors=0,
    first_errors=[],
    reads=10,
    looks=100,
    outage_ms={},
    read_outage_ms={},
    growths=[],
    posts=[(1.0, 100.0), (2.0, 90.0)],
    samples=[sample(0.5, 11), sample(1.5, 12), sample(2.5, 12)],
)


def test_the_longest_outage_of_each_kind_of_fault_is_found() -> None:
    """Of several faults of one kind the longest outage counts."""
    assert {"kill": 200.0, "stop": 30.0} == longest(EVENTS, lambda event: event.outage_ms)
    assert {"kill": 90.0, "stop": 20.0} == longest(EVENTS, lambda event: event.read_outage_ms)


def test_the_rate_of_posts_is_given_for_each_five_seconds() -> None:
    """An interval without posts has a rate of zero, and one that is not over yet is left out."""
    times_min = [at_s / 60 for at_s in (0.0, 1.0, 4.9, 10.0, 14.0, 15.1)]
    found = [(round(60 * minute, 3), rate) for minute, rate in rates(times_min, 16 / 60)]

    assert [(2.5, 0.6), (7.5, 0.0), (12.5, 0.4)] == found


def test_the_plot_has_every_series_every_fault_and_every_restart() -> None:
    """Members have a panel of memory of their own, and each restart is a dot in each panel of a process."""
    picture = drawn(FOUND)
    labels = ("memory, MB", "memory of members, MB", "open descriptors", "threads", "journals, MB", "logs, MB")

    assert all(f">{label}</text>" in picture for label in (*labels, "acknowledged posts a second", "minutes"))
    assert {"facade": 4, "logging-1": 5, "member-1": 3, "posts": 1, "kill": 2, "stop": 1} == {
        name: picture.count(f">{name}</text>") for name in ("facade", "logging-1", "member-1", "posts", "kill", "stop")
    }
    assert 6 == picture.count("<circle")  # the node and its member: memory, descriptors, threads


def test_every_kind_of_failure_is_a_violation() -> None:
    """The checker's counts, differing nodes, client errors, failed recoveries and leaks are added up."""
    writes = [Write("w-0 payload", 0.0, 1.0, WriteOutcome.OK), Write("w-1 payload", 1.0, 2.0, WriteOutcome.OK)]
    lost = check(writes, [FullRead(["w-0 payload"], 3.0, 4.0)])

    leak = Growth("facade", "threads", 60.0, 64.0, 128.0)

    assert [0, 1, 2, 3, 1, 1] == [
        FOUND.violations,
        replace(FOUND, verdict=lost).violations,
        replace(FOUND, differing=2).violations,
        replace(FOUND, errors=3).violations,
        replace(FOUND, failures=["it did not heal"]).violations,
        replace(FOUND, growths=[leak, replace(leak, after=65.0)]).violations,
    ]
