"""Zipkin's protobuf, written here by hand as well, from zipkin.proto."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.collector.ingest import zipkin_proto
from clew.collector.ingest.payload import BadPayload, check


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _fixed(number: int, value: int) -> bytes:
    return _varint(number << 3 | 1) + value.to_bytes(8, "little")


def _read(body: bytes) -> Any:
    return json.loads(b"[%b]" % check("spans", body, "proto3").rows)


IDS = _bytes(1, bytes(7) + b"\1") + _bytes(3, bytes(7) + b"\2")
SPAN = b"".join(
    [
        _bytes(1, bytes.fromhex("463ac35c9f6413ad48485a3953bb6124")),
        _bytes(2, bytes.fromhex("000000000000000b")),
        _bytes(3, bytes.fromhex("00000000000000aa")),
        _number(4, 2),
        _bytes(5, "gét".encode()),
        _fixed(6, 1_472_470_996_199_000),
        _number(7, 207_000),
        _bytes(8, _bytes(1, b"frontend") + _bytes(2, bytes([1, 2, 3, 4])) + _number(4, 8_080)),
        _bytes(9, _bytes(1, b"backend") + _bytes(3, bytes.fromhex("20010db8" + "0" * 23 + "1"))),
        _bytes(10, _fixed(1, 5) + _bytes(2, b"foo")),
        _bytes(11, _bytes(1, b"http.path") + _bytes(2, b"/api")),
        _bytes(11, _bytes(1, b"empty")),
        _number(12, 1),
        _number(13, 1),
        _bytes(99, b"of a later version"),
    ]
)


def test_every_field_is_read() -> None:
    """A whole span becomes the JSON that a JSON client would have sent; unknown fields are skipped."""
    expected = {
        "traceId": "463ac35c9f6413ad48485a3953bb6124",
        "parentId": "000000000000000b",
        "id": "00000000000000aa",
        "kind": "SERVER",
        "name": "gét",
        "timestamp": 1_472_470_996_199_000,
        "duration": 207_000,
        "localEndpoint": {"serviceName": "frontend", "ipv4": "1.2.3.4", "port": 8_080},
        "remoteEndpoint": {"serviceName": "backend", "ipv6": "2001:db8::1"},
        "annotations": [{"timestamp": 5, "value": "foo"}],
        "tags": {"http.path": "/api", "empty": ""},
        "debug": True,
        "shared": True,
    }
    assert [expected, expected] == _read(_bytes(1, SPAN) * 2)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (_bytes(5, b"a\xffb"), {"name": "a\ufffdb"}),
        (_bytes(5, b"\xed\xa0\x80"), {"name": "\ufffd"}),
        (_bytes(5, b"x") + _bytes(5, b""), {}),
        (_bytes(11, _bytes(1, b"k\xff") + _bytes(2, b"\xff")), {"tags": {"k\ufffd": "\ufffd"}}),
        (_bytes(11, _bytes(2, b"no key")), {}),
        (_bytes(11, b""), {}),
        (_bytes(10, _fixed(1, 5)), {}),
        (_bytes(10, _bytes(2, b"no time")), {}),
        (_bytes(10, _fixed(1, 2**64 - 1) + _bytes(2, b"e")), {"annotations": [{"timestamp": -1, "value": "e"}]}),
        (_fixed(6, 2**64 - 5), {"timestamp": 0}),
        (_number(7, 2**64 - 1), {"duration": 0}),
        (_number(6, 5) + _fixed(7, 5) + _number(5, 5), {}),
        (_number(4, 0) + _number(4, 5), {}),
        (_number(12, 1) + _number(12, 0), {"debug": True}),
        (_bytes(8, _bytes(2, bytes(16)[:15] + b"\1")), {"localEndpoint": {"ipv6": "::1"}}),
        (_bytes(8, _bytes(3, bytes(12) + b"\1\2\3\4")), {"localEndpoint": {"ipv4": "1.2.3.4"}}),
        (_bytes(8, _bytes(3, bytes(16))), {"localEndpoint": {"ipv4": "0.0.0.0"}}),
        (_bytes(8, _bytes(3, bytes(10) + b"\xff\xff\1\2\3\4")), {"localEndpoint": {"ipv6": "::ffff:102:304"}}),
        (_bytes(8, _bytes(2, b"\1\2\3")), {"localEndpoint": {}}),
        (_bytes(8, _number(4, 2**32 - 1)), {"localEndpoint": {"port": 0}}),
        (_bytes(2, b""), {}),
    ],
)
def test_odd_fields_are_read_as_zipkin_reads_them(fields: bytes, expected: dict[str, Any]) -> None:
    """What Zipkin 3.5.1 was seen to make of them: bad UTF-8 is replaced, half annotations and tags are left out."""
    ids = {"traceId": "0000000000000001", "id": "0000000000000002"}

    assert [{**ids, **expected}] == _read(_bytes(1, IDS + fields))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x0a\xff\xff\xff\xff", "malformed"),
        (b"\x0a\x05ab", "malformed"),
        (b"\x0a" + b"\xff" * 11, "malformed"),
        (b"\x0b", "malformed"),
        (_bytes(1, IDS + b"\x31123"), "malformed"),
        (_bytes(1, IDS + _number(12, 2)), "malformed"),
        (_bytes(1, _number(1, 5)), "span_traceId"),
        (_bytes(1, b""), "span_traceId"),
        (_bytes(1, _bytes(1, bytes(8)) + _bytes(3, b"\1")), "span_traceId"),
        (_bytes(1, _bytes(1, bytes(17)) + _bytes(3, b"\1")), "span_traceId"),
        (_bytes(1, _bytes(1, b"\1") + _bytes(3, bytes(8))), "span_id"),
        (_bytes(1, IDS + _bytes(2, bytes(9))), "span_parentId"),
        (_bytes(1, IDS + _bytes(8, _number(4, 65_536))), "span_localEndpoint"),
        (_bytes(1, IDS + b"".join(_bytes(11, _bytes(1, b"%d" % n)) for n in range(1_025))), "span_tags"),
    ],
)
def test_malformed_messages_are_refused(body: bytes, reason: str) -> None:
    """Lengths beyond the end, endless numbers, unknown wire types, ids of zeros, too long or not there."""
    with pytest.raises(BadPayload) as refused:
        check("spans", body, "proto3")

    assert reason == refused.value.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x0a\x00" * 200_000, "span_traceId"),
        (b"\x0a\x00" * 8_000_000, "too_many"),
        (_bytes(1, _bytes(1, b"\1") + _bytes(3, b"\1")) * 400_000, "too_many"),
        (_bytes(1, IDS + _bytes(11, b"") * 3_500_000), "too_many"),
    ],
)
def test_work_is_bounded(body: bytes, reason: str) -> None:
    """Spans of nothing end at the first or, like fields of nothing, at a count, before they are built."""
    with pytest.raises(BadPayload) as refused:
        check("spans", body, "proto3")

    assert reason == refused.value.reason


@given(st.binary(max_size=300))
def test_any_bytes_give_spans_or_a_refusal(body: bytes) -> None:
    """Nothing else can come out, whatever goes in."""
    try:
        assert isinstance(zipkin_proto.read_spans(body), list)
    except BadPayload:
        pass
