"""OpenTelemetry's OTLP, protobuf and JSON, as typed spans and log records. Pure: bytes in, values out.

What Zipkin's model has no place for is kept under names of its own, so that nothing is lost and all of it is found by
the same search (the rules of OpenTelemetry's "Transformation to Zipkin", where it has one):

* attributes of the span, then of its resource, are tags; where both have a key, the resource's is
  ``otel.resource.<key>``. ``service.name`` is the service. Arrays, maps and bytes (base64) are JSON text.
* the scope: ``otel.scope.name``, ``otel.scope.version``; a status that is set: ``otel.status_code`` (``OK``, ``ERROR``)
  and for an error ``error`` (its message, or that of the last exception event), ``error.type``, ``error.stack``
* events are annotations: their name, or ``{"name": {attributes}}``; links are JSON in ``otel.links``
* ``w3c.tracestate``; what a client dropped: ``otel.dropped_attributes_count``, ``otel.dropped_events_count``,
  ``otel.dropped_links_count``
* the other end of a call: ``peer.service``, ``server.address``, ``net.peer.name``, ... with their port

OTLP lets a receiver take what is right and say how much was not: a span without valid ids, or with more than Zipkin's
model holds, is refused alone.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from clew.collector.ingest.addresses import parse_address
from clew.collector.ingest.canonical import (
    INT64,
    MAX_ANNOTATIONS,
    MAX_NAME_CHARS,
    MAX_TAGS,
    AnnotationRow,
    BadPayload,
    EndpointRow,
    RecordRow,
    SpanKind,
    SpanRow,
    refuse_too_many,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_PROTOBUF_BYTES: Final = 8 << 20  # decoded at once: the smallest span is two bytes and becomes two hundred
MAX_DEPTH: Final = 20  # of arrays and maps in each other
UNKNOWN_SERVICE: Final = "unknown_service"  # OpenTelemetry's own word for a resource without a name
_KINDS: Final[dict[int, SpanKind]] = {2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
_STATUSES: Final = {1: "OK", 2: "ERROR"}
_REMOTE_NAMES: Final = (
    "peer.service",
    "server.address",
    "net.peer.name",
    "network.peer.address",
    "net.peer.ip",
    "net.sock.peer.addr",
)
_REMOTE_PORTS: Final = ("server.port", "net.peer.port", "network.peer.port", "net.sock.peer.port")
_CALLER_NAMES: Final = ("client.address", "network.peer.address", "net.sock.peer.addr", "net.peer.ip")
_CALLER_PORTS: Final = ("client.port", "network.peer.port", "net.sock.peer.port", "net.peer.port")
_LEVELS: Final = ((1, "TRACE"), (5, "DEBUG"), (9, "INFO"), (13, "WARNING"), (17, "ERROR"), (21, "CRITICAL"))


class Taken(NamedTuple):
    """What of a payload is right, how many items are not, and what is wrong with the first of those."""

    rows: list[Any]
    rejected: int
    problem: str


class _RefusedError(ValueError):
    """One span or record cannot be stored."""


# --- OTLP/JSON: ids in hex, 64-bit numbers as text or number; what is not named here is ignored ---

_Long = int | str


class _AnyValue(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Long | None = None
    double_value: float | str | None = None
    array_value: _ArrayValue | None = None
    kvlist_value: _KeyValueList | None = None
    bytes_value: str | None = None


class _KeyValue(msgspec.Struct):
    key: str = ""
    value: _AnyValue | None = None


class _ArrayValue(msgspec.Struct):
    values: list[_AnyValue] = []


class _KeyValueList(msgspec.Struct):
    values: list[_KeyValue] = []


class _Resource(msgspec.Struct):
    attributes: list[_KeyValue] = []


class _Scope(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Event(msgspec.Struct, rename="camel"):
    time_unix_nano: _Long = 0
    name: str = ""
    attributes: list[_KeyValue] = []


class _Link(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    attributes: list[_KeyValue] = []


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: _Long = 0
    end_time_unix_nano: _Long = 0
    attributes: list[_KeyValue] = []
    events: list[_Event] = []
    links: list[_Link] = []
    status: _Status = msgspec.field(default_factory=_Status)
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    dropped_links_count: int = 0


class _LogRecord(msgspec.Struct, rename="camel"):
    time_unix_nano: _Long = 0
    observed_time_unix_nano: _Long = 0
    severity_number: int = 0
    severity_text: str = ""
    body: _AnyValue | None = None
    attributes: list[_KeyValue] = []
    trace_id: str = ""
    span_id: str = ""


class _ScopeSpans(msgspec.Struct):
    scope: _Scope = msgspec.field(default_factory=_Scope)
    spans: list[_Span] = []


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource = msgspec.field(default_factory=_Resource)
    scope_spans: list[_ScopeSpans] = []


class _TraceRequest(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] = []


class _ScopeLogs(msgspec.Struct, rename="camel"):
    scope: _Scope = msgspec.field(default_factory=_Scope)
    log_records: list[_LogRecord] = []


class _ResourceLogs(msgspec.Struct, rename="camel"):
    resource: _Resource = msgspec.field(default_factory=_Resource)
    scope_logs: list[_ScopeLogs] = []


class _LogsRequest(msgspec.Struct, rename="camel"):
    resource_logs: list[_ResourceLogs] = []


def read_spans(payload: bytes, *, is_json: bool) -> Taken:
    """Return the spans of an ExportTraceServiceRequest; :class:`BadPayload` if it is none."""
    reader = _Reader(_json_value, str) if is_json else _Reader(_proto_value, bytes.hex)
    request = _decode(payload, _TraceRequest if is_json else ExportTraceServiceRequest, is_json)
    return reader.all(request.resource_spans, "scope_spans", "spans", reader.span)


def read_logs(payload: bytes, *, is_json: bool) -> Taken:
    """Return the log records of an ExportLogsServiceRequest; :class:`BadPayload` if it is none."""
    reader = _Reader(_json_value, str) if is_json else _Reader(_proto_value, bytes.hex)
    request = _decode(payload, _LogsRequest if is_json else ExportLogsServiceRequest, is_json)
    return reader.all(request.resource_logs, "scope_logs", "log_records", reader.record)


def _decode(payload: bytes, kind: Any, is_json: bool) -> Any:
    try:
        if is_json:
            return msgspec.json.decode(payload, type=kind)
        if len(payload) > MAX_PROTOBUF_BYTES:
            raise BadPayload(
                "too_large", f"An OTLP protobuf has at most {MAX_PROTOBUF_BYTES} bytes. Send smaller ones."
            )
        return kind.FromString(payload)
    except (msgspec.DecodeError, DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = "an ExportTraceServiceRequest" if kind in _TRACES else "an ExportLogsServiceRequest"
        form = "JSON" if is_json else "protobuf"
        raise BadPayload("malformed", f"Expected {name} as {form}: {error}. Nothing was stored.") from error


_TRACES: Final = (_TraceRequest, ExportTraceServiceRequest)


class _Reader:
    """Makes rows of spans and records; ``value`` and ``hex`` know what protobuf and JSON have in different forms."""

    def __init__(self, value: Callable[[Any, int], Any], hex: Callable[[Any], str]) -> None:
        self._value = value
        self._hex = hex

    def all(self, resources: Iterable[Any], scopes: str, items: str, read: Callable[..., Any]) -> Taken:
        """Walk through resources and scopes to the items."""
        rows: list[Any] = []
        rejected, problem, count = 0, "", 0
        for of_resource in resources:
            shared = self._tags(of_resource.resource.attributes)
            service = (shared.pop("service.name", "") or UNKNOWN_SERVICE)[:MAX_NAME_CHARS]
            for of_scope in getattr(of_resource, scopes):
                found = getattr(of_scope, items)
                refuse_too_many(count := count + len(found), "items")
                for index, item in enumerate(found, count - len(found)):
                    try:
                        rows.append(read(item, service, shared, of_scope.scope))
                    except _RefusedError as refused:
                        rejected += 1
                        problem = problem or f"item {index}: {refused}"
        return Taken(rows, rejected, problem)

    def span(self, span: Any, service: str, shared: dict[str, str], scope: Any) -> SpanRow:
        """Return one span; ``_RefusedError`` for one that cannot be stored."""
        own = self._tags(span.attributes)
        tags = _with_resource(own, shared)
        _describe(tags, span, scope)
        notes = [self._note(event) for event in span.events]
        if span.status.code in _STATUSES:
            tags["otel.status_code"] = _STATUSES[span.status.code]
            if span.status.code == 2:
                self._fail(tags, span)
        if span.links:
            tags["otel.links"] = _text([self._link(link) for link in span.links])
        if len(tags) > MAX_TAGS or len(notes) > MAX_ANNOTATIONS:
            raise _RefusedError(f"it has {len(tags)} attributes and {len(notes)} events")
        parent = self._hex(span.parent_span_id)
        begin_ns, end_ns = int(span.start_time_unix_nano), int(span.end_time_unix_nano)
        kind = _KINDS.get(span.kind)
        return SpanRow(
            _id(self._hex(span.trace_id), 32, "trace_id"),
            _id(self._hex(span.span_id), 16, "span_id"),
            _id(parent, 16, "parent_span_id") if parent.strip("0") else None,
            kind,
            span.name[:MAX_NAME_CHARS] or None,
            _micros(begin_ns),
            max(1, (end_ns - begin_ns) // 1_000) if end_ns > begin_ns else None,
            local_endpoint=EndpointRow(service),
            remote_endpoint=_remote(own, kind),
            tags=tags,
            annotations=notes or None,
        )

    def record(self, record: Any, service: str, shared: dict[str, str], scope: Any) -> RecordRow:
        """Return one log record. Attributes that are no exception's stand behind the message, as JSON."""
        tags = self._tags(record.attributes)
        kind, text = tags.pop("exception.type", ""), tags.pop("exception.message", "")
        stack = tags.pop("exception.stacktrace", "") or (f"{kind}: {text}" if kind else "")
        body = "" if record.body is None else _plain(self._value(record.body, 0))
        level = record.severity_text or next(
            (name for least, name in reversed(_LEVELS) if record.severity_number >= least), ""
        )
        trace_id, span_id = self._hex(record.trace_id), self._hex(record.span_id)
        return RecordRow(
            _micros(int(record.time_unix_nano) or int(record.observed_time_unix_nano)) or 0,
            service,
            f"{body} {_text(tags)}" if tags else body,
            level[:MAX_NAME_CHARS] or None,
            scope.name[:MAX_NAME_CHARS] or None,
            _id(trace_id, 32, "trace_id") if trace_id.strip("0") else None,
            _id(span_id, 16, "span_id") if span_id.strip("0") else None,
            stack or None,
        )

    def _tags(self, attributes: Iterable[Any]) -> dict[str, str]:
        value = self._value
        return {pair.key: _plain(value(pair.value, 0)) for pair in attributes}

    def _note(self, event: Any) -> AnnotationRow:
        attributes = {pair.key: self._value(pair.value, 0) for pair in event.attributes}
        attributes.pop("exception.stacktrace", None)  # it is the tag error.stack
        text = _text({event.name: attributes}) if attributes else event.name
        return AnnotationRow(_micros(int(event.time_unix_nano)) or 0, text)

    def _link(self, link: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"traceId": self._hex(link.trace_id), "spanId": self._hex(link.span_id)}
        attributes = {pair.key: self._value(pair.value, 0) for pair in link.attributes}
        return {**found, "attributes": attributes} if attributes else found

    def _fail(self, tags: dict[str, str], span: Any) -> None:
        """Say that a span failed, as clew's own client does, with what the last exception event knows."""
        known: dict[str, str] = {}
        for event in span.events:
            if event.name == "exception":
                known = self._tags(event.attributes)
        message = span.status.message or known.get("exception.message", "") or tags.get("error.type", "")
        tags.setdefault("error", message or known.get("exception.type", "") or "error")
        for tag, key in (("error.type", "exception.type"), ("error.stack", "exception.stacktrace")):
            if known.get(key):
                tags.setdefault(tag, known[key])


