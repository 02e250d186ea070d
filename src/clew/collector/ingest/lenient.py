"""Zipkin v2 JSON with all that Zipkin's own server lets pass, read field by field: the careful way of ``payload``.

Twenty times as slow as the typed decoder, and taken only for what that one objects to: numbers in quotes, whole floats,
numbers where text belongs, raw control characters, bad UTF-8, lone surrogates, unknown keys, a key given twice. The
rules are those of the reader inside Zipkin 3.5.1 (gson's), compared case by case:

* a key counts each time it comes: the last value holds, tags and annotations add up; ``null`` is as if it were not
  there, but for the ids;
* a number where text belongs is the text of it, as it was written; text where a number belongs is read as one;
* an integer beyond 64 bits, or one with a fraction, is refused.

A payload is read span by span, so a bad one ends it before what follows costs anything. Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from clew import wire
from clew.collector.ingest.addresses import parse_address
from clew.collector.ingest.canonical import (
    INT64,
    MAX_ANNOTATIONS,
    MAX_NAME_CHARS,
    MAX_TAGS,
    AnnotationRow,
    BadPayload,
    EndpointRow,
    SpanRow,
    bad_field,
    refuse_too_many,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_NUMBER_CHARS: Final = 1_024
_INT32: Final = 2**31
_HEX: Final = re.compile(r"[0-9a-f]*")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_SURROGATE: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class JsonObject(list[tuple[str, Any]]):
    """A JSON object as it was written: each key as often as it came."""


class JsonNumber(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# strict=False: control characters inside strings are fine
_DECODER: Final = json.JSONDecoder(
    strict=False,
    object_pairs_hook=JsonObject,
    parse_int=JsonNumber,
    parse_float=JsonNumber,
    parse_constant=_no_constant,
)


def read_spans(payload: bytes) -> list[SpanRow]:
    """Return the spans of a JSON array. Raises :class:`BadPayload` with the index and the reason."""
    return [_span(index, item) for index, item in enumerate(items_of(payload))]


def items_of(payload: bytes) -> Iterator[Any]:
    """Yield the items of a JSON array one after another; raises :class:`BadPayload` where it is none."""
    try:
        yield from _items(decode(payload))
    except RecursionError as error:
        raise BadPayload("nesting", "A span is nested too deeply. Nothing was stored.") from error
    except ValueError as error:
        raise BadPayload("malformed", f"Expected a JSON array of Zipkin spans: {error}. Nothing was stored.") from error


def decode(text: bytes) -> str:
    """Decode UTF-8 as Zipkin does: a bad character becomes one U+FFFD, also a surrogate."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return _SURROGATE.sub(b"\xef\xbf\xbd", text).decode("utf-8", "replace")


def _items(text: str) -> Iterator[Any]:
    position = _skip(text, 0)
    if text[position : position + 1] != "[":
        raise ValueError(f"it begins with {shown(text[position : position + 8])}")
    position = _skip(text, position + 1)
    more = text[position : position + 1] != "]"
    count = 0
    while more:
        item, position = _DECODER.raw_decode(text, position)
        refuse_too_many(count := count + 1, "spans")
        yield item
        position = _skip(text, position)
        after = text[position : position + 1]
        if after not in (",", "]"):
            raise ValueError(f"item {count - 1} is followed by {shown(text[position : position + 8])}")
        more = after == ","
        position = _skip(text, position + 1) if more else position
    if _skip(text, position + 1) != len(text):
        raise ValueError("something follows the array")


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _span(index: int, item: Any) -> SpanRow:
    if not isinstance(item, JsonObject):
        raise bad_field(index, "", f"expected an object, not {word(item)}")
    fields: dict[str, Any] = {}
    for key, value in item:
        if key == "binaryAnnotations":
            raise bad_field(index, "", "this is Zipkin's old v1 format; send it as POST /api/v1/spans")
        if key in _FIELDS and (value is not None or key in ("traceId", "id")):
            name, read = _FIELDS[key]
            _merge(fields, name, read(index, key, value))
    require(index, fields, "trace_id", "id")
    _refuse_many(index, "tags", len(fields.get("tags", ())), MAX_TAGS)
    _refuse_many(index, "annotations", len(fields.get("annotations", ())), MAX_ANNOTATIONS)
    return SpanRow(**fields)


def _merge(fields: dict[str, Any], name: str, value: Any) -> None:
    if name == "tags":
        fields.setdefault(name, {}).update(value)
    elif name == "annotations":
        fields.setdefault(name, []).extend(value)
    elif value is not False:  # a flag that was set stays so
        fields[name] = value


def require(index: int, fields: dict[str, Any], *names: str) -> None:
    """Raise :class:`BadPayload` for the first of these fields that is missing."""
    for name in names:
        if fields.get(name) is None:
            raise bad_field(index, "traceId" if name == "trace_id" else name, "is missing")


def _refuse_many(index: int, field: str, count: int, most: int) -> None:
    if count > most:
        raise bad_field(index, field, f"has {count} {field}, more than {most}")


def text(index: int, field: str, value: Any) -> str:
    """Strings, and numbers as text: Zipkin's parser takes both where a string belongs."""
    if not isinstance(value, str):
        raise bad_field(index, field, f"expected a string, not {word(value)}")
    # "replace": a lone surrogate is no character; Zipkin writes it as a question mark, too
    return str(value) if value.isascii() else value.encode("utf-8", "replace").decode()


def name(index: int, field: str, value: Any) -> str:
    """A text of bounded length."""
    read = text(index, field, value)
    if len(read) > MAX_NAME_CHARS:
        raise bad_field(index, field, f"is longer than {MAX_NAME_CHARS} characters")
    return read


