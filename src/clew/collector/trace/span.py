"""One span as the collector reads it: Zipkin's v2 model, already normalised.

Absent is the empty value (``None``, ``0``, ``()``, ``{}``), so a duration or timestamp of 0 means "not recorded", as in
Zipkin. Field order is the order in which Zipkin writes the JSON members.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ERROR_TAG = "error"
_LOWER_HEX = re.compile(r"[0-9a-f]*", re.ASCII)
_encoder = msgspec.json.Encoder()


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A network place: the service's lower-case name and, where known, its addresses. ``port`` 0 is unknown."""

    service_name: str | None = None
    ipv4: str | None = None
    ipv6: str | None = None
    port: int = 0

    def merged_with(self, other: Endpoint) -> Endpoint:
        """Fill what is unknown here from ``other``."""
        return Endpoint(
            self.service_name or other.service_name,
            self.ipv4 or other.ipv4,
            self.ipv6 or other.ipv6,
            self.port or other.port,
        )


class Annotation(msgspec.Struct, frozen=True, order=True):
    """A moment in a span: microseconds since the epoch, and what happened."""

    timestamp: int
    value: str


class Span(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One operation of one service, or a part of it that was reported separately.

    ``timestamp`` is in microseconds since the epoch, ``duration`` in microseconds. ``tags`` must not be changed after
    construction: spans are shared between lists.
    """

    trace_id: str
    parent_id: str | None = None
    id: str = msgspec.field(default="")
    kind: str | None = None
    name: str | None = None
    timestamp: int = 0
    duration: int = 0
    local_endpoint: Endpoint | None = None
    remote_endpoint: Endpoint | None = None
    annotations: tuple[Annotation, ...] = ()
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    debug: bool = False
    shared: bool = False

    @property
    def service(self) -> str | None:
        """The local service's name."""
        return self.local_endpoint.service_name if self.local_endpoint else None

    @property
    def remote_service(self) -> str | None:
        """The remote service's name."""
        return self.remote_endpoint.service_name if self.remote_endpoint else None

    @property
    def failed(self) -> bool:
        """Whether there is an ``error`` tag, whatever its value: also an empty one counts, as in Zipkin."""
        return ERROR_TAG in self.tags


def make_endpoint(service: str, ipv4: str, ipv6: str, port: int) -> Endpoint | None:
    """Return the endpoint, or None when all of it is unknown."""
    if not (service or ipv4 or ipv6 or port):
        return None
    return Endpoint(service or None, ipv4 or None, ipv6 or None, port)


def sorted_annotations(pairs: Iterable[tuple[int, str]]) -> tuple[Annotation, ...]:
    """Return annotations in time order, each only once."""
    return tuple(Annotation(timestamp, value) for timestamp, value in sorted(set(pairs)))


def sorted_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags in the order of their keys, as Zipkin answers them."""
    return dict(sorted(tags.items()))


def normalize_trace_id(text: str) -> str:
    """Return a trace id as it is stored: 16 or 32 lower-case hex characters, padded on the left.

    Thirty-two characters that begin with sixteen zeros are the 64-bit id. Raises ValueError, in Zipkin's words, for
    anything else (empty, longer than 32, not lower-case hex, all zeros).
    """
    if not text:
        raise ValueError("traceId is empty")
    if len(text) > 32:
        raise ValueError("traceId.length > 32")
    _check_hex(text)
    if not text.strip("0"):
        raise ValueError("traceId is all zeros")
    if len(text) == 32 and text.startswith("0" * 16):
        return text[16:]
    return text.zfill(32 if len(text) > 16 else 16)


def normalize_span_id(text: str) -> str:
    """Return a span id as 16 lower-case hex characters; raises ValueError for anything that is none."""
    if not text:
        raise ValueError("id is empty")
    if len(text) > 16:
        raise ValueError("id.length > 16")
    _check_hex(text)
    if not text.strip("0"):
        raise ValueError("id is all zeros")
    return text.zfill(16)


def encode_spans(spans: list[Span]) -> bytes:
    """Return Zipkin's v2 JSON array of the spans."""
    return _encoder.encode(spans)


def encode_traces(traces: list[list[Span]]) -> bytes:
    """Return a JSON array of arrays of spans."""
    return _encoder.encode(traces)


def encode_json(value: Any) -> bytes:
    """Return any value made of built-in types and spans as JSON."""
    return _encoder.encode(value)


def without_duplicates(spans: Iterable[Span]) -> list[Span]:
    """Return the spans without exact repetitions, in their order: a batch that was sent twice counts once."""
    return list({_encoder.encode(span): span for span in spans}.values())


def _check_hex(text: str) -> None:
    if not _LOWER_HEX.fullmatch(text):
        raise ValueError(f"{text} should be lower-hex encoded with no prefix")