def _proto_value(value: Any, depth: int) -> Any:
    which = value.WhichOneof("value")
    if which is None or depth > MAX_DEPTH:
        return None
    found = getattr(value, which)
    if which == "array_value":
        return [_proto_value(item, depth + 1) for item in found.values]
    if which == "kvlist_value":
        return {pair.key: _proto_value(pair.value, depth + 1) for pair in found.values}
    return base64.b64encode(found).decode() if which == "bytes_value" else found


def _json_value(value: _AnyValue | None, depth: int) -> Any:
    if value is None or depth > MAX_DEPTH:
        return None
    if value.array_value is not None:
        return [_json_value(item, depth + 1) for item in value.array_value.values]
    if value.kvlist_value is not None:
        return {pair.key: _json_value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if value.int_value is not None:
        return _number(value.int_value)
    known = (value.string_value, value.bool_value, value.double_value, value.bytes_value)
    return next((found for found in known if found is not None), None)


def _number(text: int | str) -> int | str:
    """Return a 64-bit number that came as text; what is none stays text."""
    return int(text) if isinstance(text, str) and text.lstrip("-").isdecimal() and len(text) <= 20 else text


def _plain(value: Any) -> str:
    """Return a value as a tag has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return str(value) if isinstance(value, (int, float)) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _with_resource(own: dict[str, str], shared: dict[str, str]) -> dict[str, str]:
    """Return the attributes of both; where both have a key, the resource's gets another name."""
    if own.keys().isdisjoint(shared):
        return {**own, **shared}
    return {**own, **{key if key not in own else f"otel.resource.{key}": value for key, value in shared.items()}}


def _describe(tags: dict[str, str], span: Any, scope: Any) -> None:
    if scope.name:
        tags["otel.scope.name"] = scope.name
        if scope.version:
            tags["otel.scope.version"] = scope.version
    if span.trace_state:
        tags["w3c.tracestate"] = span.trace_state
    for what in ("attributes", "events", "links"):
        count = getattr(span, f"dropped_{what}_count")
        if count:
            tags[f"otel.dropped_{what}_count"] = str(count)


def _remote(tags: dict[str, str], kind: SpanKind | None) -> EndpointRow | None:
    """Return the other end, as far as the attributes name it."""
    if kind is None:
        return None
    serves = kind == "SERVER"
    name = next((tags[key] for key in (_CALLER_NAMES if serves else _REMOTE_NAMES) if tags.get(key)), "")
    port = next((tags[key] for key in (_CALLER_PORTS if serves else _REMOTE_PORTS) if tags.get(key)), "")
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65_536 else None
    ipv4, ipv6 = parse_address(name)
    service = None if ipv4 or ipv6 or serves else name[:MAX_NAME_CHARS] or None
    return EndpointRow(service, ipv4, ipv6, number) if service or ipv4 or ipv6 else None


def _id(text: str, size: int, what: str) -> str:
    text = text.lower()
    if len(text) != size or not text.strip("0") or text.strip("0123456789abcdef"):
        raise _RefusedError(f"{what} must be {size} hex characters that are not all zero, not {text[:40]!a}")
    return text


def _micros(nanos: int) -> int | None:
    """Return microseconds since the epoch; None where no time was given, or one that no calendar knows."""
    return nanos // 1_000 if 0 < nanos < INT64 else None
