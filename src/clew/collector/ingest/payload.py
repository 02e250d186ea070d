"""Between a receiver and ingest: is this payload what it claims to be? Pure: bytes in, bytes out.

A payload comes as text and goes on as text; the engine parses it again, in C++. Here it is only looked at, by msgspec,
into typed structs, about a microsecond a span, for a bad span must be refused before anything of its payload is kept.

Two ways through:

* the **fast** one takes what Zipkin's clients really send; the bytes go on untouched;
* the **careful** one takes over when the fast one objects: it knows everything that Zipkin's own server lets pass
  (numbers in quotes, whole floats, numbers for names, lone surrogates, a key twice), writes that out in plain form, and
  says for the rest which span is bad and why.

What is accepted and what is not was compared with Zipkin 3.5.1 case by case. Stricter in one thing: nothing may follow
the array.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from clew import wire
from clew.collector.store import Kind

MAX_TAGS: Final = 1_024  # per span; clew's client sends at most 64
MAX_ANNOTATIONS: Final = 10_000  # per span
MAX_NAME_CHARS: Final = 4_096  # of a service, span or tag name
MAX_DEPTH: Final = 255  # of nested arrays and objects, as Zipkin's parser has it
_INT64: Final = 2**63


class BadPayload(Exception):  # noqa: N818 - it names their fault, not ours
    """Their bytes are not what they should be: ``reason`` is a word for a counter, the text a sentence for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Checked(NamedTuple):
    """A payload that may be stored: JSON objects joined by commas, without the brackets around them."""

    kind: Kind
    rows: bytes
    items: int


_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]
_TraceId = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
_SpanId = Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
_Int = Annotated[int, msgspec.Meta(ge=-_INT64, le=_INT64 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_INT64 - 1)]
_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class _Endpoint(msgspec.Struct, gc=False):
    serviceName: _Name | None = None  # noqa: N815 - the wire's names
    ipv4: _Name | None = None
    ipv6: _Name | None = None
    port: _Port | None = None


class _Annotation(msgspec.Struct, gc=False):
    timestamp: _Count
    value: str


class _Span(msgspec.Struct, gc=False):
    traceId: _TraceId  # noqa: N815
    id: _SpanId
    parentId: _SpanId | None = None  # noqa: N815
    kind: Literal["CLIENT", "SERVER", "PRODUCER", "CONSUMER"] | None = None
    name: _Name | None = None
    timestamp: _Int | None = None
    duration: _Int | None = None
    debug: bool | None = None
    shared: bool | None = None
    localEndpoint: _Endpoint | None = None  # noqa: N815
    remoteEndpoint: _Endpoint | None = None  # noqa: N815
    tags: Annotated[dict[_Name, str], msgspec.Meta(max_length=MAX_TAGS)] | None = None
    annotations: Annotated[list[_Annotation], msgspec.Meta(max_length=MAX_ANNOTATIONS)] | None = None
    binaryAnnotations: None = None  # noqa: N815 - Zipkin's old format; the careful way says so


class _Record(msgspec.Struct, gc=False):
    timestamp: _Count
    service: _Name
    message: str
    level: _Name | None = None
    logger: _Name | None = None
    traceId: _TraceId | None = None  # noqa: N815
    id: _SpanId | None = None
    exception: str | None = None


class _Envelope(msgspec.Struct):
    logs: msgspec.Raw


_SPANS: Final = msgspec.json.Decoder(list[_Span])
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_RECORDS: Final = msgspec.json.Decoder(list[_Record])
_HEX: Final = re.compile(r"[0-9a-f]*")
_HEX_DIGITS: Final = b"0123456789abcdef"
_ZEROS: Final = frozenset("0" * n for n in range(1, 33))


def kind_of(payload: bytes) -> Kind:
    """Tell spans from log records by how the bytes begin; what is neither is taken for spans, and refused as such."""
    return "logs" if payload.lstrip()[:1] == b"{" else "spans"


def check(kind: Kind, payload: bytes) -> Checked:
    """Return the payload as it can be stored. Raises :class:`BadPayload`; never keeps a part of a payload."""
    return _check_spans(payload) if kind == "spans" else _check_logs(payload)


