"""The configured tracer: options, new traces, ``start_span``. Where a trace begins, and what the integrations call.

Configuration happens once; nothing is decided per span. ``configure`` may be called again: what is queued is delivered
the old way first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from clew import _context, _exits, _options, _propagation
from clew._alarms import is_alarm
from clew._context import (
    ENDED_ELSEWHERE,
    Node,
    RemoteSpan,
    Trace,
    TraceContext,
    active,
    current,
    new_span_id,
    new_trace_id,
    parse_span_id,
    parse_trace_id,
)
from clew._sampler import Sampler, parse_sampler
from clew._span import UNFINISHED, Span, make_span, to_key, to_tag, to_text
from clew.reporter import Reporter
from clew.wire import KINDS, MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS, MAX_TAGS, count_cut_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from clew.senders import Sender

_DEFAULT_QUEUE_SIZE: Final = 10_000  # spans; about 1 kB each while queued
_DEFAULT_FLUSH_INTERVAL_S: Final = 0.5
_DEFAULT_EXIT_TIMEOUT_S: Final = 2.0
_MAX_UNFINISHED: Final = 1_000  # spans inside each other; Python's recursion limit allows fewer
_SELDOM: Final = 1 << 56  # of 64 random bits one in 256 is below
_DEFAULT_PROPAGATE: Final = "x,w3c"
_DEFAULT_EXTRACT: Final = "x,w3c,b3"


class Tracer:
    """What ``configure`` made of the options. Read-only once in use; safe in any thread."""

    def __init__(
        self,
        service: str,
        reporter: Reporter,
        sampler_option: str | float | Sampler = "always",
        propagate: Sequence[str] = ("x", "w3c"),
        extract: Sequence[str] = ("x", "w3c", "b3"),
        tags: Mapping[str, str] | None = None,
        logs: bool = False,
        enabled: bool = True,
        exit_timeout_s: float = _DEFAULT_EXIT_TIMEOUT_S,
        orphan_sql: bool = False,
        sqlcommenter: bool = False,
    ) -> None:
        self.service = service
        self.reporter = reporter
        self.report: Callable[[Span], None] = reporter.spans.put
        self.propagate = tuple(propagate)
        self.extract_order = tuple(extract)
        self.tags = dict(tags or {})
        self.logs = logs
        self.enabled = enabled
        self.exit_timeout_s = exit_timeout_s
        self.orphans = 0  # statements outside any trace that made no span
        self.orphan_sql = orphan_sql
        self.sqlcommenter = sqlcommenter
        self._sampler_option = sampler_option
        self._sampler = parse_sampler(sampler_option)

    def new_trace(self) -> Trace:
        """Begin a trace with a fresh id."""
        trace_id = new_trace_id()
        return Trace(trace_id, self.decide(trace_id), self.report, _context.epoch_offset_ns(), random=True)

    def join_trace(self, remote: _propagation.Remote) -> Trace:
        """Begin this process's part of the caller's trace; or a new one, where only the decision came."""
        trace_id = remote.trace_id or new_trace_id()
        sampled = self.decide(trace_id) if remote.sampled is None else remote.sampled
        random = remote.random if remote.trace_id else True
        offset = _context.epoch_offset_ns()
        return Trace(trace_id, sampled, self.report, offset, remote.tracestate, remote.debug, random)

    def allows_orphan_sql(self) -> bool:
        """Tell whether a statement outside any trace begins one; count it where it does not."""
        if not self.orphan_sql:
            self.orphans += 1
        return self.orphan_sql

    def decide(self, trace_id: str) -> bool:
        """Ask the sampler. One that fails keeps the trace: better too much than a mystery."""
        try:
            return bool(self._sampler(trace_id))
        except Exception as problem:
            if is_alarm(problem):
                raise
            self.reporter.note_error(f"the sampler failed: {problem!r}")
            return True

    def after_fork_in_child(self) -> None:
        """Leave the parent's locks, thread and queue behind."""
        self.reporter.after_fork_in_child()
        self.report = self.reporter.spans.put
        self._sampler = parse_sampler(self._sampler_option)  # a rate's lock may be held for ever


_tracer = Tracer("-", Reporter(None, "-", 1, 1.0))  # until configure(): traces are followed, nothing is reported


