"""What a payload means, whatever it was written in: typed spans and log records, and the one JSON made of them.

Between the readers of formats (``payload``, ``lenient``, ``zipkin_v1``, ``zipkin_proto``) and the journal. The engine
never sees what a client wrote: two parsers of one text disagree (about a key's case, a key given twice, a number beyond
64 bits), and then what was checked is not what is stored. So every reader ends in these structs, and what the engine
parses is written from them here: each key once and in its place, no key that is not a column, plain numbers, valid
UTF-8. Pure.

Absent is None and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec

from clew.collector.ingest.addresses import canonical_addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.store import Kind

MAX_TAGS: Final = 1_024  # per span; clew's client sends at most 64
MAX_ANNOTATIONS: Final = 10_000  # per span
MAX_NAME_CHARS: Final = 4_096  # of a service or span name
MAX_SPANS: Final = 300_000  # per payload: 16 MiB hold fewer that say anything, but two million that are only two ids
INT64: Final = 2**63


class BadPayload(Exception):  # noqa: N818 - it names their fault, not ours
    """Their bytes are not what they should be: ``reason`` is a word for a counter, the text a sentence for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Checked(NamedTuple):
    """A payload that may be stored: JSON objects joined by commas, without the brackets around them.

    ``rejected`` items were left out, where the protocol lets a receiver take the rest (OTLP); ``problem`` says why.
    """

    kind: Kind
    rows: bytes
    items: int
    rejected: int = 0
    problem: str = ""


SpanKind = Literal["CLIENT", "SERVER", "PRODUCER", "CONSUMER"]
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]
_TraceId = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
_SpanId = Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
_Integer = Annotated[int, msgspec.Meta(ge=-INT64, le=INT64 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=INT64 - 1)]
_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class EndpointRow(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """A network place; an endpoint of which nothing is known is the same as none."""

    service_name: _Name | None = None
    ipv4: _Name | None = None
    ipv6: _Name | None = None
    port: _Port | None = None


class AnnotationRow(msgspec.Struct, gc=False):
    """A moment in a span, in microseconds since the epoch; before it, too, as Zipkin has it."""

    timestamp: _Integer
    value: str


class SpanRow(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """One reported span, fields in the order of the table's columns (the engine guesses the next key by it)."""

    trace_id: _TraceId
    id: _SpanId
    parent_id: _SpanId | None = None
    kind: SpanKind | None = None
    name: _Name | None = None
    timestamp: _Count | None = None
    duration: _Count | None = None
    debug: bool | None = None
    shared: bool | None = None
    local_endpoint: EndpointRow | None = None
    remote_endpoint: EndpointRow | None = None
    tags: Annotated[dict[str, str], msgspec.Meta(max_length=MAX_TAGS)] | None = None
    annotations: Annotated[list[AnnotationRow], msgspec.Meta(max_length=MAX_ANNOTATIONS)] | None = None


class RecordRow(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """One log record; ids are those of the trace and span it was written in."""

    timestamp: _Count
    service: _Name
    message: str
    level: _Name | None = None
    logger: _Name | None = None
    trace_id: _TraceId | None = None
    id: _SpanId | None = None
    exception: str | None = None


_encoder: Final = msgspec.json.Encoder()


def encode_rows(rows: Sequence[SpanRow | RecordRow]) -> bytes:
    """Return the rows as JSON objects joined by commas. ``UnicodeEncodeError`` for a lone surrogate."""
    return _encoder.encode(rows)[1:-1]


def checked_spans(spans: list[SpanRow]) -> Checked:
    """Return spans, of which each field is right, as the store takes them; raises :class:`BadPayload`."""
    refuse_too_many(len(spans), "spans")
    return Checked("spans", encode_rows(spans), len(spans))


def refuse_too_many(count: int, what: str) -> None:
    """Raise :class:`BadPayload` for more than :data:`MAX_SPANS` of them in one payload."""
    if count > MAX_SPANS:
        raise BadPayload(
            "too_many", f"More than {MAX_SPANS} {what} in one payload. Send it in smaller batches; nothing was stored."
        )


def tidy_addresses(spans: list[SpanRow]) -> bool:
    """Bring every address to the field and the form that Zipkin gives it; return whether any had to be changed.

    Most are right and the same few again and again, so the usual cost is that of collecting them. ``OrderMattersError``
    where the fields alone do not tell.
    """
    pairs = {(end.ipv4, end.ipv6) for span in spans if (end := span.local_endpoint) is not None}
    pairs |= {(end.ipv4, end.ipv6) for span in spans if (end := span.remote_endpoint) is not None}
    odd = {pair for pair in pairs if canonical_addresses(*pair) != pair}
    for span in spans if odd else ():
        for end in (span.local_endpoint, span.remote_endpoint):
            if end is not None:
                end.ipv4, end.ipv6 = canonical_addresses(end.ipv4, end.ipv6)
    return bool(odd)


def bad_field(index: int, field: str, problem: str, what: str = "span") -> BadPayload:
    """Return the refusal of one field of the span (or record) at this index."""
    reason = f"{what}_{field.split('.')[0].split('[')[0] or 'shape'}".replace(" ", "_")
    where = f"{what} {index}, {field}" if field else f"{what} {index}"
    return BadPayload(reason, f"{where}: {problem}. Nothing of this payload was stored.")


def shown(text: str) -> str:
    """Return hostile text short and harmless: quoted, control characters escaped."""
    return ascii(text if len(text) <= 64 else text[:64] + "…").replace("\\u2026", "...")
