"""Between the span and the sender: spans and log records as Zipkin v2 JSON, and the limits that both sides keep.

The one module that client and collector share, so it imports nothing but the standard library and does no I/O, reads
no clock and holds no state that matters. JSON names (``traceId``) live here and nowhere else in the client.

What travels:

* **spans**: a JSON array of Zipkin v2 span objects (the ``ListOfSpans`` of Zipkin's OpenAPI page). In a file each line
  is one span object.
* **log records**: an object ``{"logs": [...]}``, so that the first bytes of a datagram or line tell what it holds.
  A record: ``timestamp`` (microseconds since the epoch), ``service``, ``level``, ``logger``, ``message``, and where
  there is one ``traceId``, ``id`` (the span) and ``exception`` (a traceback as text).

Loss travels too. A span dropped by its process is counted, and the next span that is sent carries the counts as tags:
``clew.dropped`` (by reason, since the last batch, this process: ``queue_full=17,too_large=1``) and
``clew.trace_dropped`` (spans of this very trace).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

try:
    from _json import encode_basestring as _quote  # what json.encoder has from there, without importing all of json
except ImportError:  # not CPython
    from json.encoder import encode_basestring as _quote

if TYPE_CHECKING:
    from clew._span import Endpoint, Span

SPANS_PATH: Final = "/api/v2/spans"
LOGS_PATH: Final = "/api/v1/logs"
LOGS_PREFIX: Final = b'{"logs":'  # how a datagram or a line of log records begins

KINDS: Final = frozenset({"CLIENT", "SERVER", "PRODUCER", "CONSUMER"})

# Limits. Longer text is cut and ends in CUT_MARK; what is over a count is left out and counted in the tag CUT_TAG.
MAX_NAME_CHARS: Final = 200
MAX_TAG_KEY_CHARS: Final = 100
MAX_TAG_VALUE_CHARS: Final = 1_024
MAX_STACK_CHARS: Final = 4_096
MAX_TAGS: Final = 64
MAX_ANNOTATIONS: Final = 64
MAX_MESSAGE_CHARS: Final = 8_192  # of one log record
CUT_MARK: Final = "…"

CUT_TAG: Final = "clew.cut"
DROPPED_TAG: Final = "clew.dropped"
TRACE_DROPPED_TAG: Final = "clew.trace_dropped"
_OWN_TAGS: Final[tuple[str, ...]] = (
    CUT_TAG,
    DROPPED_TAG,
    TRACE_DROPPED_TAG,
)  # they tell of loss, so they are never what is cut
ERROR_STACK_TAG: Final = "error.stack"
_ERROR_TAGS: Final = ("error", "error.type", ERROR_STACK_TAG)  # what a span is looked at for, and it comes last

_MAX_KEPT_QUOTES: Final = 4_096  # span names and tag keys are few and recur; hostile ones must not fill the memory
_kept_quotes: dict[str, str] = {}


def cut(text: str, limit: int) -> str:
    """Shorten text to ``limit`` characters, the last of which then is CUT_MARK."""
    return text if len(text) <= limit else text[: limit - 1] + CUT_MARK


def cut_head(text: str, limit: int) -> str:
    """Shorten text to ``limit`` characters by its beginning; the first then is CUT_MARK."""
    return text if len(text) <= limit else CUT_MARK + text[1 - limit :]


def encode_span(span: Span, service: str) -> bytes:
    """Encode a finished span as one Zipkin v2 JSON object; ``service`` is what ``encode_service`` made.

    Pure but for the cache of quoted names. Limits are kept here; lone surrogates, which UTF-8 cannot hold, become "?".
    """
    trace = span.trace
    start_ns = span.start_ns + trace.epoch_offset_ns
    duration_us = span.duration_ns // 1_000
    parent = f'","parentId":"{span.parent_id}' if span.parent_id else ""
    kind = f',"kind":"{span.kind}"' if span.kind else ""
    rest = _tags(span.tags) if span.tags else ""
    if span.annotations:
        rest += _annotations(span.annotations, trace.epoch_offset_ns)
    if span.remote is not None:
        rest += _remote(span.remote)
    if trace.debug:
        rest += ',"debug":true'
    try:
        name = _kept_quotes[span.name]
    except (KeyError, TypeError):  # new, or not text and not even hashable
        name = _quote_short(span.name, MAX_NAME_CHARS)
    text = (
        f'{{"traceId":"{trace.trace_id}","id":"{span.span_id}{parent}"{kind},'
        f'"name":{name},"timestamp":{start_ns // 1_000},'
        f'"duration":{duration_us or 1},{service}{rest}}}'  # Zipkin reads a duration of 0 as unknown
    )
    return text.encode("utf-8", "replace")


class LogLine(NamedTuple):
    """One log record on its way to the collector: ids None outside a trace, ``exception`` a traceback as text."""

    timestamp_us: int
    trace_id: str | None
    span_id: str | None
    service: str
    level: str
    logger: str
    message: str
    exception: str | None


def encode_log(line: LogLine) -> bytes:
    """Encode one log record as a JSON object. The ids are canonical already; all else is quoted."""
    ids = f'"traceId":"{line.trace_id}",' if line.trace_id else ""
    if ids and line.span_id:
        ids += f'"id":"{line.span_id}",'
    exception = f',"exception":{_quote(cut_head(line.exception, MAX_MESSAGE_CHARS))}' if line.exception else ""
    text = (
        f'{{"timestamp":{line.timestamp_us},{ids}"service":{_quote(cut(line.service, MAX_NAME_CHARS))},'
        f'"level":{_quote(cut(line.level, MAX_NAME_CHARS))},"logger":{_quote(cut(line.logger, MAX_NAME_CHARS))},'
        f'"message":{_quote(cut(line.message, MAX_MESSAGE_CHARS))}{exception}}}'
    )
    return text.encode("utf-8", "replace")


def encode_log_within(line: LogLine, limit: int) -> bytes | None:
    """Encode a log record that was too large for one message again, ever shorter; None if nothing of it fits."""
    for chars in (2_048, 512, 128, 32):
        exception = cut_head(line.exception, chars) if line.exception else None
        encoded = encode_log(line._replace(message=cut(line.message, chars), exception=exception))
        if len(encoded) <= limit:
            return encoded
    return None


def encode_span_within(span: Span, service: str, limit: int) -> bytes | None:
    """Encode a span that was too large for one message again, with less: None if even its bare bones do not fit.

    Annotations go first, then ever shorter tag values. The tag CUT_TAG says that something is missing.
    """
    span.annotations = None
    tags = _first_tags(span.tags)
    for chars in (256, 64, 16, 0):
        what = f"annotations, tags over {chars} characters" if chars else "annotations, tags"
        span.tags = {key: cut(value, chars) for key, value in tags.items() if chars and key not in _OWN_TAGS}
        span.tags.update((key, tags[key]) for key in _OWN_TAGS if key in tags)
        span.tags[CUT_TAG] = f"{what}: too large for one message"
        encoded = encode_span(span, service)
        if len(encoded) <= limit:
            return encoded
    return None


def join(messages: list[bytes], kind: str) -> bytes:
    """Frame encoded objects as one message: an array of spans, or an object of log records."""
    return b"[%b]" % b",".join(messages) if kind == "spans" else b'{"logs":[%b]}' % b",".join(messages)


def encode_service(service: str) -> str:
    """Encode the part that all spans of a process share: its ``localEndpoint``."""
    return f'"localEndpoint":{{"serviceName":{_quote(cut(service, MAX_NAME_CHARS))}}}'


def _tags(tags: dict[str, str]) -> str:
    if len(tags) > MAX_TAGS:  # those of the application are counted when they are put; integrations may add some
        tags = _first_tags(tags)
    text = ""
    for key, value in tags.items():  # faster here than join() with a comprehension: two or three tags are usual
        text += f",{_kept_quotes.get(key) or _quote_short(key, MAX_TAG_KEY_CHARS)}:{_quote(value)}"
    return f',"tags":{{{text[1:]}}}'


def _first_tags(tags: dict[str, str]) -> dict[str, str]:
    """Keep the first MAX_TAGS of the application's tags, those of a failure, clew's own; say how many are missing."""
    own: dict[str, str] = {key: tags[key] for key in (*_ERROR_TAGS, *_OWN_TAGS) if key in tags}
    kept = dict([pair for pair in tags.items() if pair[0] not in own][:MAX_TAGS])
    over = len(tags) - len(own) - len(kept)
    kept.update(own)
    if over:
        count_cut_tags(kept, over)
    return kept


def count_cut_tags(tags: dict[str, str], over: int) -> None:
    """Say among a span's tags that so many (more) were left out."""
    before = tags.get(CUT_TAG, "").removeprefix("tags=")
    tags[CUT_TAG] = f"tags={over + (int(before) if before.isdecimal() else 0)}"