def configure(
    service: str | None = None,
    reporter: str | Sender | None = None,
    *,
    sampler: str | float | Sampler | None = None,
    propagate: str | Sequence[str] | None = None,
    extract: str | Sequence[str] | None = None,
    logs: bool | None = None,
    tags: Mapping[str, str] | str | None = None,
    token: str | None = None,
    queue_size: int | None = None,
    flush_interval: float | None = None,
    exit_timeout: float | None = None,
    orphan_sql: bool | None = None,
    sqlcommenter: bool | None = None,
    enabled: bool | None = None,
) -> None:
    """Set up tracing for this process. Every option left out is read from ``CLEW_<OPTION>``, else has its default.

    Raises ValueError at once for a value that cannot be right; afterwards nothing in clew raises into the application.
    Opens no connection and starts no thread: the first finished span does. Call it once at start-up, before or after
    a fork; a second call replaces the first.

    - ``service``: this program's name on spans and log lines. Default: the program's file or module name.
    - ``reporter``: ``udp://host:port`` (default ``udp://127.0.0.1:9410``), ``http://host:port``, ``https://...``,
      ``file:///path`` (``?max_bytes=&backups=``), ``none``; or an object of one's own with the ``Sender`` methods.
    - ``sampler``: for traces that begin here: ``always`` (default), ``never``, a ratio (``0.1``, ``10%``), a rate
      (``5/s``), or a function of the trace id. What the caller decided stands.
    - ``propagate``: formats of outgoing headers, of ``x``, ``w3c``, ``b3``, ``b3single``. Default ``x,w3c``.
    - ``extract``: formats of incoming headers, the preferred first. Default ``x,w3c,b3``.
    - ``logs``: also send log records to the collector (needs ``clew.logging.install()``). Default no.
    - ``tags``: put on each trace's first span in this process: a mapping, or ``"env=prod,version=1.2"``.
    - ``token``: sent as ``Authorization: Bearer`` by the HTTP reporter.
    - ``queue_size``: spans kept while the collector is slow, and as many log records. Default 10,000.
    - ``flush_interval``: seconds that a span waits for company. Default 0.5.
    - ``exit_timeout``: seconds that the end of the process may be delayed to deliver what is queued. Default 2.
    - ``orphan_sql``: SQL statements outside any trace begin one each. Default no; then they are only counted.
    - ``sqlcommenter``: SQL statements get a comment with their ``traceparent``, for the database's logs. Default no.
    - ``enabled``: no: nothing is patched, sampled or reported; headers and log lines still carry ids. Default yes.
    """
    global _tracer
    name = _options.read_text("service", service, "") or _options.program_name()
    on = _options.read_boolean("enabled", enabled, True)
    sender = _options.read_sender(reporter, _options.read_token(token)) if on else None
    size = int(_options.read_number("queue_size", queue_size, _DEFAULT_QUEUE_SIZE, least=1))
    interval = _options.read_number("flush_interval", flush_interval, _DEFAULT_FLUSH_INTERVAL_S, least=0.001)
    configured = Tracer(
        name,
        Reporter(sender, name, size, interval, _catch_sigterm),
        _options.read_option("sampler", sampler, "always") if on else "never",
        _options.read_formats("propagate", propagate, _DEFAULT_PROPAGATE),
        _options.read_formats("extract", extract, _DEFAULT_EXTRACT),
        _own_tags(_options.read_tags(tags)),
        _options.read_boolean("logs", logs, False),
        on,
        _options.read_number("exit_timeout", exit_timeout, _DEFAULT_EXIT_TIMEOUT_S, least=0.0),
        _options.read_boolean("orphan_sql", orphan_sql, False),
        _options.read_boolean("sqlcommenter", sqlcommenter, False),
    )
    shutdown()
    replaced, _tracer = _tracer, configured
    replaced.reporter.spans.hand_over(configured.reporter.spans)  # spans in flight end here
    _hook_process()


def tracer() -> Tracer:
    """Return the tracer in force; before ``configure`` one that reports nothing."""
    return _tracer


# Spans.


