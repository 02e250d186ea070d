"""OTLP: what OpenTelemetry's clients send, through the real application, read back from the real engine."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from clew.collector.ingest.canonical import BadPayload
from clew.collector.ingest.otlp import read_logs, read_spans
from collector.collector_process import CollectorProcess

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "a2fb4a1d1a96d312"
BEGIN_NS = 1_795_356_903_120_000_000
PROTOBUF, JSON = {"content-type": "application/x-protobuf"}, {"content-type": "application/json"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectorProcess]:
    with CollectorProcess(tmp_path_factory.mktemp("otlp"), "--otlp", "none") as process:
        yield process


def attribute(key: str, **value: Any) -> dict[str, Any]:
    """One attribute in OTLP/JSON."""
    return {"key": key, "value": value}


def text(key: str, value: str) -> dict[str, Any]:
    """One attribute that is text."""
    return attribute(key, stringValue=value)


def request(*spans: dict[str, Any], resource: Any = (), scope: Any = None) -> dict[str, Any]:
    """An ExportTraceServiceRequest of one resource and scope."""
    scoped = {"spans": list(spans), **({"scope": scope} if scope else {})}
    attributes = [text("service.name", "orders"), *resource]
    return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [scoped]}]}


def span(**more: Any) -> dict[str, Any]:
    """A span with ids and times."""
    return {
        "traceId": TRACE,
        "spanId": SPAN,
        "name": "GET /items/{sku}",
        "startTimeUnixNano": str(BEGIN_NS),
        "endTimeUnixNano": str(BEGIN_NS + 5_000_000),
        **more,
    }


WHOLE = span(
    parentSpanId=PARENT,
    traceState="congo=t61",
    kind=3,
    attributes=[
        text("http.request.method", "GET"),
        attribute("http.response.status_code", intValue="503"),
        attribute("retry", boolValue=True),
        attribute("ratio", doubleValue=0.5),
        attribute("tags", arrayValue={"values": [{"stringValue": "a"}, {"intValue": "2"}]}),
        attribute("deep", kvlistValue={"values": [attribute("x", kvlistValue={"values": [text("y", "z")]})]}),
        text("server.address", "stock"),
        attribute("server.port", intValue="8080"),
        text("env", "own"),
    ],
    events=[
        {"timeUnixNano": str(BEGIN_NS + 1_000_000), "name": "cache miss"},
        {"timeUnixNano": str(BEGIN_NS + 2_000_000), "name": "retry", "attributes": [attribute("n", intValue="1")]},
        {
            "timeUnixNano": str(BEGIN_NS + 3_000_000),
            "name": "exception",
            "attributes": [
                text("exception.type", "Timeout"),
                text("exception.message", "too slow"),
                text("exception.stacktrace", "Traceback ..."),
            ],
        },
    ],
    links=[{"traceId": "ab" * 16, "spanId": "cd" * 8, "attributes": [text("why", "batch")]}],
    status={"code": 2},
    droppedEventsCount=3,
)
WHOLE_REQUEST = request(
    WHOLE,
    resource=[text("env", "prod"), text("host.name", "box")],
    scope={"name": "lib", "version": "1.2"},
)
WHOLE_ROW = {
    "traceId": TRACE,
    "parentId": PARENT,
    "id": SPAN,
    "kind": "CLIENT",
    "name": "get /items/{sku}",
    "timestamp": BEGIN_NS // 1_000,
    "duration": 5_000,
    "localEndpoint": {"serviceName": "orders"},
    "remoteEndpoint": {"serviceName": "stock", "port": 8080},
    "annotations": [
        {"timestamp": BEGIN_NS // 1_000 + 1_000, "value": "cache miss"},
        {"timestamp": BEGIN_NS // 1_000 + 2_000, "value": '{"retry":{"n":1}}'},
        {
            "timestamp": BEGIN_NS // 1_000 + 3_000,
            "value": '{"exception":{"exception.type":"Timeout","exception.message":"too slow"}}',
        },
    ],
    "tags": {
        "deep": '{"x":{"y":"z"}}',
        "env": "own",
        "error": "too slow",
        "error.stack": "Traceback ...",
        "error.type": "Timeout",
        "host.name": "box",
        "http.request.method": "GET",
        "http.response.status_code": "503",
        "otel.dropped_events_count": "3",
        "otel.links": f'[{{"traceId":"{"ab" * 16}","spanId":"{"cd" * 8}","attributes":{{"why":"batch"}}}}]',
        "otel.resource.env": "prod",
        "otel.scope.name": "lib",
        "otel.scope.version": "1.2",
        "otel.status_code": "ERROR",
        "ratio": "0.5",
        "retry": "true",
        "server.address": "stock",
        "server.port": "8080",
        "tags": '["a",2]',
        "w3c.tracestate": "congo=t61",
    },
}


def to_protobuf(made: dict[str, Any]) -> bytes:
    """The same request as protobuf: its JSON has ids in base64 where OTLP's has hex."""
    import base64
    import copy

    from google.protobuf.json_format import ParseDict

    made = copy.deepcopy(made)
    for of_resource in made["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for item in [*of_scope["spans"], *(link for one in of_scope["spans"] for link in one.get("links", ()))]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in item:
                        item[key] = base64.b64encode(bytes.fromhex(item[key])).decode()
    return ParseDict(made, ExportTraceServiceRequest()).SerializeToString()


def post(collector: CollectorProcess, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Post to /v1/traces; return status and body as they came."""
    url = f"http://127.0.0.1:{collector.port}/v1/traces"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def read_back(collector: CollectorProcess, trace_id: str = TRACE) -> list[dict[str, Any]]:
    """The trace as Zipkin's API gives it."""
    status, body = collector.get(f"/api/v2/trace/{trace_id}")
    assert 200 == status, body
    return json.loads(body)


@pytest.mark.parametrize("form", ["protobuf", "json", "gzip", "zstd"])
def test_a_span_is_kept_whole(collector: CollectorProcess, form: str) -> None:
    """Everything that it says is found again, under its documented name, whatever form it came in."""
    trace_id = {"protobuf": "1", "json": "2", "gzip": "3", "zstd": "4"}[form] + TRACE[1:]
    made = json.loads(json.dumps(WHOLE_REQUEST).replace(f'"traceId": "{TRACE}"', f'"traceId": "{trace_id}"'))
    body = json.dumps(made).encode() if form == "json" else to_protobuf(made)
    headers = dict(JSON if form == "json" else PROTOBUF)
    if form in ("gzip", "zstd"):
        headers["content-encoding"] = form
        body = gzip.compress(body) if form == "gzip" else zstd.compress(body)
    status, answer, named = collector.request("POST", "/v1/traces", body, headers)
    assert (200, "{}" if form == "json" else "") == (status, answer)
    assert headers["content-type"] == named["content-type"]
    assert [{**WHOLE_ROW, "traceId": trace_id}] == read_back(collector, trace_id)


def test_both_forms_mean_the_same() -> None:
    """The reader of JSON held against the reader of protobuf."""
    of_json = read_spans(json.dumps(WHOLE_REQUEST).encode(), is_json=True)
    assert of_json == read_spans(to_protobuf(WHOLE_REQUEST), is_json=False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"traceId": "0" * 32}, "trace_id must be 32 hex characters that are not all zero, not '" + "0" * 32 + "'"),
        ({"traceId": "ab"}, "trace_id must be 32 hex characters that are not all zero, not 'ab'"),
        ({"spanId": "x" * 16}, "span_id must be 16 hex characters that are not all zero, not 'xxxxxxxxxxxxxxxx'"),
        ({"attributes": [text(str(n), "") for n in range(1_025)]}, "it has 1025 attributes and 0 events"),
    ],
)
def test_a_bad_span_is_refused_alone(change: dict[str, Any], problem: str) -> None:
    """What is right beside it is taken, and the answer says how many were not, and why."""
    taken = read_spans(json.dumps(request(span(**change), span())).encode(), is_json=True)
    assert ([SPAN], 1, f"item 0: {problem}") == ([row.id for row in taken.rows], taken.rejected, taken.problem)


