"""Trace ids on every log line, and, where asked for, log lines on their way to the collector.

``install()`` is all that a program needs. The pieces work alone, too: ``TraceFilter`` for a handler of one's own,
``TraceFormatter`` for a ``dictConfig``, ``structlog_processor`` and ``loguru_patcher`` for those libraries.

After ``install()`` every ``LogRecord`` has ``trace_id``, ``span_id``, ``parent_id`` and ``service`` as attributes, each
``-`` where there is none, so that no format string can fail with KeyError. ``TraceFormatter`` adds them to records that
come by another way.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from clew import _tracer
from clew._alarms import is_alarm
from clew._context import ENDED_ELSEWHERE, active, current, parse_span_id, parse_trace_id
from clew._patch import patch, unpatch
from clew._secrets import clean_end
from clew._span import failed_span, to_name
from clew.wire import MAX_MESSAGE_CHARS, LogLine, cut, cut_head

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from clew._span import Span

DEFAULT_FORMAT: Final = "%(asctime)s [%(trace_id)s:%(span_id)s] %(levelname)s %(name)s: %(message)s"
NONE: Final = "-"

_FIELDS: Final = ("trace_id", "span_id", "parent_id", "service")
_OWN_LOGGER: Final = "clew"


def stamp(record: logging.LogRecord) -> None:
    """Put the active span's ids and the service on a record. A trace or service that its caller named by hand stays."""
    attributes = record.__dict__
    if "trace_id" not in attributes:
        node = current.get()
        if node is not None and node.token is ENDED_ELSEWHERE:
            node = active()
        if node is None and record.exc_info:
            node = _failed_span(record)  # servers report what left the application after the request's end
        if node is None:
            attributes["trace_id"] = attributes["span_id"] = attributes["parent_id"] = NONE
        else:
            attributes["trace_id"] = node.trace.trace_id
            attributes["span_id"] = node.span_id
            attributes["parent_id"] = node.parent_id or NONE
    elif "parent_id" not in attributes:  # the caller named the trace in `extra`, and perhaps no more
        attributes.setdefault("span_id", NONE)
        attributes["parent_id"] = NONE
    if "service" not in attributes:
        attributes["service"] = _tracer._tracer.service  # not by tracer(): a call is a fifth of what a stamp costs


def _failed_span(record: logging.LogRecord) -> Span | None:
    try:
        return failed_span(record.exc_info[1])  # type: ignore[index]
    except Exception as failure:
        if is_alarm(failure):
            raise
        return None


class TraceFilter(logging.Filter):
    """Stamp each record that passes; keep them all. For a handler or logger of one's own, without ``install()``.

    A record that is handled in another thread (``QueueListener``) keeps the ids of the thread that logged, if this
    filter is on the logger or on the ``QueueHandler``.
    """

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        """Stamp the record. Never raises."""
        stamp(record)
        return True


class TraceFormatter(logging.Formatter):
    """A formatter whose records always have the trace fields. ``json=True`` makes one JSON object a line.

    ``fmt`` is ``DEFAULT_FORMAT`` unless given. JSON lines hold ``time`` (ISO 8601, UTC), ``level``, ``logger``,
    ``message``, ``service``, inside a trace its ids, what the caller passed in ``extra``, and ``exception``.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        *,
        json: bool = False,
    ) -> None:
        super().__init__(fmt or (DEFAULT_FORMAT if style == "%" else None), datefmt, style)
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        stamp(record)
        return self._format_json(record) if self._json else super().format(record)

    def _format_json(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": without_colours(record.getMessage()),
        }
        attributes = record.__dict__
        line.update((field, attributes[field]) for field in _FIELDS if attributes[field] != NONE)
        line.update((key, value) for key, value in attributes.items() if key not in _STANDARD)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=False, default=str)


_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    *_FIELDS,
    "asctime",
    "message",
    "taskName",  # since 3.12
}


class InstalledFormatter(TraceFormatter):
    """What clew gave a handler that had no format, and may replace; a TraceFormatter of the application's own stays."""