def start_span(name: str, kind: str | None = None, tags: Mapping[str, object] | None = None) -> Span:
    """Start a span under the active one and make it active; end it by ``with``, ``finish_span`` or ``span.finish()``.

    ``kind``: ``CLIENT``, ``SERVER``, ``PRODUCER``, ``CONSUMER`` or None for work inside the process. Outside a trace a
    new one begins. Never raises; costs about two microseconds. The span belongs to the task or thread that starts it.
    """
    previous = current.get()
    if previous is not None and previous.token is ENDED_ELSEWHERE:
        previous = active()
    if kind is not None and (type(kind) is not str or kind not in KINDS):
        kind = _known_kind(kind)
    own: dict[str, str] = _own_tags(tags) if tags else {}
    if previous is None:
        span = _start_first(name, kind, own, _tracer.new_trace(), None)
    else:
        bits = _context.random_bits(64)
        if bits < _SELDOM:
            bits = _bound_unfinished(previous, bits)
        span = Span()  # make_span() and new_span_id() without their calls: every other span passes here
        span.trace = previous.trace
        span.span_id = bits.to_bytes(8, "big").hex()
        span.parent_id = previous.span_id
        span.name = name
        span.kind = kind
        span.tags = own
        span.annotations = None
        span.remote = None
        span.previous = previous
        span.token = None
        span.duration_ns = UNFINISHED
        span.start_ns = _context.ticks_ns()
    span.token = current.set(span)
    return span


def _bound_unfinished(previous: Node, bits: int) -> int:
    """Cut the chain of active spans where it is absurdly long; return the bits for an id, which must not be zero.

    A timer that starts itself again inside a span that nobody finishes would keep all spans of its life in memory. To
    look once in 256 spans, when the random bits happen to be low, costs nothing per span.
    """
    node = previous
    for _ in range(_MAX_UNFINISHED):
        if node.previous is None:
            return bits or 1
        node = node.previous
    node.previous = node.token = None
    return bits or 1


def start_entry_span(
    name: str, headers: Mapping[str, str], kind: str = "SERVER", tags: Mapping[str, object] | None = None
) -> Span:
    """Start the span of a request that came in, under the caller's span if ``headers`` (lower-case names) tell of one.

    The caller's trace id is kept and its span is the parent; the span itself gets a fresh id (it is not shared).
    Whatever was active before is active again after ``finish``, and has no part in this trace. Never raises.
    """
    remote = _propagation.extract(headers, _tracer.extract_order)
    own = _own_tags(tags) if tags else {}
    if remote is None:
        span = _start_first(name, kind, own, _tracer.new_trace(), None)
    else:
        span = _start_first(name, kind, own, _tracer.join_trace(remote), remote.span_id)
    span.previous = active()
    current.set(span)
    return span


def _start_first(name: str, kind: str | None, tags: dict[str, str], trace: Trace, parent_id: str | None) -> Span:
    """Make a trace's first span in this process, which carries the configured tags."""
    if _tracer.tags:
        tags = {**_tracer.tags, **tags}
    return make_span(trace, new_span_id(), parent_id, name, kind, tags)


def finish_span(span: Span | None = None) -> None:
    """End a span, or without one the active span. Never raises; finishing twice, or nothing, does nothing."""
    if span is None:
        node = active()
        span = node if isinstance(node, Span) else None
    if span is not None:
        span.finish()


def outgoing_headers(node: Node) -> dict[str, str]:
    """Return the headers, by the configured formats, that make the callee a child of ``node``."""
    return _propagation.inject(node, _tracer.propagate)


def _own_tags(tags: Mapping[str, object]) -> dict[str, str]:
    """Copy an application's tags: it may change its dict later. What is not text becomes text now; limits are kept."""
    try:
        own: dict[Any, Any] = tags.copy() if type(tags) is dict else dict(tags)
    except Exception as problem:
        if is_alarm(problem):
            raise
        return {"clew.bad_tags": to_tag(tags)}
    for key, value in own.items():
        if type(value) is not str or len(value) > MAX_TAG_VALUE_CHARS:
            return _bounded_tags(own)
        if type(key) is not str or len(key) > MAX_TAG_KEY_CHARS:
            return _bounded_tags(own)
    return own if len(own) <= MAX_TAGS else _bounded_tags(own)


def _bounded_tags(tags: dict[Any, Any]) -> dict[str, str]:
    bounded = {to_key(key): to_tag(tags[key]) for key in list(tags)[:MAX_TAGS]}
    if len(tags) > MAX_TAGS:
        count_cut_tags(bounded, len(tags) - MAX_TAGS)
    return bounded