def test_partial_success_is_answered_in_the_form_of_the_request(collector: CollectorProcess) -> None:
    """Rejected spans are counted, 200 all the same."""
    made = request(span(traceId="ef" * 16), span(traceId="0" * 32))
    status, answer = post(collector, json.dumps(made).encode(), JSON)
    problem = "item 1: trace_id must be 32 hex characters that are not all zero, not '" + "0" * 32 + "'"
    assert (200, {"partialSuccess": {"rejectedSpans": "1", "errorMessage": problem}}) == (status, json.loads(answer))
    status, answer = post(collector, to_protobuf(made), PROTOBUF)
    assert 200 == status
    parsed = MessageToDict(ExportTraceServiceResponse.FromString(answer))
    assert {"partialSuccess": {"rejectedSpans": "1", "errorMessage": problem}} == parsed
    assert 1 == len(read_back(collector, "ef" * 16))


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"\xff\xff", PROTOBUF, 400),
        (b"{", JSON, 400),
        (b'{"resourceSpans": 5}', JSON, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {**JSON, "content-encoding": "br"}, 415),
        (b"no zstd", {**JSON, "content-encoding": "zstd"}, 400),
        (b"no gzip", {**JSON, "content-encoding": "gzip"}, 400),
        (b"[" * 100_000, JSON, 400),
    ],
)
def test_what_is_no_request_is_refused(
    collector: CollectorProcess, body: bytes, headers: dict[str, str], expected: int
) -> None:
    """With a google.rpc.Status that says what is wrong."""
    status, answer = post(collector, body, headers)
    assert expected == status
    if headers["content-type"] == "application/json":
        assert {"code", "message"} == set(json.loads(answer))


