"""Tests of scripts.client.output."""

import json
from typing import Any

import pytest

from scripts.client import output

NODE: dict[str, Any] = {
    "address": "n:1",
    "state": "ready",
    "in_sync": ["n:1", "n:2"],
    "term": 3,
    "served": 50,
    "errors": 0,
    "p50_ms": 1.5,
    "p99_ms": None,
}
CLUSTER = {"safe": True, "reason": "any two nodes may die", "logging_nodes": [NODE]}


def test_the_state_of_a_cluster_is_a_sentence_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Lists are shown by their length, and what is unknown is empty."""
    output.cluster(CLUSTER, "table")

    assert [
        "safe: any two nodes may die",
        "address\tstate\tin_sync\tterm\tserved\terrors\tp50_ms\tp99_ms",
        "n:1\tready\t2\t3\t50\t0\t1.5\t",
    ] == capsys.readouterr().out.splitlines()


def test_top_shows_requests_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    """From the counts at two moments; a node that is new counts from 0."""
    new = NODE | {"address": "n:2", "served": 4}
    output.top(CLUSTER, CLUSTER | {"logging_nodes": [NODE | {"served": 60}, new]}, 2.0, "ndjson", None)

    shown = json.loads(capsys.readouterr().out)
    assert {"n:1": 5.0, "n:2": 2.0} == {node["address"]: node["rate"] for node in shown["logging_nodes"]}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", '[{"id": "1", "time": "t", "msg": "é"}]\n'),
        ("ndjson", '{"id": "1", "time": "t", "msg": "é"}\n'),
        ("table", "t  é\n"),
    ],
)
def test_messages_are_printed_in_each_form(
    capsys: pytest.CaptureFixture[str], form: output.Format, expected: str
) -> None:
    """As an array, as an object per line, or for people."""
    output.messages(iter([{"id": "1", "time": "t", "msg": "é"}]), form)

    assert expected == capsys.readouterr().out


def test_a_message_that_is_not_stored_is_named_by_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, counted from 1; the ids of the others are on stdout."""
    results: list[dict[str, Any]] = [{"id": "1"}, {"index": 1, "message": "too long"}]
    output.results(results, "table")
    printed = capsys.readouterr()

    assert ("1\n", "message 2 is not stored: too long\n") == (printed.out, printed.err)