def _known_kind(kind: object) -> str | None:
    upper = to_text(kind).upper()
    return upper if upper in KINDS else None  # such as OpenTelemetry's INTERNAL, which Zipkin writes as no kind


# The context by hand.


class ContextToken:
    """What ``set_trace_context`` replaced, for ``reset_trace_context``."""

    __slots__ = ("node", "previous")

    def __init__(self, node: Node, previous: Node | None) -> None:
        self.node = node
        self.previous = previous


def set_trace_context(
    trace_id: str | TraceContext, span_id: str | None = None, parent_id: str | None = None
) -> ContextToken:
    """Make the running code part of a trace whose ids came some other way than by a hooked library.

    Takes the ids, or a ``TraceContext`` with its sampling decision. Spans started next are children of ``span_id``. Ids
    are made canonical; an invalid trace id begins a new trace, an invalid span id gets a fresh one, as with headers.
    Give the token to ``reset_trace_context``.
    """
    node = remote_span(trace_id, span_id, parent_id)
    token = ContextToken(node, active())
    current.set(node)
    return token


def remote_span(trace_id: str | TraceContext, span_id: str | None = None, parent_id: str | None = None) -> RemoteSpan:
    """Return a span of which only the ids are known here; they are made canonical as in ``set_trace_context``."""
    sampled = None
    if isinstance(trace_id, TraceContext):
        trace_id, span_id, parent_id, sampled = trace_id
    known = parse_trace_id(trace_id)
    trace = _tracer.join_trace(_propagation.Remote(known, sampled=sampled))
    return RemoteSpan(trace, parse_span_id(span_id) or new_span_id(), parse_span_id(parent_id) if known else None)


def reset_trace_context(token: ContextToken) -> None:
    """Put back what was active before ``set_trace_context``. Never raises.

    In another task or thread, whose context it is not, and after something else was made active, it does nothing.
    """
    if isinstance(token, ContextToken) and current.get() is token.node:
        current.set(token.previous)


# The process.


def stats() -> dict[str, int]:
    """Return the counts of this process: spans ``reported``, ``dropped`` (and why), ``queued``; send ``errors``.

    ``reported + dropped + queued`` is every sampled span that was finished. Log records: ``logs_reported``,
    ``logs_dropped``, ``logs_queued``. SQL outside any trace: ``orphan_sql``.
    The reasons are those of ``clew.reporter``.
    """
    reporter = _tracer.reporter
    logs = reporter.logs.counts()
    return {
        **reporter.spans.counts(),
        "errors": reporter.errors,
        "orphan_sql": _tracer.orphans,
        **{f"logs_{name}": logs[name] for name in ("reported", "dropped", "queued")},
    }


def flush(timeout: float = 5.0) -> bool:
    """Wait until what was finished before is delivered or dropped. False when ``timeout`` (seconds) ran out first."""
    return _tracer.reporter.flush(timeout)


def shutdown(timeout: float | None = None) -> bool:
    """Deliver what is queued within ``timeout`` seconds (default: the option ``exit_timeout``) and stop reporting.

    Happens by itself when the program ends. False when something had to be given up. Idempotent.
    """
    return _tracer.reporter.shutdown(_tracer.exit_timeout_s if timeout is None else timeout)


def _hook_process() -> None:
    """Have what is queued delivered before the process ends, whichever way it does."""
    _exits.hook(_leave)
    if _exits.HAS_SIGNALS:
        from clew import _sigterm  # only now: `import clew` should not load the module signal

        _sigterm.hook(lambda: _leave(False), lambda: _tracer.exit_timeout_s)


def _leave(for_good: bool) -> None:
    _tracer.reporter.leave(_tracer.exit_timeout_s, for_good)
    if for_good and _exits.HAS_SIGNALS:
        from clew import _sigterm

        _sigterm.disarm()


def _catch_sigterm() -> None:
    if _exits.HAS_SIGNALS:
        from clew import _sigterm

        try:
            _sigterm.arm()
        except Exception as problem:
            if is_alarm(problem):
                raise
            _tracer.reporter.note_error(f"spans will be lost by SIGTERM: {problem!r}")


# At import, because hooks run in the order of registration: an application's own may finish a span in the child.
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=lambda: _tracer.after_fork_in_child())
