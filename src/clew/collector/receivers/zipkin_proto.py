"""Zipkin's protobuf (``zipkin.proto3.ListOfSpans``) as the JSON that everything else is. Pure: bytes in, bytes out.

Written by hand, for it is three small messages, and a generated decoder would be a dependency larger than this file.
Hostile input: every length is checked against what is there, varints end after ten bytes, nothing recurses on input.
What the fields may hold is judged afterwards, with the JSON, in :mod:`clew.collector.ingest.payload`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from clew.collector.ingest.payload import BadPayload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KINDS: Final = {1: "CLIENT", 2: "SERVER", 3: "PRODUCER", 4: "CONSUMER"}


class _Field(NamedTuple):
    number: int
    type: int
    value: Any  # int or bytes


def spans_to_json(payload: bytes) -> bytes:
    """Return a ListOfSpans as a JSON array of Zipkin v2 spans. Raises :class:`BadPayload`."""
    index = 0
    spans = []
    try:
        for field in _fields(payload):
            if field.number == 1:
                spans.append(_span(_bytes(field)))
                if not ("traceId" in spans[-1] and "id" in spans[-1]):  # refused now, not after millions of them
                    break
                index += 1
    except (ValueError, UnicodeDecodeError) as error:
        raise BadPayload(
            "malformed", f"Expected a protobuf ListOfSpans; span {index}: {error}. Nothing was stored."
        ) from error
    return msgspec.json.encode(spans)


def _fields(message: bytes) -> Iterator[_Field]:
    """Split a message into its fields; ``ValueError`` when it does not add up."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield _Field(number, kind, value)
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {position} is unknown")
        if size > end - position:
            raise ValueError(f"length {size} at byte {position} is more than the {end - position} bytes left")
        raw = message[position : position + size]
        position += size
        yield _Field(number, kind, raw if kind == _BYTES else int.from_bytes(raw, "little"))


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError(f"a number is cut off at byte {position}")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise ValueError(f"a number at byte {position} is longer than ten bytes")


def _span(message: bytes) -> dict[str, Any]:
    span: dict[str, Any] = {}
    for field in _fields(message):
        if field.number == 10:
            span.setdefault("annotations", []).append(_annotation(_bytes(field)))
        elif field.number == 11:
            key, value = _tag(_bytes(field))
            span.setdefault("tags", {})[key] = value
        elif field.number in _SPAN:
            name, read = _SPAN[field.number]
            span[name] = read(field)
    return {name: value for name, value in span.items() if value not in (None, "")}


def _endpoint(field: _Field) -> dict[str, Any]:
    endpoint: dict[str, Any] = {}
    for part in _fields(_bytes(field)):
        if part.number == 1:
            endpoint["serviceName"] = _text(part)
        elif part.number in (2, 3):
            endpoint["ipv4" if part.number == 2 else "ipv6"] = _address(_bytes(part))
        elif part.number == 4:
            endpoint["port"] = _signed(_number(part))
    return {name: value for name, value in endpoint.items() if value}


def _annotation(message: bytes) -> dict[str, Any]:
    annotation: dict[str, Any] = {"timestamp": 0, "value": ""}
    for field in _fields(message):
        if field.number == 1:
            annotation["timestamp"] = _number(field)
        elif field.number == 2:
            annotation["value"] = _text(field)
    return annotation


def _tag(message: bytes) -> tuple[str, str]:
    pair = {1: "", 2: ""}
    for field in _fields(message):
        if field.number in pair:
            pair[field.number] = _text(field)
    return pair[1], pair[2]


def _bytes(field: _Field) -> bytes:
    if field.type != _BYTES:
        raise ValueError(f"field {field.number} should hold bytes")
    return bytes(field.value)


def _text(field: _Field) -> str:
    return _bytes(field).decode("utf-8")


def _number(field: _Field) -> int:
    if field.type == _BYTES:
        raise ValueError(f"field {field.number} should hold a number")
    return int(field.value)


def _id(field: _Field) -> str:
    return _bytes(field).hex()


def _kind(field: _Field) -> str | None:
    return _KINDS.get(_number(field))


def _flag(field: _Field) -> bool:
    return bool(_number(field))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _address(raw: bytes) -> str:
    """Return an address as text; '' when it has not the size of one, as Zipkin ignores it, too."""
    return str(ipaddress.ip_address(raw)) if len(raw) in (4, 16) else ""


_SPAN: Final[dict[int, tuple[str, Callable[[_Field], Any]]]] = {
    1: ("traceId", _id),
    2: ("parentId", _id),
    3: ("id", _id),
    4: ("kind", _kind),
    5: ("name", _text),
    6: ("timestamp", _number),
    7: ("duration", _number),
    8: ("localEndpoint", _endpoint),
    9: ("remoteEndpoint", _endpoint),
    12: ("debug", _flag),
    13: ("shared", _flag),
}