_plain: Final = logging.Formatter()
_ships = False  # whether callHandlers is patched: from the first record that is to travel, for each record pays for it


def install(level: int | str | None = None, *, fmt: str | None = None, json: bool = False) -> None:
    """Stamp every record of the process, and see to it that the ids are seen. Idempotent; undone by ``uninstall()``.

    A handler of the root logger that has no formatter of its own, or the plain default one, gets a ``TraceFormatter``
    (``fmt``, or JSON with ``json=True``); handlers that the application configured itself are left as they are, where
    ``%(trace_id)s`` now works. Without any handler, one to standard error is made, at ``level`` (default INFO).
    With ``clew.configure(logs=True)`` the records travel to the collector, too.

    Works before and after ``clew.configure`` and ``logging.config``; takes effect for all threads.
    """
    follow()
    root = logging.getLogger()
    formatter = InstalledFormatter(fmt, json=json)
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
        level = logging.INFO if level is None else level
    if level is not None:
        root.setLevel(level)
    for handler in root.handlers:
        if is_unformatted(handler) or isinstance(handler.formatter, InstalledFormatter):
            handler.setFormatter(formatter)


def follow() -> None:
    """Stamp every record, and ship it where the option ``logs`` says so; touch no handler and no format. Idempotent."""
    patch(logging.Logger, "handle", _around_handle)


def uninstall() -> None:
    """Stop stamping and shipping. Formatters stay, and go on to work."""
    global _ships
    unpatch(logging.Logger, "handle")
    unpatch(logging.Logger, "callHandlers")
    _ships = False


def _around_handle(original: Any) -> Any:
    """Stamp every record on its way from a logger to the handlers, before any filter or formatter can look at it.

    Not in a record factory, the usual place: ``Logger.makeRecord`` raises KeyError when a caller's ``extra`` has a key
    that the factory has set, and ``extra={"service": ...}`` is in many programs.
    """

    def handle(self: logging.Logger, record: logging.LogRecord) -> None:
        stamp(record)
        if _tracer._tracer.logs and not _ships:
            _begin_to_ship()
        original(self, record)

    return handle


def _begin_to_ship() -> None:
    global _ships
    _ships = True
    patch(logging.Logger, "callHandlers", _around_call_handlers)


def _around_call_handlers(original: Any) -> Any:
    """Ship what a logger lets through. The root's handlers never see uvicorn's and gunicorn's records."""

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        original(self, record)
        if _tracer._tracer.logs and record.name != _OWN_LOGGER:  # clew's own complaints are of a collector that is away
            ship(record)

    return call_handlers


def ship(record: logging.LogRecord) -> None:
    """Queue a record for the collector, with its ids. Formats it in the caller's thread. Never raises, never blocks."""
    logs = _tracer.tracer().reporter.logs
    try:
        stamp(record)
        line = _line(record)
    except Exception as failure:
        logs.drop(record, "encode_failed")
        if is_alarm(failure):
            raise
    else:
        logs.put(line)


def _line(record: logging.LogRecord) -> LogLine:
    attributes = record.__dict__
    exception = None
    if record.exc_info and record.exc_info[0] is not None:
        text = without_colours(record.exc_text or _plain.formatException(record.exc_info))
        exception = cut_head(clean_end(text, 2 * MAX_MESSAGE_CHARS), MAX_MESSAGE_CHARS)
    return LogLine(
        int(record.created * 1e6),
        parse_trace_id(attributes["trace_id"]),  # checked, for `extra` may have brought anything
        parse_span_id(attributes["span_id"]),
        _tracer.tracer().service,
        to_name(record.levelname),
        to_name(record.name),
        cut(without_colours(record.getMessage()), MAX_MESSAGE_CHARS),
        exception,
    )


