"""Zipkin's protobuf, written here by hand as well, from zipkin.proto."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.collector.ingest.payload import BadPayload
from clew.collector.receivers.zipkin_proto import spans_to_json


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
    assert [expected, expected] == json.loads(spans_to_json(_bytes(1, SPAN) * 2))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\xff\xff\xff\xff",
        b"\x0a\x05ab",
        b"\x0a" + b"\xff" * 11,
        b"\x0b",
        _bytes(1, _number(1, 5)),
        _bytes(1, _bytes(5, b"\xff\xfe")),
        _bytes(1, _bytes(6, b"12345678")),
    ],
)
def test_malformed_messages_are_refused(body: bytes) -> None:
    """Lengths beyond the end, endless numbers, unknown wire types, wrong types, bad UTF-8."""
    with pytest.raises(BadPayload) as refused:
        spans_to_json(body)

    assert "malformed" == refused.value.reason


@given(st.binary(max_size=300))
def test_any_bytes_give_json_or_a_refusal(body: bytes) -> None:
    """Nothing else can come out, whatever goes in."""
    try:
        assert isinstance(json.loads(spans_to_json(body)), list)
    except BadPayload:
        pass
