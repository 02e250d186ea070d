"""Between a receiver and the journal: is this payload what it claims to be, and what does it mean? Pure.

Bytes in, bytes out: :mod:`clew.collector.ingest.canonical` says what comes out, and why the engine never parses what a
client wrote. It costs about 2.5 microseconds a span, of which 0.75 are the writing anew.

Two ways through for JSON:

* the **fast** one, msgspec into typed structs, takes what Zipkin's clients really send;
* the **careful** one (:mod:`clew.collector.ingest.lenient`) takes over when the fast one objects, or has dropped a key:
  it knows what Zipkin's own server lets pass, and says for the rest which span is bad and why.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from clew.collector.ingest import lenient, zipkin_proto, zipkin_v1
from clew.collector.ingest.addresses import OrderMattersError
from clew.collector.ingest.canonical import (
    BadPayload,
    Checked,
    RecordRow,
    SpanRow,
    checked_spans,
    encode_rows,
    refuse_too_many,
    tidy_addresses,
)

if TYPE_CHECKING:
    from clew.collector.store import Kind

__all__ = ["BadPayload", "Checked", "Format", "check", "check_carefully", "kind_of"]

Format = Literal["json", "json_v1", "proto3", "otlp", "otlp_json"]
"""What the bytes are: JSON (Zipkin v2, or log records), Zipkin's old v1 JSON, its protobuf; OTLP in both its forms."""

LARGE_BYTES: Final = 1 << 20  # counted before it is decoded: the objects take up to thirty times the bytes
MAX_VALUES: Final = 1_500_000  # of a large payload; 16 MiB of real spans have about a million


class _Envelope(msgspec.Struct):
    logs: msgspec.Raw


_SPANS: Final = msgspec.json.Decoder(list[SpanRow])
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_RECORDS: Final = msgspec.json.Decoder(list[RecordRow])
_HEX_DIGITS: Final = b"0123456789abcdef"
_ZEROS: Final = frozenset("0" * n for n in range(1, 33))


def kind_of(payload: bytes) -> Kind:
    """Tell spans from log records by how the bytes begin; what is neither is taken for spans, and refused as such."""
    return "logs" if payload.lstrip()[:1] == b"{" else "spans"


def check(kind: Kind, payload: bytes, format: Format = "json") -> Checked:
    """Return the payload as it can be stored. Raises :class:`BadPayload`; never keeps a part of a payload."""
    if format == "proto3":
        return checked_spans(zipkin_proto.read_spans(payload))
    if format == "otlp":
        return _check_otlp(kind, payload, is_json=False)
    _refuse_many_values(payload)
    if format == "otlp_json":
        return _check_otlp(kind, payload, is_json=True)
    if format == "json_v1":
        return checked_spans(zipkin_v1.read_spans(payload))
    return _check_spans(payload) if kind == "spans" else _check_logs(payload)


def _check_otlp(kind: Kind, payload: bytes, *, is_json: bool) -> Checked:
    from clew.collector.ingest import otlp  # not at the top: a collector that nobody sends OTLP needs no protobuf

    taken = (otlp.read_spans if kind == "spans" else otlp.read_logs)(payload, is_json=is_json)
    return Checked(kind, encode_rows(taken.rows), len(taken.rows), taken.rejected, taken.problem)


def check_carefully(kind: Kind, payload: bytes) -> Checked:
    """Do as :func:`check`, slowly: for rows that a journal of an older version holds as a client wrote them."""
    return checked_spans(lenient.read_spans(payload)) if kind == "spans" else _check_logs(payload)


def _refuse_many_values(payload: bytes) -> None:
    """Bound what decoding may take before it begins: no JSON has more values than commas, but for one a bracket."""
    if len(payload) > LARGE_BYTES and payload.count(b",") > MAX_VALUES:
        raise BadPayload(
            "too_many", f"More than {MAX_VALUES} values in one payload. Send it in smaller batches; nothing was stored."
        )


def _check_spans(payload: bytes) -> Checked:
    try:
        spans = _SPANS.decode(payload)
        rows = encode_rows(spans)
        right = _ids_are_right(spans) and _nothing_dropped(payload, rows)
        if right and tidy_addresses(spans):
            rows = encode_rows(spans)
    except msgspec.ValidationError as error:
        _refuse_large(payload, error)
        right = False
    except (msgspec.DecodeError, UnicodeError, RecursionError, OrderMattersError):
        right = False
    if not right:
        return checked_spans(lenient.read_spans(payload))
    refuse_too_many(len(spans), "spans")
    return Checked("spans", rows, len(spans))


def _refuse_large(payload: bytes, error: msgspec.ValidationError) -> None:
    """Refuse what is too long and too large at once: the careful reader would take seconds to say the same."""
    if len(payload) > LARGE_BYTES and " of length <= " in str(error):
        raise BadPayload("too_many", f"{error}. Nothing of this payload was stored.") from error


def _ids_are_right(spans: list[SpanRow]) -> bool:
    trace_ids, ids = [span.trace_id for span in spans], [span.id for span in spans]
    joined = "".join(trace_ids) + "".join(ids) + "".join([span.parent_id or "" for span in spans])
    # translate: one pass over bytes, much cheaper than a regular expression
    if joined.encode("ascii", "replace").translate(None, _HEX_DIGITS):
        return False
    return _ZEROS.isdisjoint(trace_ids) and "0000000000000000" not in ids


def _nothing_dropped(payload: bytes, rows: bytes) -> bool:
    """Say whether the rows have all keys of the payload; if not, one came twice, or is unknown or null.

    The decoder keeps the last of two equal keys, where Zipkin adds up tags. Nothing gets longer by being written anew,
    so what has as many bytes as before is whole: most clients write compactly. Else colons are counted: each key has
    one, and those inside texts stay, unless they came as an escape.
    """
    if len(payload) - len(rows) == len(b"[]"):
        return True
    if b"\\" in payload and (b"\\u003a" in payload or b"\\u003A" in payload):  # one byte is found ten times as fast
        return False
    return payload.count(b":") == rows.count(b":")


def _check_logs(payload: bytes) -> Checked:
    if b"\\ud" in payload or b"\\uD" in payload:
        payload = _without_lone_surrogates(payload)
    try:
        array = _ENVELOPE.decode(payload).logs
        records = _RECORDS.decode(array)
        rows = encode_rows(records)
    except msgspec.ValidationError as error:
        raise _bad_record(error) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadPayload("malformed", f'Expected {{"logs": [...]}}: {error}. Nothing was stored.') from error
    refuse_too_many(len(records), "log records")
    for index, record in enumerate(records):
        lenient.check_hex(index, "log record", "traceId", record.trace_id or "")
        lenient.check_hex(index, "log record", "id", record.id or "")
    return Checked("logs", rows, len(records))


def _without_lone_surrogates(payload: bytes) -> bytes:
    """Write a question mark for each half of a character, as spans have it: Python's JSON makes them of odd file names.

    What cannot be read stays as it is, for the reader of it says what is wrong.
    """
    try:
        return json.dumps(json.loads(payload), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return payload


def _bad_record(error: msgspec.ValidationError) -> BadPayload:
    """Say which record it is, from the path that the decoder gives."""
    problem, _, path = str(error).partition(" - at `$[")
    if not path:
        return BadPayload("malformed", f'Expected {{"logs": [...]}}: {error}. Nothing was stored.')
    index, _, field = path.rstrip("`").partition("]")
    where = f"log record {index}, {field[1:]}" if field else f"log record {index}"
    return BadPayload("log_field", f"{where}: {problem}. Nothing of this payload was stored.")
