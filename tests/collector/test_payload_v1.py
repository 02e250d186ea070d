"""Zipkin's old v1 JSON: what Zipkin 3.5.1 was seen to make of each of these spans."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clew.collector.ingest.payload import BadPayload, check

A = {"serviceName": "A", "ipv4": "1.1.1.1"}
B = {"serviceName": "b", "port": 80}
LOW_A = {"serviceName": "a", "ipv4": "1.1.1.1"}
IDS = {"traceId": "000000000000000a", "id": "000000000000000b"}


def _at(timestamp: int, value: str, endpoint: Any = None) -> dict[str, Any]:
    return {"timestamp": timestamp, "value": value, "endpoint": endpoint}


def _tag(key: str, value: Any, endpoint: Any = None) -> dict[str, Any]:
    return {"key": key, "value": value, "endpoint": endpoint}


def _read(*spans: Any) -> Any:
    return json.loads(b"[%b]" % check("spans", json.dumps(spans).encode(), "json_v1").rows)


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "a client": (
        {"annotations": [_at(5, "cs", A), _at(9, "cr", A)], "binaryAnnotations": [_tag("sa", True, B)]},
        [{"kind": "CLIENT", "timestamp": 5, "duration": 4, "localEndpoint": LOW_A, "remoteEndpoint": B}],
    ),
    "a server that joined the span": (
        {"annotations": [_at(5, "sr", A), _at(9, "ss", A)], "binaryAnnotations": [_tag("ca", True, B)]},
        [
            {
                "kind": "SERVER", "timestamp": 5, "duration": 4, "shared": True, "localEndpoint": LOW_A,
                "remoteEndpoint": B,
            }
        ],
    ),
    "a server that began the span": (
        {"timestamp": 5, "duration": 4, "annotations": [_at(5, "sr", A), _at(9, "ss", A)]},
        [{"kind": "SERVER", "timestamp": 5, "duration": 4, "localEndpoint": LOW_A}],
    ),
    "client and server in one": (
        {
            "timestamp": 1, "duration": 10,
            "annotations": [_at(1, "cs", A), _at(3, "sr", B), _at(4, "miss", B), _at(7, "ss", B), _at(11, "cr", A)],
            "binaryAnnotations": [_tag("http.path", "/x", A), _tag("db", "y", B)],
        },
        [
            {"kind": "CLIENT", "timestamp": 1, "duration": 10, "localEndpoint": LOW_A, "tags": {"http.path": "/x"}},
            {
                "kind": "SERVER", "timestamp": 3, "duration": 4, "shared": True, "localEndpoint": B,
                "tags": {"db": "y"}, "annotations": [{"timestamp": 4, "value": "miss"}],
            },
        ],
    ),
    "a service that calls itself": (
        {"annotations": [_at(1, "cs", A), _at(2, "sr", A), _at(3, "ss", A), _at(4, "cr", A)]},
        [
            {"kind": "CLIENT", "timestamp": 1, "duration": 3, "localEndpoint": LOW_A},
            {"kind": "SERVER", "timestamp": 2, "duration": 1, "shared": True, "localEndpoint": LOW_A},
        ],
    ),
    "a call that only ended": (
        {"timestamp": 5, "duration": 4, "annotations": [_at(9, "cr", A)]},
        [{"kind": "CLIENT", "timestamp": 5, "duration": 4, "localEndpoint": LOW_A}],
    ),
    "a call whose end is elsewhere": (
        {"annotations": [_at(9, "cr", A)]},
        [{"kind": "CLIENT", "localEndpoint": LOW_A, "annotations": [{"timestamp": 9, "value": "cr"}]}],
    ),
    "one way": (
        {"annotations": [_at(1, "cs", A), _at(2, "sr", B)]},
        [
            {"kind": "CLIENT", "timestamp": 1, "localEndpoint": LOW_A},
            {"kind": "SERVER", "timestamp": 2, "shared": True, "localEndpoint": B},
        ],
    ),
    "a message": (
        {
            "annotations": [_at(1, "ms", A), _at(2, "ws", A), _at(5, "wr", B), _at(7, "mr", B)],
            "binaryAnnotations": [_tag("ma", True, {"serviceName": "kafka"})],
        },
        [
            {
                "kind": "PRODUCER", "timestamp": 1, "duration": 1, "localEndpoint": LOW_A,
                "remoteEndpoint": {"serviceName": "kafka"},
            },
            {
                "kind": "CONSUMER", "timestamp": 5, "duration": 2, "shared": True, "localEndpoint": B,
                "remoteEndpoint": {"serviceName": "kafka"},
            },
        ],
    ),
    "only where it was": (
        {"name": "x", "timestamp": 5, "duration": 4, "binaryAnnotations": [_tag("lc", "", A)]},
        [{"name": "x", "timestamp": 5, "duration": 4, "localEndpoint": LOW_A}],
    ),
    "only both addresses": (
        {"binaryAnnotations": [_tag("ca", True, A), _tag("sa", True, B)]},
        [{"localEndpoint": LOW_A, "remoteEndpoint": B}],
    ),
    "only the client's address": (
        {"binaryAnnotations": [_tag("ca", True, A)]},
        [{"kind": "SERVER", "remoteEndpoint": LOW_A}],
    ),
    "the socket of the server's own name": (
        {"annotations": [_at(5, "sr", A)], "binaryAnnotations": [_tag("ca", True, {"serviceName": "a", "port": 9})]},
        [{"kind": "SERVER", "timestamp": 5, "shared": True, "localEndpoint": LOW_A, "remoteEndpoint": {"port": 9}}],
    ),
    "what is no text": (
        {"annotations": [_at(5, "cs")], "binaryAnnotations": [_tag("a", 5), _tag("b", True), _tag("c", None)]},
        [{"annotations": [{"timestamp": 5, "value": "cs"}]}],
    ),
    "ids of 128 bits": (
        {
            "traceId": "463ac35c9f6413ad48485a3953bb6124", "id": "00000000000000010000000000000002",
            "parentId": "0" * 32, "debug": True,
        },
        [
            {
                "traceId": "463ac35c9f6413ad48485a3953bb6124", "id": "0000000000000002",
                "parentId": "0000000000000000", "debug": True,
            }
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_v1_span_becomes_what_zipkin_makes_of_it(what: str) -> None:
    """Kind, times and both ends follow from the annotations; what two services recorded is two spans."""
    source, expected = CASES[what]

    assert [{**IDS, **span} for span in expected] == _read({"traceId": "a", "id": "b", **source})


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ({"id": "1"}, "span_traceId"),
        ({"traceId": "1"}, "span_id"),
        ({"traceId": "1", "id": "0"}, "span_id"),
        ({"traceId": "463ac35c9f6413ad" + "0" * 16, "id": "1"}, "span_traceId"),
        ({"traceId": "1", "id": "G"}, "span_id"),
        ({"traceId": "1", "id": "1", "annotations": [{"timestamp": 1}]}, "span_annotations"),
        ({"traceId": "1", "id": "1", "annotations": [{"timestamp": 1, "value": None}]}, "span_annotations"),
        ({"traceId": "1", "id": "1", "annotations": {}}, "span_annotations"),
        ({"traceId": "1", "id": "1", "binaryAnnotations": [{"value": "x"}]}, "span_binaryAnnotations"),
        ({"traceId": "1", "id": "1", "timestamp": 2**64}, "span_timestamp"),
        ({"traceId": "1", "id": "1", "tags": {}}, "span_shape"),
        (5, "span_shape"),
    ],
)
def test_bad_v1_span_is_refused_with_index_and_reason(span: Any, reason: str) -> None:
    """The second span is bad; so is one of the v2 format."""
    with pytest.raises(BadPayload) as refused:
        _read({"traceId": "1", "id": "1"}, span)

    assert reason == refused.value.reason
    assert str(refused.value).startswith("span 1")
