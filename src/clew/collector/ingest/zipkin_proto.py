"""Zipkin's protobuf (``zipkin.proto3.ListOfSpans``) as typed spans. Pure: bytes in, values out.

Written by hand, for it is three small messages, and a generated decoder would be a dependency larger than this file.
Hostile input: every length is checked against what is there, varints end after ten bytes, nothing recurses on input,
and how much is decoded is bounded by count, for the smallest field is two bytes and each costs half a microsecond.

The rules are those of Zipkin 3.5.1: a field with another wire type than its own is unknown, and skipped; text that is
not UTF-8 has its bad bytes replaced; an annotation without time or text, and a tag without a key, are left out; an
address that has not the size of one is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clew.collector.ingest.addresses import packed_address
from clew.collector.ingest.canonical import (
    INT64,
    MAX_ANNOTATIONS,
    MAX_NAME_CHARS,
    MAX_TAGS,
    AnnotationRow,
    BadPayload,
    EndpointRow,
    SpanKind,
    SpanRow,
    bad_field,
    refuse_too_many,
)
from clew.collector.ingest.lenient import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FIELDS: Final = 3_000_000  # of one payload, about what 16 MiB of real spans have
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KINDS: Final[tuple[SpanKind, ...]] = ("CLIENT", "SERVER", "PRODUCER", "CONSUMER")


class _MalformedError(ValueError):
    """The bytes do not add up to a message."""


def read_spans(payload: bytes) -> list[SpanRow]:
    """Return the spans of a ListOfSpans. Raises :class:`BadPayload` with the index and the reason."""
    reader = _Reader()
    index = 0
    try:
        messages = []
        for key, value in reader.fields(payload):
            if key == 1 << 3 | _BYTES:
                refuse_too_many(index := index + 1, "spans")
                messages.append(value)
        spans = []
        for index, message in enumerate(messages):
            spans.append(reader.span(index, message))
    except (_MalformedError, IndexError) as error:
        what = str(error) if isinstance(error, _MalformedError) else "it is cut off"
        raise BadPayload(
            "malformed", f"Expected a protobuf ListOfSpans; span {index}: {what}. Nothing was stored."
        ) from error
    return spans


class _Reader:
    """Reads messages and counts their fields; ``IndexError`` where one ends too early."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS
        self._endpoints: dict[bytes, EndpointRow] = {}  # the same few in all spans of a payload

    def fields(self, message: bytes) -> Iterator[tuple[int, Any]]:
        """Split a message into keys (number and wire type) and values: numbers or bytes."""
        position, end, count = 0, len(message), 0
        while position < end:
            count += 1
            if count > self._left:
                raise BadPayload(
                    "too_many", f"More than {MAX_FIELDS} fields in one payload. Send it in smaller batches."
                )
            key = message[position]  # most keys and sizes are one byte: a call for each would double the time
            position += 1
            if key >= 0x80:
                key, position = _varint(message, position - 1)
            kind = key & 7
            if kind == _BYTES:
                size = message[position]
                position += 1
                if size >= 0x80:
                    size, position = _varint(message, position - 1)
            elif kind == _VARINT:
                number, position = _varint(message, position)
                yield key, number
                continue
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise _MalformedError(f"wire type {kind} at byte {position} is unknown")
            after = position + size
            if after > end:
                raise _MalformedError(f"length {size} at byte {position} is more than the {end - position} bytes left")
            raw = message[position:after]
            position = after
            yield key, raw if kind == _BYTES else int.from_bytes(raw, "little")
        self._left -= count

    def span(self, index: int, message: bytes) -> SpanRow:
        span = SpanRow("", "")
        tags: dict[str, str] = {}
        annotations: list[AnnotationRow] = []
        for key, value in self.fields(message):
            if key == 11 << 3 | _BYTES:
                self._tag(value, tags)
            elif key == 10 << 3 | _BYTES:
                self._annotation(value, annotations)
            elif key == 1 << 3 | _BYTES:
                span.trace_id = value.hex()
            elif key == 3 << 3 | _BYTES:
                span.id = value.hex()
            elif key == 2 << 3 | _BYTES:
                span.parent_id = value.hex() or None
            elif key == 5 << 3 | _BYTES:
                span.name = _name(index, "name", value)
            elif key == 6 << 3 | _FIXED64:
                span.timestamp = max(0, _signed(value, INT64))
            elif key == 7 << 3 | _VARINT:
                span.duration = max(0, _signed(value, INT64))
            elif key == 4 << 3 | _VARINT:
                span.kind = _KINDS[value - 1] if 0 < value <= len(_KINDS) else span.kind
            elif key == 8 << 3 | _BYTES:
                span.local_endpoint = self._endpoint(index, "localEndpoint", value)
            elif key == 9 << 3 | _BYTES:
                span.remote_endpoint = self._endpoint(index, "remoteEndpoint", value)
            elif key == 12 << 3 | _VARINT:
                span.debug = _flag(value) or span.debug
            elif key == 13 << 3 | _VARINT:
                span.shared = _flag(value) or span.shared
        span.tags, span.annotations = tags or None, annotations or None
        _check(index, span)
        return span

    def _endpoint(self, index: int, field: str, message: bytes) -> EndpointRow:
        if message in self._endpoints:
            return self._endpoints[message]
        endpoint = EndpointRow()
        for key, value in self.fields(message):
            if key == 1 << 3 | _BYTES:
                endpoint.service_name = _name(index, f"{field}.serviceName", value)
            elif key in (2 << 3 | _BYTES, 3 << 3 | _BYTES):
                ipv4, ipv6 = packed_address(value)
                endpoint.ipv4, endpoint.ipv6 = ipv4 or endpoint.ipv4, ipv6 or endpoint.ipv6
            elif key == 4 << 3 | _VARINT:
                port = _signed(value & 0xFFFF_FFFF, 1 << 31)
                if port > 65_535:
                    raise bad_field(index, f"{field}.port", f"{port} is not a port")
                endpoint.port = max(0, port)
        self._endpoints[message] = endpoint
        return endpoint

    def _annotation(self, message: bytes, annotations: list[AnnotationRow]) -> None:
        timestamp, text = 0, ""
        for key, value in self.fields(message):
            if key == 1 << 3 | _FIXED64:
                timestamp = _signed(value, INT64)
            elif key == 2 << 3 | _BYTES:
                text = decode(value)
        if timestamp and text:
            annotations.append(AnnotationRow(timestamp, text))

    def _tag(self, message: bytes, tags: dict[str, str]) -> None:
        name = text = ""
        for key, value in self.fields(message):
            if key == 1 << 3 | _BYTES:
                name = decode(value)
            elif key == 2 << 3 | _BYTES:
                text = decode(value)
        if name:
            tags[name] = text