def _annotations(annotations: list[tuple[int, str]], epoch_offset_ns: int) -> str:
    events = [
        f'{{"timestamp":{(ticks + epoch_offset_ns) // 1_000},"value":{_quote(value)}}}'
        for ticks, value in annotations[:MAX_ANNOTATIONS]
    ]
    if len(annotations) > MAX_ANNOTATIONS:
        at_us = (annotations[-1][0] + epoch_offset_ns) // 1_000
        events.append(f'{{"timestamp":{at_us},"value":"{CUT_TAG}: more than {MAX_ANNOTATIONS} annotations"}}')
    return f',"annotations":[{",".join(events)}]'


def _remote(remote: Endpoint) -> str:
    parts = []
    if remote.service:
        parts.append(f'"serviceName":{_quote(remote.service)}')
    if remote.ip:
        parts.append(f'"{"ipv6" if ":" in remote.ip else "ipv4"}":{_quote(remote.ip)}')
    if remote.port:
        parts.append(f'"port":{remote.port}')
    return f',"remoteEndpoint":{{{",".join(parts)}}}' if parts else ""


def _quote_short(text: str, limit: int) -> str:
    """Quote a name or a tag's key, cut to ``limit``; the usual ones are kept quoted."""
    if type(text) is not str:  # what an application put among the tags by itself
        return _quote(cut(str(text), limit))
    quoted = _quote(cut(text, limit))
    if len(text) <= MAX_TAG_KEY_CHARS and len(_kept_quotes) < _MAX_KEPT_QUOTES:
        _kept_quotes[text] = quoted
    return quoted
