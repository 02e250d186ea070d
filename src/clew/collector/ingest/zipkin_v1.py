"""Zipkin's old v1 JSON (``POST /api/v1/spans``) as the spans of today; old clients still send it. Pure.

A v1 span says with annotations what v2 has fields for: ``cs`` and ``cr`` (client send and receive), ``sr`` and ``ss``
(server), ``ms``, ``ws``, ``wr``, ``mr`` (messages on the wire) give kind, begin and duration; each annotation and each
*binary annotation* (a tag) names the endpoint that recorded it; ``ca``, ``sa`` and ``ma`` are addresses of the other
side, ``lc`` says only where the span was. One v1 span may hold what client and server recorded; then it becomes two.

The rules are those of Zipkin 3.5.1, case by case; in its words, the span of the first endpoint is *first*, and what has
no endpoint belongs to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from clew.collector.ingest import lenient
from clew.collector.ingest.canonical import (
    MAX_ANNOTATIONS,
    MAX_TAGS,
    AnnotationRow,
    EndpointRow,
    SpanKind,
    SpanRow,
    bad_field,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: Final[dict[str, SpanKind]] = {
    "cs": "CLIENT", "cr": "CLIENT", "sr": "SERVER", "ss": "SERVER", "ms": "PRODUCER", "mr": "CONSUMER",
}  # fmt: skip
_CORE: Final = frozenset(_KINDS) | {"ws", "wr"}
_ADDRESSES: Final = frozenset({"ca", "sa", "ma"})
_OF_V2: Final = frozenset({"tags", "localEndpoint", "remoteEndpoint"})


class _Annotation(NamedTuple):
    timestamp: int
    value: str
    endpoint: EndpointRow | None


class _Tag(NamedTuple):
    """A binary annotation; one without a value is an address."""

    key: str
    value: str | None
    endpoint: EndpointRow | None


class _SpanV1(msgspec.Struct):
    trace_id: str = ""
    id: str = ""
    parent_id: str | None = None
    name: str | None = None
    timestamp: int = 0
    duration: int = 0
    debug: bool | None = None
    annotations: list[_Annotation] = []
    tags: list[_Tag] = []


def read_spans(payload: bytes) -> list[SpanRow]:
    """Return the spans that a JSON array of v1 spans stands for. Raises ``BadPayload``: index and reason."""
    return [row for index, item in enumerate(lenient.items_of(payload)) for row in _convert(index, _span(index, item))]


# --- reading ---


def _span(index: int, item: Any) -> _SpanV1:
    if not isinstance(item, lenient.JsonObject):
        raise bad_field(index, "", f"expected an object, not {lenient.word(item)}")
    span = _SpanV1()
    for key, value in item:
        if key in _OF_V2:
            raise bad_field(index, "", "this is Zipkin's v2 format; send it as POST /api/v2/spans")
        if value is not None or key in ("traceId", "id"):
            _read_field(index, span, key, value)
    if not span.trace_id[-16:].strip("0"):
        raise bad_field(index, "traceId", "is missing or zero")
    if not span.id.strip("0"):
        raise bad_field(index, "id", "is missing or zero")
    span.annotations.sort(key=lambda annotation: annotation[:2])
    span.tags.sort(key=lambda tag: tag.key)
    return span


def _read_field(index: int, span: _SpanV1, key: str, value: Any) -> None:
    if key == "traceId":
        trace_id = lenient.hex_text(index, key, value, 32)
        span.trace_id = trace_id if len(trace_id) == 32 else _low(trace_id)
    elif key == "id":
        span.id = _low(lenient.hex_text(index, key, value, 32))
    elif key == "parentId":
        span.parent_id = _low(lenient.hex_text(index, key, value, 32))
    elif key == "name":
        span.name = lenient.name(index, key, value)
    elif key == "timestamp":
        span.timestamp = lenient.integer(index, key, value)
    elif key == "duration":
        span.duration = lenient.integer(index, key, value)
    elif key == "debug":
        span.debug = lenient.flag(index, key, value) or span.debug
    elif key == "annotations":
        for place, item in enumerate(lenient.array(index, key, value)):
            span.annotations.append(_annotation(index, f"{key}[{place}]", item))
    elif key == "binaryAnnotations":
        for place, item in enumerate(lenient.array(index, key, value)):
            span.tags.extend(_tag(index, f"{key}[{place}]", item))


def _low(text: str) -> str:
    """The last 64 bits of an id."""
    return text[-16:].zfill(16)


def _annotation(index: int, field: str, item: Any) -> _Annotation:
    if not isinstance(item, lenient.JsonObject):
        raise bad_field(index, field, f"expected an object, not {lenient.word(item)}")
    timestamp: int | None = None
    text: str | None = None
    endpoint: EndpointRow | None = None
    for key, value in item:
        if key == "timestamp":
            timestamp = lenient.integer(index, f"{field}.timestamp", value)
        elif key == "value":
            text = lenient.text(index, f"{field}.value", value)
        elif key == "endpoint" and value is not None:
            endpoint = _endpoint(index, f"{field}.endpoint", value)
    if timestamp is None or text is None:
        raise bad_field(index, field, "expected an object with timestamp and value")
    return _Annotation(timestamp, text, endpoint)


def _tag(index: int, field: str, item: Any) -> Iterator[_Tag]:
    """Yield a tag or an address; values other than text, and flags that are no address, are left out."""
    if not isinstance(item, lenient.JsonObject):
        raise bad_field(index, field, f"expected an object, not {lenient.word(item)}")
    name: str | None = None
    text: str | None = None
    set_flag = False
    endpoint: EndpointRow | None = None
    for key, value in item:
        if value is None:
            continue
        if key == "key":
            name = lenient.text(index, f"{field}.key", value)
        elif key == "value" and isinstance(value, str) and not isinstance(value, lenient.JsonNumber):
            text = lenient.text(index, f"{field}.value", value)
        elif key == "value" and isinstance(value, bool):
            set_flag = value
        elif key == "endpoint":
            endpoint = _endpoint(index, f"{field}.endpoint", value)
    if name is None:
        raise bad_field(index, field, "has no key")
    if text is not None:
        yield _Tag(name, text, endpoint)
    elif set_flag and endpoint is not None and name in _ADDRESSES:
        yield _Tag(name, None, endpoint)


def _endpoint(index: int, field: str, value: Any) -> EndpointRow | None:
    """Return the endpoint in lower case, for endpoints are compared here; None when nothing is known of it."""
    read = lenient.endpoint(index, field, value)
    endpoint = EndpointRow((read.service_name or "").lower() or None, read.ipv4, read.ipv6, read.port or None)
    return endpoint if endpoint != EndpointRow() else None


# --- converting ---


def _convert(index: int, source: _SpanV1) -> list[SpanRow]:
    rows = _Conversion(source).rows()
    for row in rows:
        for field, count, most in (
            ("binaryAnnotations", len(row.tags or ()), MAX_TAGS),
            ("annotations", len(row.annotations or ()), MAX_ANNOTATIONS),
        ):
            if count > most:
                raise bad_field(index, field, f"has {count} {field}, more than {most}")
    return rows


class _Conversion:
    """One v1 span on its way to one or more v2 spans, one for each service that recorded something."""

    def __init__(self, source: _SpanV1) -> None:
        self._source = source
        self._core: dict[str, _Annotation] = {}
        self._spans = [self._new(None)]
        self._by_service: dict[str | None, SpanRow] = {}  # the first one of each

    def rows(self) -> list[SpanRow]:
        self._place_annotations()
        self._infer_begin("cs", "cr")
        self._infer_begin("sr", "ss")
        self._time_call()
        self._mark_shared()
        self._time_message()
        self._place_tags()
        return self._spans

    def _new(self, endpoint: EndpointRow | None) -> SpanRow:
        source = self._source
        return SpanRow(
            trace_id=source.trace_id,
            id=source.id,
            parent_id=source.parent_id,
            name=source.name,
            debug=source.debug,
            local_endpoint=endpoint,
        )

    def _add(self, endpoint: EndpointRow) -> SpanRow:
        self._spans.append(self._new(endpoint))
        self._by_service.setdefault(endpoint.service_name, self._spans[-1])
        return self._spans[-1]

    def _at(self, endpoint: EndpointRow | None) -> SpanRow:
        """Return the span of this endpoint's service; the first one when it is unknown."""
        first = self._spans[0]
        if endpoint is None:
            return first
        if first.local_endpoint is None:
            first.local_endpoint = endpoint
            self._by_service[endpoint.service_name] = first
        return self._by_service.get(endpoint.service_name) or self._add(endpoint)

    def _place_annotations(self) -> None:
        for annotation in self._source.annotations:
            span = self._at(annotation.endpoint)
            if annotation.value not in _CORE or annotation.endpoint is None:
                _annotate(span, annotation)
                continue
            span.kind = _KINDS.get(annotation.value, span.kind)
            self._core[annotation.value] = annotation

    def _infer_begin(self, begin: str, end: str) -> None:
        """A begin may be missing where the span's own time and duration say the same."""
        source, last = self._source, self._core.get(end)
        if begin in self._core or last is None or not source.timestamp or not source.duration:
            return
        if source.timestamp + source.duration == last.timestamp:
            self._core[begin] = _Annotation(source.timestamp, begin, last.endpoint)

    def _time_call(self) -> None:
        cs, cr, sr, ss = (self._core.get(value) for value in ("cs", "cr", "sr", "ss"))
        if cs and sr:
            self._time(cs, cr)
            client, server = self._pair(cs, sr, "CLIENT", "SERVER")
            server.shared, server.timestamp = True, max(0, sr.timestamp)
            if ss:
                server.duration = max(0, ss.timestamp - sr.timestamp)
            if not cr and not self._source.duration:
                client.duration = None  # nobody waited for an answer
        elif cs and cr:
            self._time(cs, cr)
        elif sr and ss:
            self._time(sr, ss)
        else:
            self._time_half_call(cs, cr, sr, ss)

    def _time_half_call(self, *core: _Annotation | None) -> None:
        cs, cr, sr, ss = core
        for span in self._spans:
            begin, end = {"CLIENT": (cs, cr), "SERVER": (sr, ss)}.get(span.kind or "", (None, None))
            if begin:
                span.timestamp = max(0, begin.timestamp)
            if end:
                _annotate(span, end)
        if self._source.timestamp:
            self._spans[0].timestamp = max(0, self._source.timestamp)
            self._spans[0].duration = max(0, self._source.duration)

    def _mark_shared(self) -> None:
        """A server that did not begin the span sent no time for it."""
        source, sr = self._source, self._core.get("sr")
        if sr and "cs" not in self._core and (not source.timestamp or ("ss" in self._core and not source.duration)):
            self._at(sr.endpoint).shared = True

    def _time_message(self) -> None:
        ms, ws, wr, mr = (self._core.get(value) for value in ("ms", "ws", "wr", "mr"))
        if ms and mr:
            producer, consumer = self._pair(ms, mr, "PRODUCER", "CONSUMER")
            consumer.shared, consumer.timestamp = True, max(0, (wr or mr).timestamp)
            if wr:
                consumer.duration = max(0, mr.timestamp - wr.timestamp)
            producer.timestamp = max(0, ms.timestamp)
            producer.duration = max(0, ws.timestamp - ms.timestamp) if ws else None
        elif ms:
            self._time(ms, ws)
        elif mr:
            self._time(wr or mr, mr if wr else None)
        else:
            for wire in (ws, wr):
                if wire:
                    _annotate(self._at(wire.endpoint), wire)

    def _pair(
        self, near: _Annotation, far: _Annotation, near_kind: SpanKind, far_kind: SpanKind
    ) -> tuple[SpanRow, SpanRow]:
        """Return the spans of both sides; a service that calls itself has two."""
        span = self._at(near.endpoint)
        if far.endpoint is None or not _same_service(near.endpoint, far.endpoint):
            return span, self._at(far.endpoint)
        span.kind = near_kind
        other = self._add(far.endpoint)
        other.kind = far_kind
        return span, other

    def _time(self, begin: _Annotation, end: _Annotation | None) -> None:
        span, source = self._at(begin.endpoint), self._source
        if source.timestamp and source.duration:
            span.timestamp, span.duration = max(0, source.timestamp), max(0, source.duration)
            return
        span.timestamp = max(0, begin.timestamp)
        if end:
            span.duration = max(0, end.timestamp - begin.timestamp)

    def _place_tags(self) -> None:
        addresses: dict[str, EndpointRow | None] = {}
        for tag in self._source.tags:
            if tag.key in _ADDRESSES:
                addresses[tag.key] = tag.endpoint
                continue
            span = self._at(tag.endpoint)
            if tag.value is not None and not (tag.key == "lc" and not tag.value):
                span.tags = {} if span.tags is None else span.tags
                span.tags[tag.key] = tag.value
        self._place_addresses(addresses.get("ca"), addresses.get("sa"), addresses.get("ma"))

    def _place_addresses(self, ca: EndpointRow | None, sa: EndpointRow | None, ma: EndpointRow | None) -> None:
        cs, cr, sr, ss, ms, mr = (self._core.get(value) for value in ("cs", "cr", "sr", "ss", "ms", "mr"))
        if not (cs or cr or sr or ss) and (ca or sa):
            self._place_bare_addresses(ca, sa)
            return
        server, client = sr or ss, cs or cr
        if ca and server and ca != server.endpoint:
            if _same_service(ca, server.endpoint):  # the port of the client's socket, under the server's own name
                ca = EndpointRow(None, ca.ipv4, ca.ipv6, ca.port)
            self._at(server.endpoint).remote_endpoint = ca
        if sa and client:
            self._at(client.endpoint).remote_endpoint = sa
        for message in (ms, mr):
            if ma and message:
                self._at(message.endpoint).remote_endpoint = ma

    def _place_bare_addresses(self, ca: EndpointRow | None, sa: EndpointRow | None) -> None:
        if ca and sa:
            self._at(ca).remote_endpoint = sa
        elif sa:
            self._spans[0].remote_endpoint = sa
        else:  # only a server knows its client
            self._spans[0].kind, self._spans[0].remote_endpoint = "SERVER", ca


def _same_service(one: EndpointRow | None, other: EndpointRow | None) -> bool:
    return (one.service_name if one else None) == (other.service_name if other else None)


def _annotate(span: SpanRow, annotation: _Annotation) -> None:
    span.annotations = [] if span.annotations is None else span.annotations
    span.annotations.append(AnnotationRow(annotation.timestamp, annotation.value))