def test_a_bomb_is_noticed_when_it_begins_to_swell(collector: CollectorProcess) -> None:
    """zstd as well as gzip."""
    bomb = zstd.compress(b"\0" * 200_000_000)
    assert 413 == collector.request("POST", "/v1/traces", bomb, {**PROTOBUF, "content-encoding": "zstd"})[0]


def test_metrics_are_refused_with_a_hint(collector: CollectorProcess) -> None:
    """The zero-code agent sends them unless told not to."""
    status, answer = collector.post("/v1/metrics", b"{}", content_type="application/json")
    assert (404, "OTEL_METRICS_EXPORTER=none") == (status, json.loads(answer)["message"].split(" Set ")[1].rstrip("."))


def test_millions_of_empty_spans_are_refused_before_they_cost_memory() -> None:
    """The smallest span is two bytes."""
    inner = b"\x12\x00" * 5_000_000
    body = b"\x0a" + _length(len(_scoped(inner))) + _scoped(inner)
    with pytest.raises(BadPayload):
        read_spans(body, is_json=False)


def _scoped(inner: bytes) -> bytes:
    return b"\x12" + _length(len(inner)) + inner


def _length(size: int) -> bytes:
    written = bytearray()
    while size > 0x7F:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    written.append(size)
    return bytes(written)


def test_log_records_are_kept() -> None:
    """Level, logger, message, ids, exception; other attributes behind the message."""
    record = {
        "timeUnixNano": str(BEGIN_NS),
        "severityNumber": 17,
        "severityText": "",
        "body": {"stringValue": "declined"},
        "traceId": TRACE,
        "spanId": SPAN,
        "attributes": [
            text("exception.type", "Declined"),
            text("exception.message", "no"),
            text("exception.stacktrace", "Traceback\nDeclined: no"),
            text("customer", "42"),
        ],
    }
    made = {
        "resourceLogs": [
            {
                "resource": {"attributes": [text("service.name", "pay")]},
                "scopeLogs": [{"scope": {"name": "app"}, "logRecords": [record, {"body": {"intValue": "5"}}]}],
            }
        ]
    }
    first, second = read_logs(json.dumps(made).encode(), is_json=True).rows
    assert ("pay", 'declined {"customer":"42"}', "ERROR", "app") == (
        first.service,
        first.message,
        first.level,
        first.logger,
    )
    assert (TRACE, SPAN, "Traceback\nDeclined: no") == (first.trace_id, first.id, first.exception)
    assert (BEGIN_NS // 1_000, "5", None, None) == (first.timestamp, second.message, second.trace_id, second.level)


def test_the_real_sdk_sends_traces_and_logs(collector: CollectorProcess) -> None:
    """OpenTelemetry's own exporter, over HTTP with protobuf and gzip; a failed span with its exception."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.trace import SpanKind

    provider = TracerProvider(resource=Resource.create({"service.name": "sdk", "deployment.environment": "prod"}))
    endpoint = f"http://127.0.0.1:{collector.port}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint, compression=Compression.Gzip)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("app", "1.0")
    with contextlib.suppress(ValueError), tracer.start_as_current_span("parent", kind=SpanKind.SERVER) as parent:
        with tracer.start_as_current_span("child", kind=SpanKind.CLIENT, attributes={"peer.service": "bank"}) as child:
            child.add_event("asked", {"n": 1})
        raise ValueError("boom")
    provider.shutdown()
    trace_id = f"{parent.get_span_context().trace_id:032x}"
    by_name = {one["name"]: one for one in read_back(collector, trace_id)}
    assert ("SERVER", "sdk") == (by_name["parent"]["kind"], by_name["parent"]["localEndpoint"]["serviceName"])
    tags = by_name["parent"]["tags"]
    assert ("ValueError: boom", "ValueError", "prod", "app") == (
        tags["error"],
        tags["error.type"],
        tags["deployment.environment"],
        tags["otel.scope.name"],
    )
    assert "boom" in tags["error.stack"]
    assert by_name["parent"]["id"] == by_name["child"]["parentId"]
    assert {"serviceName": "bank"} == by_name["child"]["remoteEndpoint"]
    assert ['{"asked":{"n":1}}'] == [note["value"] for note in by_name["child"]["annotations"]]


def test_opentelemetry_s_own_port_is_listened_on(tmp_path: Any) -> None:
    """--otlp with a port of its own; the same doors stand before it."""
    from clew.cli._processes import free_ports

    (port,) = free_ports(1)
    with CollectorProcess(tmp_path, "--otlp", f"127.0.0.1:{port}") as process:
        assert any(f"OTLP also on port {port}" in line for line in process.lines)
        process.port = port
        body = json.dumps(request(span())).encode()
        assert (200, "{}") == process.post("/v1/traces", body, content_type="application/json")
        assert 1 == len(read_back(process))
