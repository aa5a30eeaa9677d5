"""Log records of OpenTelemetry (OTLP over HTTP): drafts from requests, and responses. Pure.

A record becomes a message: its body is the text, its time that of the id, and everything else is fields. Attributes
keep their names, those of the resource begin with `resource.`.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from common.config import Limits
from common.errors import MediaTypeError, RequestError, TooLargeError
from facade.api.content.charset import type_and_charset
from facade.api.content.draft import Draft, checked_text, fields_text, flat, json_type

JSON, PROTOBUF = "application/json", "application/x-protobuf"
DEPTH = 32  # limit on values within values

_LISTS = (("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs"), ("logRecords", "log_records"), ("", ""))
_SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")  # four numbers each, from 1 on
_IDS = ("traceId", "spanId", "trace_id", "span_id")  # in hexadecimal digits in JSON, unlike other bytes
# What json and json_format raise besides ParseError: of half a character, protobuf makes a SystemError, and of Infinity
# for a whole number an OverflowError.
_JSON_ERRORS = (ValueError, RecursionError, SystemError, OverflowError)


def drafts(content_type: str | None, body: bytes, limits: Limits) -> list[Draft | RequestError]:
    """The message of each log record of a request, or why it is not valid.

    Raises:
        MediaTypeError: the Content-Type is neither protobuf nor JSON.
        RequestError: the body is not a request; TooLargeError: it has too many records.
    """
    request = _request(content_type, body)
    found: list[Draft | RequestError] = []
    for record, context in _records(request):
        if len(found) == limits.batch_messages:
            raise TooLargeError(f"a request has at most {limits.batch_messages} log records")
        try:
            found.append(_draft(record, context, limits))
        except RequestError as error:
            found.append(error)
    return found


def response(content_type: str | None, errors: Mapping[int, str]) -> tuple[str, bytes]:
    """The media type and the body of the response to a request of this type.

    Args:
        content_type: of the request.
        errors: why records were not stored, by their places.
    """
    answer = ExportLogsServiceResponse()
    if errors:
        answer.partial_success.rejected_log_records = len(errors)
        place, reason = next(iter(errors.items()))
        answer.partial_success.error_message = f"record {place}: {reason}"
    if type_and_charset(content_type)[0] == JSON:
        return JSON, json_format.MessageToJson(answer, indent=None).encode()
    return PROTOBUF, answer.SerializeToString()


def _request(content_type: str | None, body: bytes) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    try:
        media_type = type_and_charset(content_type)[0]
        if media_type == PROTOBUF:
            request.ParseFromString(body)
        elif media_type == JSON:
            decoded = json.loads(body)
            _check_objects([decoded])
            _decode_ids(decoded)
            json_format.ParseDict(decoded, request, ignore_unknown_fields=True, max_recursion_depth=4 * DEPTH)
        else:
            given = (content_type or "missing")[:100]
            raise MediaTypeError(f"Content-Type must be {PROTOBUF} or {JSON}, not {given}")
    except (DecodeError, json_format.ParseError, *_JSON_ERRORS) as error:
        raise RequestError(f"the body is not an OTLP request for logs: {str(error)[:200]}") from error
    return request


def _check_objects(level: list[Any]) -> None:
    """Raise RequestError unless a request in JSON, and what it lists, are objects: protobuf takes texts for them."""
    of = "the request"
    for name, other in _LISTS:
        if wrong := [one for one in level if not isinstance(one, dict)]:
            raise RequestError(f"{of} of OTLP must have JSON objects, not {json_type(wrong[0])}")
        listed = [owner.get(name, owner.get(other)) for owner in level]
        of = name
        level = [one for many in listed if isinstance(many, list) for one in many]


def _decode_ids(value: Any) -> None:
    """Replace the ids in a request in JSON by what protobuf expects of bytes. Not recursive."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict(members):
                for name in _IDS:
                    if isinstance(members.get(name), str):
                        members[name] = base64.b64encode(bytes.fromhex(members[name])).decode()
                waiting.extend(members.values())
            case list(items):
                waiting.extend(items)


def _records(request: ExportLogsServiceRequest) -> Iterator[tuple[LogRecord, dict[str, object]]]:
    """Each record, and the fields that it shares with others."""
    for of_resource in request.resource_logs:
        resource = {f"resource.{name}": value for name, value in _values(of_resource.resource.attributes).items()}
        for of_scope in of_resource.scope_logs:
            scope = {"scope": of_scope.scope.name} if of_scope.scope.name else {}
            for record in of_scope.log_records:
                yield record, {**resource, **scope}


def _draft(record: LogRecord, context: Mapping[str, object], limits: Limits) -> Draft:
    own = {
        "severity": record.severity_text or _severity(record.severity_number),
        "event": record.event_name,
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
    }
    fields: dict[str, object] = {name: value for name, value in own.items() if value} | dict(context)
    for name, value in _values(record.attributes).items():
        fields[f"attributes.{name}" if name in fields else name] = value
    body = _value(record.body)
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Draft(
        checked_text(record.event_name if body is None else text, limits),
        fields_text(flat(fields, limits), limits),
        made_ns=(record.time_unix_nano or record.observed_time_unix_nano) or None,
    )


def _severity(number: int) -> str:
    return _SEVERITIES[(number - 1) // 4] if 1 <= number <= 4 * len(_SEVERITIES) else ""


def _values(pairs: Iterable[KeyValue], depth: int = 0) -> dict[str, Any]:
    return {pair.key or "unnamed": _value(pair.value, depth) for pair in pairs}


def _value(value: AnyValue, depth: int = 0) -> Any:
    """A value as JSON has it; bytes as base64; raises RequestError if it is nested deeper than DEPTH."""
    if depth > DEPTH:
        raise RequestError(f"a value is nested deeper than {DEPTH}")
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_value(one, depth + 1) for one in value.array_value.values]
        case "kvlist_value":
            return _values(value.kvlist_value.values, depth + 1)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value" if not math.isfinite(value.double_value):
            return str(value.double_value)
        case kind:
            return getattr(value, kind)