def _varint(message: bytes, position: int) -> tuple[int, int]:
    byte = message[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    for shift in range(7, 70, 7):
        position += 1
        byte = message[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
    raise _MalformedError(f"a number at byte {position} is longer than ten bytes")


def _check(index: int, span: SpanRow) -> None:
    for field, value, longest in (
        ("traceId", span.trace_id, 32),
        ("id", span.id, 16),
        ("parentId", span.parent_id or "", 16),
    ):
        if not value and field != "parentId":
            raise bad_field(index, field, "is missing")
        if len(value) > longest:
            raise bad_field(index, field, f"must have at most {longest // 2} bytes, not {len(value) // 2}")
    if not span.trace_id.strip("0"):
        raise bad_field(index, "traceId", "is all zeros")
    if span.id == "0" * 16:
        raise bad_field(index, "id", "is all zeros")
    for field, count, most in (
        ("tags", len(span.tags or ()), MAX_TAGS),
        ("annotations", len(span.annotations or ()), MAX_ANNOTATIONS),
    ):
        if count > most:
            raise bad_field(index, field, f"has {count} {field}, more than {most}")


def _name(index: int, field: str, value: bytes) -> str | None:
    text = decode(value)
    if len(text) > MAX_NAME_CHARS:
        raise bad_field(index, field, f"is longer than {MAX_NAME_CHARS} characters")
    return text or None


def _flag(value: int) -> bool:
    if value > 1:
        raise _MalformedError(f"{value} is neither true nor false")
    return value == 1


def _signed(value: int, bound: int) -> int:
    return value - 2 * bound if value >= bound else value
