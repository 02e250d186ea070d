"""A timed piece of work. Between ``start_span`` and the reporter's queue.

A span is mutable while its work runs and must not be touched after ``finish``. Its methods never raise or block.
It belongs to one task or thread at a time; finishing it elsewhere is allowed and leaves that place's context alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from clew import _context
from clew._alarms import is_alarm
from clew._context import ENDED_ELSEWHERE, Node, Trace, current
from clew._secrets import clean
from clew._stack import stack_of
from clew.wire import (
    MAX_ANNOTATIONS,
    MAX_NAME_CHARS,
    MAX_STACK_CHARS,
    MAX_TAG_KEY_CHARS,
    MAX_TAG_VALUE_CHARS,
    MAX_TAGS,
    count_cut_tags,
    cut,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

Self = TypeVar("Self", bound="Span")  # typing.Self came with 3.11
F = TypeVar("F", bound="Callable[..., object]")

_request_code: set[CodeType] = set()  # of the functions that serve requests; see begins_request()

UNFINISHED: Final = -1
_MAX_TICKS_NS: Final = 1 << 62
_HOW_GENERATORS_END: Final = (GeneratorExit, StopIteration, StopAsyncIteration)
_MAX_CLEANED_CHARS: Final = 4 * MAX_STACK_CHARS  # of an exception's text: what is cleaned is a bit shorter afterwards
_MAX_CAUSES: Final = 10  # of an exception, one behind the other


class Endpoint:
    """The other side of a call: a service name, an address, a port; each may be missing."""

    __slots__ = ("ip", "port", "service")

    def __init__(self, service: str | None = None, ip: str | None = None, port: int | None = None) -> None:
        self.service = None if service is None else to_name(service)
        self.ip = None if ip is None else to_name(ip)
        self.port = 0 if port is None else _port(port)


class Span(Node):
    """One operation with its time, tags and error: ``with clew.start_span("db.query") as span: ...``.

    ``start_ns`` is a reading of the monotonic clock, ``duration_ns`` is negative until the span is finished. There is
    no ``__init__``, which would cost a twelfth of a span: ``make_span`` and ``start_span`` fill the slots.
    """

    __slots__ = ("annotations", "duration_ns", "kind", "name", "remote", "start_ns", "tags")

    name: str
    kind: str | None
    tags: dict[str, str]
    annotations: list[tuple[int, str]] | None
    remote: Endpoint | None
    duration_ns: int
    start_ns: int

    def tag(self, key: str, value: object) -> None:
        """Add or replace a tag. Values that are not text become text now, in the caller's thread; long ones are cut.

        Beyond 64 tags further ones are only counted (tag ``clew.cut``).
        """
        text = value if type(value) is str and len(value) <= MAX_TAG_VALUE_CHARS else to_tag(value)
        if type(key) is not str or len(key) > MAX_TAG_KEY_CHARS:
            key = to_key(key)
        tags = self.tags
        if len(tags) < MAX_TAGS or key in tags:
            tags[key] = text
        else:
            count_cut_tags(tags, 1)

    def annotate(self, value: str, ticks_ns: int | None = None) -> None:
        """Note that something happened now, or at a reading of the monotonic clock (``time.perf_counter_ns()``)."""
        at = ticks_ns if type(ticks_ns) is int and abs(ticks_ns) < _MAX_TICKS_NS else _context.ticks_ns()
        if self.annotations is None:
            self.annotations = []
        if len(self.annotations) <= MAX_ANNOTATIONS:  # one over the limit, so that the encoder sees and says it
            self.annotations.append((at, cut(to_text(value), MAX_TAG_VALUE_CHARS)))

    def set_error(self, error: BaseException | str) -> None:
        """Mark the span as failed: tags ``error`` (the message), ``error.type`` and ``error.stack`` of an exception.

        Queries and credentials of URLs, and what authorizes a request, are taken out of the text (``clew._secrets``).
        """
        text = cut(clean(to_text(error), _MAX_CLEANED_CHARS), MAX_TAG_VALUE_CHARS)
        if isinstance(error, BaseException):
            self.tags["error"] = text or type(error).__name__
            self.tags["error.type"] = _type_name(error)
            self.tags["error.stack"] = stack_of(error)
        else:
            self.tags["error"] = text or "error"

    def set_remote(self, service: str | None = None, ip: str | None = None, port: int | None = None) -> None:
        """Name the other side: Zipkin's ``remoteEndpoint``, from which the service map is drawn."""
        self.remote = Endpoint(service, ip, port)

    def finish(self) -> None:
        """End the span: take its duration, make the previous one active again, hand it to the reporter. Idempotent."""
        self.__exit__(None, None, None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        if self.duration_ns >= 0:
            return
        if error is not None and not issubclass(type(error), _HOW_GENERATORS_END):
            try:
                self.set_error(error)
            except BaseException:  # a signal handler of the program raised in there; the span ends all the same
                self.finish()
                raise
        if type(self.name) is not str or len(self.name) > MAX_NAME_CHARS:
            self.name = to_name(self.name)  # here, for integrations name their spans late
        elapsed_ns = _context.ticks_ns() - self.start_ns
        self.duration_ns = elapsed_ns if elapsed_ns > 0 else 0  # negative means unfinished; a test's clock may go back
        if current.get() is not self:
            self._leave_out_of_order()
        elif self.token is None:
            current.set(self.previous)
            self.previous = None
        else:
            try:
                current.reset(self.token)  # type: ignore[arg-type]
                self.previous = self.token = None  # finished spans must not keep their ancestors and contexts in memory
            except ValueError:  # started in another context: this task or thread has inherited it, in a copy
                self.token = ENDED_ELSEWHERE
        self.trace.report(self)

    def __enter__(self: Self) -> Self:
        return self

    def _leave_out_of_order(self) -> None:
        """Take this span out of the chain of active ones, if it is in this task's chain at all.

        It is not where it was finished by another task or thread, whose context must stay as it is. Where it is, the
        unfinished spans above it stay active (a generator suspended inside a span is such a case), except above a span
        that begins a request here: what was left open inside a request must not leak into the next.

        Whoever else has it as the active one will pass over it. Not so a request's own span, which has no token: its
        integration sees to what is active, and what goes on after the response is in the finished span until then.
        """
        above: Node | None = None
        node = current.get()
        while node is not None and node is not self:
            if node.token is not ENDED_ELSEWHERE:
                above = node
            node = node.previous
        if node is not None:
            if above is None or self.kind == "SERVER" or self.kind == "CONSUMER":
                current.set(self.previous)
            else:
                above.previous = self.previous
        if self.token is None:
            self.previous = None
        else:
            self.token = ENDED_ELSEWHERE

    def __repr__(self) -> str:
        return f"<Span {self.name!r} {self.trace.trace_id}:{self.span_id}>"


def make_span(
    trace: Trace, span_id: str, parent_id: str | None, name: str, kind: str | None, tags: dict[str, str]
) -> Span:
    """Return a span that begins now and is not active yet."""
    span = Span()
    span.trace = trace
    span.span_id = span_id
    span.parent_id = parent_id
    span.name = name
    span.kind = kind
    span.tags = tags
    span.annotations = None
    span.remote = None
    span.previous = None
    span.token = None
    span.duration_ns = UNFINISHED
    span.start_ns = _context.ticks_ns()
    return span


def begins_request(function: F) -> F:
    """Note that frames of this function have the span of the request that they serve in their local ``span``."""
    _request_code.add(function.__code__)
    return function


def failed_span(error: object) -> Span | None:
    """Return the span of the request that an exception, or one behind it, left; the outermost and newest of several.

    It is found by the exception's own traceback, which passes the frame that served the request. So nothing is put on
    the exception, which may be pickled, frozen or of a type that takes no attributes and no weak reference.
    """
    for _ in range(_MAX_CAUSES):
        if not isinstance(error, BaseException):
            return None
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_code in _request_code:
                span = step.tb_frame.f_locals.get("span")
                if isinstance(span, Span):
                    return span
            step = step.tb_next
        error = error.__cause__ or error.__context__
    return None


def to_tag(value: object) -> str:
    """Turn any value into text of a tag's length. The queue counts spans, so their size must be bounded here."""
    text = to_text(value)
    return text if len(text) <= MAX_TAG_VALUE_CHARS else cut(text, MAX_TAG_VALUE_CHARS)


def to_key(key: object) -> str:
    """Turn anything into a tag's key."""
    return cut(to_text(key), MAX_TAG_KEY_CHARS)


def to_name(name: object) -> str:
    """Turn anything into the name of a span or service, or an address."""
    return name if type(name) is str and len(name) <= MAX_NAME_CHARS else cut(to_text(name), MAX_NAME_CHARS)


def _port(port: object) -> int:
    """Return a port's number, 0 for what is none: Zipkin refuses a whole batch for a bad one."""
    try:
        number = int(port)  # type: ignore[call-overload]
    except Exception as failure:
        if is_alarm(failure):
            raise
        return 0
    return number if 0 < number < 65_536 else 0


def to_text(value: object) -> str:
    """Turn any value into text, also one whose ``__str__`` fails: tracing must not raise into the application."""
    if type(value) is str:
        return value
    if type(value) is bool:  # not isinstance(), which may ask the value
        return "true" if value else "false"  # as JSON and the other languages' clients write it
    try:
        text = str(value)
        return text if type(text) is str else str.__str__(text)  # a subclass of str would keep what hangs on it
    except Exception as failure:
        if is_alarm(failure):
            raise
        return f"<{type(value).__name__}: no text, {type(failure).__name__}>"


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
