"""Tests of common.protocol.admin: the report of a process, and the limits of its fields."""

import psutil
import pytest

from common import VERSION
from common.errors import InvalidMessageError
from common.protocol import codec
from common.protocol.admin import LeaseInfo, Leases, Report, report
from common.protocol.messages import State


def test_a_report_has_the_start_and_the_version_of_this_process() -> None:
    """Unless the caller says otherwise, the state has lasted since the start of the process."""
    started_ms = int(1_000 * psutil.Process().create_time())
    expected = Report(
        service="registry", state=State.READY, version=VERSION, since_ms=started_ms, started_ms=started_ms
    )

    assert expected == report("registry", State.READY)


def test_a_report_has_the_fields_of_its_caller() -> None:
    """They replace the defaults, also the time since which the state has lasted."""
    made = report("logging-service", State.JOINING, since_ms=5, in_sync=("a:1",), reason="this replica was fenced")

    assert (5, ("a:1",), "this replica was fenced") == (made.since_ms, made.in_sync, made.reason)
    assert made.started_ms > made.since_ms


def test_a_time_must_not_be_nan() -> None:
    """Msgpack has NaN, which no comparison accepts or refuses."""
    leases = Leases(leases=(LeaseInfo("x", "a:1", True, True, True, float("nan")),), members=())
    with pytest.raises(InvalidMessageError, match="Expected `float` >= -1"):
        codec.decode_reply(codec.encode(leases))


def test_a_size_may_be_unknown_but_a_count_may_not_be_negative() -> None:
    """The size of a map that has never answered is -1; every process knows its own counts."""
    unknown = Report(service="logging-service", state=State.READY, entries=-1)
    negative = Report(service="logging-service", state=State.READY, messages=-1)

    assert unknown == codec.decode_reply(codec.encode(unknown))
    with pytest.raises(InvalidMessageError, match=r"Expected `int` >= 0 - at `\$\.messages`"):
        codec.decode_reply(codec.encode(negative))