def without_colours(text: str) -> str:
    """Return a text without a terminal's control sequences (ECMA-48), as werkzeug and others colour their lines by."""
    if "\x1b" not in text and (text.isascii() or not any(begin in text for begin in "\x9b\x9d\x90\x98\x9e\x9f")):
        return text
    import re

    return re.sub(_CONTROL_SEQUENCE, "", text)


# Parameters and a final character after "["; a title or link with its end mark after "]" and its kin; one character.
# The first two also by one character of C1; there the end mark must come, for these are in wrongly decoded text, too.
_CONTROL_SEQUENCE: Final = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|[\x90\x98\x9d-\x9f][^\x07\x1b\x90\x98\x9b-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)


def is_unformatted(handler: logging.Handler) -> bool:
    """Tell whether nobody chose this handler's format: none, or the one that ``logging.basicConfig()`` gives."""
    formatter = handler.formatter
    if formatter is None:
        return True
    return type(formatter) is logging.Formatter and formatter._fmt in (logging.BASIC_FORMAT, "%(message)s")


def is_console(handler: logging.Handler) -> bool:
    """Tell a handler that writes for people from one that writes a file, which other programs may read."""
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


def show_ids(handler: logging.Handler, fmt: str = "%(message)s") -> None:
    """Put ``[trace:span]`` into the format that a server gave its handler, if that still is ``fmt``. Idempotent.

    In front of the message, of lines inside a trace only: others stay as the server writes them. Formatter and options
    (colours, dates) stay as well. A format that the program chose is another one, and is left alone.
    """
    formatter = handler.formatter
    if formatter is None:
        handler.setFormatter(formatter := logging.Formatter(fmt))
    style = formatter._style
    if type(style) in _IDS and style._fmt == fmt:
        formatter._style = _StyleWithIds(style)


class _StyleWithIds(logging.PercentStyle):
    def __init__(self, plain: logging.PercentStyle) -> None:
        self.__dict__.update(plain.__dict__)
        before = next(place for place in _MESSAGE if place in plain._fmt)
        self._plain = plain
        self._with_ids = type(plain)(plain._fmt.replace(before, _IDS[type(plain)] + before, 1))

    def usesTime(self) -> bool:  # noqa: N802 - logging's name
        """Tell whether the format shows the time."""
        return self._plain.usesTime()

    def format(self, record: logging.LogRecord) -> str:
        """Render the record's line, with ids where it has some."""
        attributes = record.__dict__
        stamped = attributes.get("trace_id", NONE) != NONE and "span_id" in attributes
        return (self._with_ids if stamped else self._plain).format(record)


_IDS: Final = {
    logging.PercentStyle: "[%(trace_id)s:%(span_id)s] ",
    logging.StrFormatStyle: "[{trace_id}:{span_id}] ",
}
_MESSAGE: Final = (
    "%(client_addr)s",
    "%(message)s",
    "{message}",
)  # where what a line says begins: uvicorn's, all others'


def structlog_processor(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the trace fields to a structlog event: put it into ``structlog.configure(processors=[...])``."""
    node = active()
    if node is not None:
        event.setdefault("trace_id", node.trace.trace_id)
        event.setdefault("span_id", node.span_id)
        if node.parent_id:
            event.setdefault("parent_id", node.parent_id)
    event.setdefault("service", _tracer.tracer().service)
    return event


def loguru_patcher(record: MutableMapping[str, Any]) -> None:
    """Add the trace fields to a loguru record: ``logger.configure(patcher=loguru_patcher)``.

    They are in ``extra``: ``{extra[trace_id]}`` in a format, ``-`` outside a trace.
    """
    node = active()
    extra = record["extra"]
    extra.setdefault("trace_id", NONE if node is None else node.trace.trace_id)
    extra.setdefault("span_id", NONE if node is None else node.span_id)
    extra.setdefault("parent_id", NONE if node is None else node.parent_id or NONE)
    extra.setdefault("service", _tracer.tracer().service)
