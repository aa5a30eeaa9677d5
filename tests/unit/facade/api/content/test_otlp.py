"""Tests of facade.api.content.otlp, and of what an exporter gets from a facade in memory."""

import json
from typing import Any

import pytest
from falcon import testing
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from common.config import Limits
from common.errors import MediaTypeError, RequestError, TooLargeError
from facade.api.content import otlp
from facade.api.content.draft import Draft
from tests.support.facade import NODES, MemorySystem

NS = 1_795_507_200_123_456_789
RECORD: dict[str, Any] = {
    "timeUnixNano": str(NS),
    "severityNumber": 17,
    "severityText": "ERROR",
    "body": {"stringValue": "disk full"},
    "attributes": [
        {"key": "http.status", "value": {"intValue": "500"}},
        {"key": "ok", "value": {"boolValue": False}},
        {"key": "load", "value": {"doubleValue": 0.5}},
        {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 1}]}}},
        {"key": "k8s", "value": {"kvlistValue": {"values": [{"key": "pod", "value": {"stringValue": "p"}}]}}},
        {"key": "raw", "value": {"bytesValue": "AAE="}},
        {"key": "severity", "value": {"stringValue": "mine"}},
        {"key": "empty", "value": {}},
        {"key": "", "value": {"doubleValue": "NaN"}},
        {"key": "scope", "value": {"stringValue": "mine"}},
    ],
    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    "spanId": "00f067aa0ba902b7",
}


