"""Tests of common.telemetry.request_context."""

import re

import pytest

from common.telemetry import request_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_valid_headers_become_the_context() -> None:
    """The trace goes on with a new span, and its flags are kept."""
    context = request_context.from_headers("order-7", f"00-{TRACE}-{SPAN}-01")

    assert "order-7" == context.request_id
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", context.traceparent)
    assert SPAN not in context.traceparent


@pytest.mark.parametrize("request_id", [None, "", "two words", "x" * 129, 'a"b', "é", "a\nb"])
@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
    ],
)
def test_missing_or_invalid_headers_are_replaced(request_id: str | None, traceparent: str | None) -> None:
    """A request is never refused for these headers: it gets a new trace, and the id of that trace."""
    context = request_context.from_headers(request_id, traceparent)

    assert re.fullmatch(request_context.TRACEPARENT, context.traceparent)
    assert context.request_id == context.traceparent[3:35] != TRACE
    assert request_context.from_headers(None, None) != context


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "kept"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1,other=x y", "vendor=1,other=x y"),
        (f"00-{'a' * 32}-{'b' * 16}-01", "x" * 513, ""),
        (f"00-{'a' * 32}-{'b' * 16}-01", "x\ny", ""),
        (None, "vendor=1", ""),
    ],
)
def test_a_tracestate_goes_on_with_its_trace(traceparent: str | None, tracestate: str, kept: str) -> None:
    """It is dropped without a valid traceparent, and if it is too long (W3C Trace Context); no log line has it."""
    context = request_context.from_headers("id", traceparent, tracestate)

    assert kept == context.tracestate
    assert {"request_id", "traceparent"} == context.fields().keys()