def check_carefully(kind: Kind, payload: bytes) -> Checked:
    """Do as :func:`check`, rewriting every object in plain form: for what the engine did not want to read as it was."""
    return _carefully(payload) if kind == "spans" else _check_logs(payload)


def _check_spans(payload: bytes) -> Checked:
    try:
        spans = _SPANS.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _carefully(payload)
    trace_ids = [span.traceId for span in spans]
    ids = "".join(trace_ids) + "".join([span.id for span in spans]) + "".join([span.parentId or "" for span in spans])
    # translate: one pass over bytes, much cheaper than a regular expression
    if ids.encode("ascii", "replace").translate(None, _HEX_DIGITS) or not _ZEROS.isdisjoint(trace_ids):
        return _carefully(payload)
    return Checked("spans", _inside_brackets(payload), len(spans))


def _check_logs(payload: bytes) -> Checked:
    try:
        array = bytes(_ENVELOPE.decode(payload).logs)
        records = _RECORDS.decode(array)
    except msgspec.ValidationError as error:
        raise BadPayload("log_field", f"Log record refused: {error}. Nothing of this payload was stored.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPayload("malformed", f'Expected {{"logs": [...]}}: {error}. Nothing was stored.') from error
    for index, record in enumerate(records):
        _check_hex(index, "log record", "traceId", record.traceId or "")
        _check_hex(index, "log record", "id", record.id or "")
    return Checked("logs", _inside_brackets(array), len(records))


def _inside_brackets(array: bytes) -> bytes:
    return array[array.index(b"[") + 1 : array.rindex(b"]")].strip()


# --- the careful way ---


def _carefully(payload: bytes) -> Checked:
    spans = [_plain_span(index, span) for index, span in enumerate(_parse_array(payload))]
    # "replace": a lone surrogate is no character; Zipkin writes it as a question mark, too
    text = json.dumps(spans, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Checked("spans", text[1:-1], len(spans))


def _parse_array(payload: bytes) -> list[Any]:
    expected = "Expected a JSON array of Zipkin v2 spans"
    try:
        parsed = json.loads(payload.decode("utf-8", "replace"), strict=False, parse_constant=_no_constant)
    except RecursionError as error:
        raise BadPayload("nesting", f"{expected}, nested at most {MAX_DEPTH} deep. Nothing was stored.") from error
    except ValueError as error:
        raise BadPayload("malformed", f"{expected}: {error}. Nothing was stored.") from error
    if not isinstance(parsed, list):
        raise BadPayload("malformed", f"{expected}, not {_word(parsed)}. Nothing was stored.")
    return parsed


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _plain_span(index: int, span: Any) -> dict[str, Any]:
    """Return the span with each field in its plain type, or raise :class:`BadPayload` with the index and the reason."""
    if not isinstance(span, dict):
        raise _bad(index, "", f"expected an object, not {_word(span)}")
    if "binaryAnnotations" in span:
        raise _bad(index, "", "this is Zipkin's old v1 format; send v2, as POST /api/v2/spans has it")
    plain: dict[str, Any] = {}
    for field, read in _FIELDS.items():
        value = span.get(field)
        if value is not None:
            plain[field] = read(index, field, value)
        elif field in ("traceId", "id"):
            raise _bad(index, field, "is missing")
    return plain


def _text(index: int, field: str, value: Any) -> str:
    """Strings, and numbers as text: Zipkin's parser takes both where a string belongs."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise _bad(index, field, f"expected a string, not {_word(value)}")


def _name(index: int, field: str, value: Any) -> str:
    text = _text(index, field, value)
    if len(text) > MAX_NAME_CHARS:
        raise _bad(index, field, f"is longer than {MAX_NAME_CHARS} characters")
    return text


def _trace_id(index: int, field: str, value: Any) -> str:
    text = _hex(index, field, value, 32)
    if text in _ZEROS:
        raise _bad(index, field, "is all zeros")
    return text


def _span_id(index: int, field: str, value: Any) -> str:
    return _hex(index, field, value, 16)


def _hex(index: int, field: str, value: Any, longest: int) -> str:
    text = _text(index, field, value)
    if not 1 <= len(text) <= longest:
        raise _bad(index, field, f"must have 1 to {longest} characters, not {len(text)}")
    _check_hex(index, "span", field, text)
    return text


def _check_hex(index: int, what: str, field: str, text: str) -> None:
    if not _HEX.fullmatch(text):
        raise _bad(index, field, f"{_shown(text)} should be lower-case hex with no prefix", what)


def _integer(index: int, field: str, value: Any) -> int:
    """Whole numbers in any dress: 5, "5", 5.0, 5e0. Beyond 63 bits is cut to 63 bits; below zero means absent."""
    if not isinstance(value, bool) and isinstance(value, (int, float, str)):
        try:
            number = int(value) if not isinstance(value, float) else int(value) if value.is_integer() else None
        except (ValueError, OverflowError):
            number = None
        if number is not None:
            return max(0, min(number, _INT64 - 1))
    raise _bad(index, field, f"expected a whole number, not {_shown(str(value))}")


def _flag(index: int, field: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _bad(index, field, f"expected true or false, not {_word(value)}")


def _kind(index: int, field: str, value: Any) -> str:
    if value in wire.KINDS if isinstance(value, str) else False:
        return str(value)
    raise _bad(index, field, f"{_shown(str(value))} is none of {', '.join(sorted(wire.KINDS))}")


def _endpoint(index: int, field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(index, field, f"expected an object, not {_word(value)}")
    plain: dict[str, Any] = {
        key: _name(index, f"{field}.{key}", value[key])
        for key in ("serviceName", "ipv4", "ipv6")
        if value.get(key) is not None
    }
    if value.get("port") is not None:
        plain["port"] = _integer(index, f"{field}.port", value["port"])
        if plain["port"] > 65_535:
            raise _bad(index, f"{field}.port", f"{plain['port']} is not a port")
    return plain


def _tags(index: int, field: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _bad(index, field, f"expected an object, not {_word(value)}")
    if len(value) > MAX_TAGS:
        raise _bad(index, field, f"has {len(value)} tags, more than {MAX_TAGS}")
    return {_name(index, "tag name", key): _text(index, f"tags.{_shown(key)}", item) for key, item in value.items()}


def _annotations(index: int, field: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise _bad(index, field, f"expected an array, not {_word(value)}")
    if len(value) > MAX_ANNOTATIONS:
        raise _bad(index, field, f"has {len(value)} annotations, more than {MAX_ANNOTATIONS}")
    return [_annotation(index, f"{field}[{position}]", item) for position, item in enumerate(value)]


def _annotation(index: int, field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("timestamp") is None or value.get("value") is None:
        raise _bad(index, field, "expected an object with timestamp and value")
    return {
        "timestamp": _integer(index, f"{field}.timestamp", value["timestamp"]),
        "value": _text(index, f"{field}.value", value["value"]),
    }


_FIELDS: Final = {
    "traceId": _trace_id,
    "id": _span_id,
    "parentId": _span_id,
    "kind": _kind,
    "name": _name,
    "timestamp": _integer,
    "duration": _integer,
    "debug": _flag,
    "shared": _flag,
    "localEndpoint": _endpoint,
    "remoteEndpoint": _endpoint,
    "tags": _tags,
    "annotations": _annotations,
}


def _bad(index: int, field: str, problem: str, what: str = "span") -> BadPayload:
    reason = f"{what}_{field.split('.')[0].split('[')[0] or 'shape'}".replace(" ", "_")
    where = f"{what} {index}, {field}" if field else f"{what} {index}"
    return BadPayload(reason, f"{where}: {problem}. Nothing of this payload was stored.")


def _word(value: Any) -> str:
    words = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def _shown(text: str) -> str:
    """Return hostile text short and harmless: quoted, control characters escaped."""
    return ascii(text if len(text) <= 64 else text[:64] + "…").replace("\\u2026", "...")