def request(*records: dict[str, Any]) -> dict[str, Any]:
    """An OTLP request in JSON."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    scope_logs = [{"scope": {"name": "cart"}, "logRecords": list(records)}]
    return {"resourceLogs": [{"resource": resource, "scopeLogs": scope_logs}], "unknown": 1}


def drafts(*records: dict[str, Any], limits: Limits | None = None) -> list[Draft | RequestError]:
    """What becomes of log records."""
    return otlp.drafts(otlp.JSON, json.dumps(request(*records)).encode(), limits or Limits())


def test_a_log_record_becomes_a_message() -> None:
    """It keeps its time, severity, trace, attributes and resource, each under a name by which it can be searched."""
    (draft,) = drafts(RECORD)

    assert isinstance(draft, Draft)
    assert ("disk full", NS) == (draft.msg, draft.made_ns)
    assert {
        "severity": "ERROR",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "http.status": 500,
        "ok": False,
        "load": 0.5,
        "tags": '["a",1]',
        "k8s.pod": "p",
        "raw": "AAE=",
        "attributes.severity": "mine",
        "attributes.scope": "mine",
        "unnamed": "nan",
        "resource.service.name": "shop",
        "scope": "cart",
    } == json.loads(draft.fields)


def test_protobuf_and_json_are_the_same() -> None:
    """Exporters send either; a charset or another parameter does not matter."""
    found = ExportLogsServiceRequest()
    (record,) = (found.resource_logs.add().scope_logs.add().log_records.add(),)
    record.body.string_value, record.time_unix_nano = "disk full", NS
    record.trace_id = bytes.fromhex(RECORD["traceId"])
    in_json = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{**RECORD, "severityNumber": 0}]}]}]}
    for name in ("attributes", "spanId", "severityText"):
        del in_json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0][name]

    expected = otlp.drafts("application/x-protobuf", found.SerializeToString(), Limits())
    assert expected == otlp.drafts("application/json; charset=utf-8", json.dumps(in_json).encode(), Limits())


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"body": {"intValue": "5"}}, "5"),
        ({"body": {"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}]}}}, '{"a":true}'),
        ({"eventName": "started"}, "started"),
    ],
)
def test_a_record_without_a_text_has_another_one(record: dict[str, Any], text: str) -> None:
    """A structured body is JSON; an event without a body has its name."""
    (draft,) = drafts(record)

    assert isinstance(draft, Draft)
    assert (text, None) == (draft.msg, draft.made_ns)


@pytest.mark.parametrize(
    ("number", "severity"), [(0, None), (1, "TRACE"), (4, "TRACE"), (9, "INFO"), (24, "FATAL"), (25, None)]
)
def test_a_severity_without_a_text_has_the_name_of_its_range(number: int, severity: str | None) -> None:
    """Four numbers have one name."""
    (draft,) = drafts({"body": {"stringValue": "a"}, "severityNumber": number})

    assert isinstance(draft, Draft)
    assert severity == json.loads(draft.fields).get("severity")


@pytest.mark.parametrize(
    ("content_type", "body", "error", "reason"),
    [
        (None, b"", MediaTypeError, "Content-Type must be application/x-protobuf or application/json, not missing"),
        ("text/plain", b"a", MediaTypeError, "not text/plain"),
        (otlp.JSON, b"{", RequestError, "the body is not an OTLP request for logs"),
        (otlp.JSON, b"[]", RequestError, "the request of OTLP must have JSON objects, not an array"),
        (
            otlp.JSON,
            b'{"resourceLogs": ["AAA"]}',
            RequestError,
            "resourceLogs of OTLP must have JSON objects, not a string",
        ),
        (
            otlp.JSON,
            b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [5]}]}]}',
            RequestError,
            "logRecords of OTLP must have JSON objects, not a number",
        ),
        (otlp.JSON, b"null", RequestError, "must have JSON objects, not null"),
        (otlp.JSON, b'{"resourceLogs": 5}', RequestError, "the body is not an OTLP request for logs"),
        (otlp.JSON, b"[" * 100_000, RequestError, "the body is not an OTLP request for logs"),
        (otlp.JSON, json.dumps(request({"traceId": "xyz"})).encode(), RequestError, "non-hexadecimal"),
        (otlp.JSON, b'{"\\ud800": 5}', RequestError, "the body is not an OTLP request for logs"),
        (otlp.JSON, json.dumps(request({"severityNumber": 1e999})).encode(), RequestError, "not an OTLP request"),
        (otlp.PROTOBUF, b"\xff\xff", RequestError, "the body is not an OTLP request for logs"),
    ],
)
def test_another_body_is_refused(content_type: str | None, body: bytes, error: type[Exception], reason: str) -> None:
    """With one sentence."""
    with pytest.raises(error, match=reason):
        otlp.drafts(content_type, body, Limits())


def test_a_record_that_is_not_valid_does_not_keep_the_others_out() -> None:
    """It has an error of its own; too many records are an error of the request."""
    good: dict[str, Any] = {"body": {"stringValue": "a"}}
    bad: dict[str, Any] = {"attributes": []}
    nested: dict[str, Any] = {"stringValue": "x"}
    for _ in range(40):
        nested = {"arrayValue": {"values": [nested]}}
    first, second, third = drafts(good, bad, {"body": nested})

    assert isinstance(first, Draft)
    assert ["No message provided", "a value is nested deeper than 32"] == [str(second), str(third)]
    with pytest.raises(TooLargeError, match="a request has at most 2 log records"):
        drafts(good, good, good, limits=Limits(batch_messages=2))


def test_an_exporter_learns_what_was_not_stored(http: testing.TestClient) -> None:
    """The status is 200, as OTLP has it: it must not send the others again."""
    body = json.dumps(request({"body": {"stringValue": "a"}}, {"body": {"stringValue": "x" * 70_000}}))
    posted = http.simulate_post("/v1/logs", body=body, content_type=otlp.JSON)

    assert (200, NODES[0]) == (posted.status_code, posted.headers["x-logging-node"])
    assert "1" == posted.json["partialSuccess"]["rejectedLogRecords"]
    assert "record 1: msg has 70000 bytes" in posted.json["partialSuccess"]["errorMessage"]
    assert ["a"] == http.simulate_get("/facade").json["logs"]


def test_an_exporter_of_protobuf_gets_protobuf(http: testing.TestClient) -> None:
    """Without anything to report, the message is empty."""
    found = ExportLogsServiceRequest()
    found.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "a"
    posted = http.simulate_post("/v1/logs", body=found.SerializeToString(), content_type=otlp.PROTOBUF)

    assert (200, otlp.PROTOBUF) == (posted.status_code, posted.headers["content-type"])
    assert not ExportLogsServiceResponse.FromString(posted.content).HasField("partial_success")
    assert ["a"] == http.simulate_get("/facade").json["logs"]


def test_an_exporter_tries_again_when_no_node_confirmed(system: MemorySystem, http: testing.TestClient) -> None:
    """503 is what exporters retry."""
    for node in NODES:
        system.transport.cut(node)
    posted = http.simulate_post("/v1/logs", json=request({"body": {"stringValue": "a"}}))

    assert (503, "1") == (posted.status_code, posted.headers["retry-after"])