def hex_text(index: int, field: str, value: Any, longest: int) -> str:
    """Lower-case hex of 1 to ``longest`` characters."""
    read = text(index, field, value)
    if not 1 <= len(read) <= longest:
        raise bad_field(index, field, f"must have 1 to {longest} characters, not {len(read)}")
    check_hex(index, "span", field, read)
    return read


def check_hex(index: int, what: str, field: str, value: str) -> None:
    """Raise :class:`BadPayload` for anything but lower-case hex digits."""
    if not _HEX.fullmatch(value):
        raise bad_field(index, field, f"{shown(value)} should be lower-case hex with no prefix", what)


def _trace_id(index: int, field: str, value: Any) -> str:
    read = hex_text(index, field, value, 32)
    if not read.strip("0"):
        raise bad_field(index, field, "is all zeros")
    return read


def _id(index: int, field: str, value: Any) -> str:
    read = hex_text(index, field, value, 16)
    if read == "0" * 16:  # shorter ones pass, in Zipkin, too
        raise bad_field(index, field, "is all zeros")
    return read


def _parent_id(index: int, field: str, value: Any) -> str:
    return hex_text(index, field, value, 16)


def integer(index: int, field: str, value: Any, bound: int = INT64) -> int:
    """Whole numbers in any dress: 5, "5", 5.0, 5e0. What does not fit into 64 bits (or ``bound``) is refused."""
    read = _whole(value, bound) if isinstance(value, str) else None
    if read is None:
        bits = bound.bit_length()
        raise bad_field(index, field, f"expected a whole number of {bits} bits, not {_seen(value)}")
    return read


def _whole(written: str, bound: int) -> int | None:
    written = written.strip(" \t\n\r")
    if len(written) > MAX_NUMBER_CHARS or not _DECIMAL.fullmatch(written):
        return None
    if _WHOLE.fullmatch(written) and -bound <= int(written) < bound:
        return int(written)
    approximate = float(written)
    if abs(approximate) > bound:
        return None
    nearest = max(-bound, min(int(approximate), bound - 1))
    return nearest if float(nearest) == approximate else None  # as a double: 2**63 itself is 2**63 - 1


def _count(index: int, field: str, value: Any) -> int:
    """A moment or a duration: below zero means absent."""
    return max(0, integer(index, field, value))


def flag(index: int, field: str, value: Any) -> bool:
    """True or false, as a word of JSON."""
    if not isinstance(value, bool):
        raise bad_field(index, field, f"expected true or false, not {word(value)}")
    return value


def _kind(index: int, field: str, value: Any) -> str:
    if not isinstance(value, str) or value not in wire.KINDS:
        raise bad_field(index, field, f"{_seen(value)} is none of {', '.join(sorted(wire.KINDS))}")
    return str(value)


def endpoint(index: int, field: str, value: Any) -> EndpointRow:
    """A network place: its names and address as text, its port a number up to 65535 (below zero: unknown)."""
    if not isinstance(value, JsonObject):
        raise bad_field(index, field, f"expected an object, not {word(value)}")
    read = EndpointRow()
    for key, part in value:
        if part is None:
            continue
        where = f"{field}.{key}"
        if key == "serviceName":
            read.service_name = name(index, where, part)
        elif key in ("ipv4", "ipv6"):
            ipv4, ipv6 = parse_address(name(index, where, part))
            read.ipv4, read.ipv6 = ipv4 or read.ipv4, ipv6 or read.ipv6
        elif key == "port":
            read.port = port(index, where, integer(index, where, part, _INT32))
    return read


def port(index: int, field: str, number: int) -> int:
    """A port's number; 0 (unknown) for one below zero."""
    if number > 65_535:
        raise bad_field(index, field, f"{number} is not a port")
    return max(0, number)


def _tags(index: int, field: str, value: Any) -> dict[str, str]:
    if not isinstance(value, JsonObject):
        raise bad_field(index, field, f"expected an object, not {word(value)}")
    return {text(index, "tag name", key): text(index, f"tags.{shown(key)}", item) for key, item in value}


def _annotations(index: int, field: str, value: Any) -> list[AnnotationRow]:
    return [_annotation(index, f"{field}[{place}]", item) for place, item in enumerate(array(index, field, value))]


def array(index: int, field: str, value: Any) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list) or isinstance(value, JsonObject):
        raise bad_field(index, field, f"expected an array, not {word(value)}")
    return value


def _annotation(index: int, field: str, value: Any) -> AnnotationRow:
    read: dict[str, Any] = {}
    for key, part in value if isinstance(value, JsonObject) else ():
        if key == "timestamp":
            read[key] = integer(index, f"{field}.timestamp", part)
        elif key == "value":
            read[key] = text(index, f"{field}.value", part)
    if len(read) < 2:
        raise bad_field(index, field, "expected an object with timestamp and value")
    return AnnotationRow(**read)


_FIELDS: Final[dict[str, tuple[str, Callable[[int, str, Any], Any]]]] = {
    "traceId": ("trace_id", _trace_id),
    "id": ("id", _id),
    "parentId": ("parent_id", _parent_id),
    "kind": ("kind", _kind),
    "name": ("name", name),
    "timestamp": ("timestamp", _count),
    "duration": ("duration", _count),
    "debug": ("debug", flag),
    "shared": ("shared", flag),
    "localEndpoint": ("local_endpoint", endpoint),
    "remoteEndpoint": ("remote_endpoint", endpoint),
    "tags": ("tags", _tags),
    "annotations": ("annotations", _annotations),
}


def word(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if isinstance(value, JsonNumber):
        return "a number"
    words = {JsonObject: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return words[type(value)]


def _seen(value: Any) -> str:
    return shown(value) if isinstance(value, str) else word(value)
