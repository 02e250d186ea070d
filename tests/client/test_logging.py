"""Trace ids on log lines: stamping, formats, shipping, other libraries' loggers."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.handlers
import pickle
import queue
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from loguru import logger as loguru_logger

import clew
from clew.integrations.wsgi import TraceMiddleware
from clew.logging import (
    DEFAULT_FORMAT,
    TraceFilter,
    TraceFormatter,
    follow,
    install,
    loguru_patcher,
    structlog_processor,
)
from clew.logging import uninstall as uninstall_logging
from client.recording import RecordingSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACE = "463ac35c9f6413ad48485a3953bb6124"
SPAN = "a2fb4a1d1a96d312"
PARENT = "0020000000000001"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Give the root logger without handlers, and everything as it was afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    yield logger
    uninstall_logging()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def handler_of(logger: logging.Logger, fmt: str) -> io.StringIO:
    """Give a logger a handler with an ordinary formatter, as an application does."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(fmt))
    logger.addHandler(handler)
    return stream


ALL_FIELDS = "%(trace_id)s|%(span_id)s|%(parent_id)s|%(service)s|%(message)s"


def test_record_inside_a_trace_carries_its_ids(root: logging.Logger, sender: RecordingSender) -> None:
    """An ordinary format string finds the ids of the active span."""
    stream = handler_of(root, ALL_FIELDS)
    install()
    clew.set_trace_context(TRACE, SPAN, PARENT)
    logging.getLogger("shop").warning("hello")
    assert f"{TRACE}|{SPAN}|{PARENT}|test|hello\n" == stream.getvalue()


def test_record_outside_a_trace_carries_dashes(root: logging.Logger, sender: RecordingSender) -> None:
    """No format string fails where there is no trace."""
    stream = handler_of(root, ALL_FIELDS)
    install()
    logging.getLogger("shop").warning("hello")
    assert "-|-|-|test|hello\n" == stream.getvalue()


def test_install_before_configure_stamps_too(run_program: Callable[..., Any]) -> None:
    """Lines of the start-up, before configure(), have every field."""
    process = run_program(
        """
        import logging, sys
        import clew.logging
        logging.basicConfig(stream=sys.stdout, format="%(trace_id)s|%(span_id)s|%(parent_id)s|%(service)s|%(message)s")
        clew.logging.install()
        logging.warning("early")
        """
    )
    assert "-|-|-|-|early\n" == process.stdout


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"service": "mine"}, f"{TRACE}|{SPAN}|-|mine|hello\n"),
        ({"trace_id": "mine"}, "mine|-|-|test|hello\n"),
        ({"span_id": "mine"}, f"{TRACE}|{SPAN}|-|test|hello\n"),
        ({"trace_id": "a", "span_id": "b", "parent_id": "c", "service": "d"}, "a|b|c|d|hello\n"),
    ],
)
def test_callers_extra_wins_and_never_raises(
    root: logging.Logger, sender: RecordingSender, extra: dict[str, str], expected: str
) -> None:
    """extra={"service": ...} is common, and logging raises KeyError for fields that a record factory has set."""
    stream = handler_of(root, ALL_FIELDS)
    install()
    clew.set_trace_context(TRACE, SPAN)
    logging.getLogger("shop").warning("hello", extra=extra)
    assert expected == stream.getvalue()


def test_record_from_elsewhere_is_stamped_when_handled(root: logging.Logger, sender: RecordingSender) -> None:
    """makeLogRecord(), as a socket receiver uses it, gives records no logger of this process has made."""
    stream = handler_of(root, ALL_FIELDS)
    install()
    logging.getLogger("far").handle(logging.makeLogRecord({"msg": "came by wire", "levelno": 30}))
    assert "-|-|-|test|came by wire\n" == stream.getvalue()


def test_install_without_any_handler_makes_one(run_program: Callable[..., Any]) -> None:
    """A program that configured no logging gets the default format on standard error, at INFO."""
    process = run_program(
        f"""
        import logging, sys
        sys.stderr = sys.stdout
        import clew, clew.logging
        clew.configure(service="shop", reporter="none")
        clew.logging.install()
        clew.set_trace_context("{TRACE}", "{SPAN}")
        logging.getLogger("shop.cart").info("added")
        logging.getLogger("shop.cart").debug("not shown")
        """
    )
    assert [f"[{TRACE}:{SPAN}] INFO shop.cart: added"] == [line[24:] for line in process.stdout.splitlines()]


def test_install_keeps_a_format_that_was_chosen(root: logging.Logger) -> None:
    """A handler that the application formatted itself stays as it is."""
    stream = handler_of(root, "mine: %(message)s")
    install()
    install()
    logging.getLogger("shop").warning("hello")
    assert "mine: hello\n" == stream.getvalue()


def test_install_replaces_the_format_that_nobody_chose(root: logging.Logger) -> None:
    """basicConfig()'s own format tells that no other was wanted."""
    stream = handler_of(root, logging.BASIC_FORMAT)
    install()
    clew.set_trace_context(TRACE, SPAN)
    logging.getLogger("shop").warning("hello")
    assert f"[{TRACE}:{SPAN}] WARNING shop: hello\n" == stream.getvalue()[len("2026-01-01 00:00:00,000 ") :]


def test_install_sets_the_level(root: logging.Logger) -> None:
    """The level given is the root's, by name too."""
    handler_of(root, "%(message)s")
    install("DEBUG")
    assert logging.DEBUG == root.level


def test_filter_alone_stamps_and_keeps_every_record(sender: RecordingSender) -> None:
    """TraceFilter on one handler works without install()."""
    record = logging.LogRecord("shop", logging.INFO, "", 1, "hello", (), None)
    clew.set_trace_context(TRACE, SPAN, PARENT)
    assert TraceFilter().filter(record) is True
    assert [TRACE, SPAN, PARENT, "test"] == [record.trace_id, record.span_id, record.parent_id, record.service]  # type: ignore[attr-defined]


def test_default_format_is_the_documented_one() -> None:
    """The format is part of the contract: people's log searches rest on it."""
    assert "%(asctime)s [%(trace_id)s:%(span_id)s] %(levelname)s %(name)s: %(message)s" == DEFAULT_FORMAT


def test_formatter_alone_never_raises_key_error() -> None:
    """A record that no filter has seen has the fields when TraceFormatter renders it."""
    record = logging.LogRecord("shop", logging.INFO, "", 1, "hello", (), None)
    assert "- hello" == TraceFormatter("%(trace_id)s %(message)s").format(record)


def test_json_line_holds_ids_extra_and_exception(sender: RecordingSender) -> None:
    """One JSON object a line: what machines read."""
    try:
        raise ValueError("no such book")
    except ValueError:
        record = logging.getLogger("shop").makeRecord(
            "shop", logging.ERROR, "", 1, "order %s", ("7",), sys.exc_info(), extra={"customer": "Zoë", "items": [1, 2]}
        )
    record.created, record.msecs = 1_700_000_000.25, 250.0
    clew.set_trace_context(TRACE, SPAN)
    line = json.loads(TraceFormatter(json=True).format(record))
    assert line.pop("exception").endswith("ValueError: no such book")
    assert {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "ERROR",
        "logger": "shop",
        "message": "order 7",
        "trace_id": TRACE,
        "span_id": SPAN,
        "service": "test",
        "customer": "Zoë",
        "items": [1, 2],
    } == line


def test_json_line_of_a_value_json_does_not_know_is_its_text(sender: RecordingSender) -> None:
    """An object in `extra` must not lose the line."""
    record = logging.getLogger("s").makeRecord("s", 20, "", 1, "m", (), None, extra={"kind": complex(1, 2)})
    assert "(1+2j)" == json.loads(TraceFormatter(json=True).format(record))["kind"]


def test_logs_travel_with_their_ids(root: logging.Logger) -> None:
    """logs=True sends records to the collector, those of loggers that do not propagate too."""
    sender = RecordingSender()
    clew.configure(service="shop", reporter=sender, logs=True, flush_interval=0.01)
    install()
    access = logging.getLogger("test.access")
    access.propagate = False
    access.addHandler(logging.NullHandler())
    clew.set_trace_context(TRACE, SPAN)
    access.warning("GET %s", "/cart")
    assert clew.flush()
    access.handlers.clear()
    (line,) = sender.of_kind("logs")
    assert isinstance(line.pop("timestamp"), int)
    assert {
        "traceId": TRACE,
        "id": SPAN,
        "service": "shop",
        "level": "WARNING",
        "logger": "test.access",
        "message": "GET /cart",
    } == line


def test_shipped_exception_is_text(root: logging.Logger) -> None:
    """logger.exception() sends its traceback."""
    sender = RecordingSender()
    clew.configure(service="shop", reporter=sender, logs=True, flush_interval=0.01)
    follow()
    try:
        raise KeyError("isbn")
    except KeyError:
        logging.getLogger("shop").exception("failed")
    assert clew.flush()
    (line,) = sender.of_kind("logs")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("KeyError: 'isbn'")
    assert "traceId" not in line


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[35m\x1b[1mGET /x HTTP/1.1\x1b[0m 500", "GET /x HTTP/1.1 500"),
        ("\x1b[38;5;208mwarm\x1b[m", "warm"),
        ("\x1b]0;title\x07text\x1b]8;;http://h\x1b\\link\x1b]8;;\x1b\\", "textlink"),
        ("\x1b(B\x1b7x\x1b", "x\x1b"),
        ("50 % [ok]", "50 % [ok]"),
        ("\x9b31mred\x9b0m \x9b38;5;208mwarm\x9bm", "red warm"),
        ("\x9d0;title\x9ctext\x9d8;;http://h\x1b\\link\x90q\x07", "textlink"),
        ("\x1b]0;title\x9ctext", "text"),
        ("grüße \u4e2d\x85next", "grüße \u4e2d\x85next"),
        ("wrongly decoded: StraÃ\x9fe", "wrongly decoded: StraÃ\x9fe"),
        ("\x9d" * 4_000 + "end", "\x9d" * 4_000 + "end"),
    ],
)
def test_colours_do_not_travel(root: logging.Logger, text: str, plain: str) -> None:
    """What is for a terminal is taken out of records that are sent, and of JSON lines; a handler's text keeps it."""
    sender = RecordingSender()
    clew.configure(service="shop", reporter=sender, logs=True, flush_interval=0.01)
    stream = handler_of(root, "%(message)s")
    follow()
    logging.getLogger("werkzeug").warning("%s", text)
    assert clew.flush()
    record = logging.LogRecord("werkzeug", logging.INFO, "", 1, text, (), None)
    assert (
        plain == sender.of_kind("logs")[0]["message"] == json.loads(TraceFormatter(json=True).format(record))["message"]
    )
    assert f"{text}\n" == stream.getvalue()


def test_stamped_record_can_be_pickled_and_copied(root: logging.Logger, sender: RecordingSender) -> None:
    """Queues between processes carry records; the ids are text on them, and nothing else is."""
    records: list[logging.LogRecord] = []
    handler = logging.handlers.QueueHandler(queue.SimpleQueue())
    root.addHandler(handler)
    handler.enqueue = records.append  # type: ignore[method-assign]
    install()
    app = TraceMiddleware(_failing_app)
    try:
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_TRACE_ID": TRACE}, print)
    except ValueError:
        logging.getLogger("server").exception("Error handling request")
    (record,) = records
    assert TRACE == record.trace_id  # type: ignore[attr-defined]
    assert vars(record) == vars(pickle.loads(pickle.dumps(record))) == vars(copy.deepcopy(record))


@pytest.mark.parametrize("exc_info", [(None,), (), "text", 1, (ValueError, "no exception", None)])
def test_odd_exc_info_raises_nothing(sender: RecordingSender, exc_info: Any) -> None:
    """A record may be made of anything that came by wire."""
    record = logging.makeLogRecord({"msg": "came by wire", "exc_info": exc_info})
    assert TraceFilter().filter(record)
    assert "-" == record.trace_id  # type: ignore[attr-defined]


class _Frozen(Exception):
    __slots__ = ("code",)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("frozen")


@pytest.mark.parametrize("error", [KeyError("x"), _Frozen("x"), MemoryError(), StopAsyncIteration(1)])
def test_exception_of_any_type_is_found_again(
    root: logging.Logger, sender: RecordingSender, error: BaseException
) -> None:
    """Of a built-in type, which takes no weak reference, one that takes no attributes, one behind another."""
    stream = handler_of(root, "%(trace_id)s")
    install()

    def app(environ: dict[str, object], start_response: object) -> list[bytes]:
        raise error

    try:
        try:
            TraceMiddleware(app)({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_TRACE_ID": TRACE}, print)
        except BaseException as problem:
            raise OSError("server") from problem
    except OSError:
        logging.getLogger("server").exception("x")
    assert TRACE == stream.getvalue().splitlines()[0]
    assert {} == getattr(error, "__dict__", {})


def _failing_app(environ: dict[str, object], start_response: object) -> list[bytes]:
    raise ValueError("broken")


def test_hostile_ids_in_extra_do_not_reach_the_wire(root: logging.Logger) -> None:
    """Only canonical ids are sent as ids."""
    sender = RecordingSender()
    clew.configure(service="shop", reporter=sender, logs=True, flush_interval=0.01)
    follow()
    logging.getLogger("shop").warning("hello", extra={"trace_id": '","x":"', "span_id": "\x1b[31m"})
    assert clew.flush()
    (line,) = sender.of_kind("logs")
    assert {"timestamp", "service", "level", "logger", "message"} == set(line)


def test_record_that_cannot_be_formatted_is_counted(root: logging.Logger) -> None:
    """Arguments that do not fit the message lose that record's copy, with a count and without an exception."""
    sender = RecordingSender()
    clew.configure(service="shop", reporter=sender, logs=True, flush_interval=0.01)
    follow()
    quiet = logging.getLogger("test.quiet")  # pytest's own handler would fail the test for the caller's mistake
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    quiet.warning("%d", "not a number")
    assert {"logs_reported": 0, "logs_dropped": 1, "logs_queued": 0} == {
        name: count for name, count in clew.stats().items() if name.startswith("logs_")
    }


def test_own_complaints_are_not_shipped(root: logging.Logger) -> None:
    """What clew says of a collector that is away must not queue up for that collector."""
    sender = RecordingSender()
    clew.configure(service="shop", reporter=sender, logs=True, flush_interval=0.01)
    follow()
    logging.getLogger("clew").warning("collector away")
    assert clew.flush()
    assert [] == sender.of_kind("logs")


def test_nothing_is_shipped_unless_asked(root: logging.Logger, sender: RecordingSender) -> None:
    """A feature that is off does no work."""
    install()
    logging.getLogger("shop").warning("hello")
    assert clew.flush()
    assert [] == sender.of_kind("logs")


def test_uninstall_takes_the_patches_back(root: logging.Logger) -> None:
    """Nothing of clew is left in logging."""
    before = (logging.Logger.handle, logging.Logger.callHandlers)
    install()
    assert before != (logging.Logger.handle, logging.Logger.callHandlers)
    uninstall_logging()
    assert before == (logging.Logger.handle, logging.Logger.callHandlers)


def test_structlog_event_gets_the_ids(sender: RecordingSender) -> None:
    """structlog_processor is a processor like any other."""
    events: list[dict[str, Any]] = []

    def keep(logger: object, method: str, event: Any) -> str:
        events.append(dict(event))
        raise structlog.DropEvent

    clew.set_trace_context(TRACE, SPAN, PARENT)
    structlog.wrap_logger(None, processors=[structlog_processor, keep]).info("hello", user=7)
    assert [
        {"event": "hello", "user": 7, "trace_id": TRACE, "span_id": SPAN, "parent_id": PARENT, "service": "test"}
    ] == events


def test_loguru_record_gets_the_ids(sender: RecordingSender) -> None:
    """loguru_patcher fills `extra`, with dashes outside a trace, so that a format never fails."""
    stream = io.StringIO()
    sink = loguru_logger.add(stream, format="{extra[trace_id]} {extra[span_id]} {extra[service]} {message}")
    patched = loguru_logger.patch(loguru_patcher)
    patched.info("outside")
    clew.set_trace_context(TRACE, SPAN)
    patched.info("inside")
    loguru_logger.remove(sink)
    assert ["- - test outside", f"{TRACE} {SPAN} test inside"] == stream.getvalue().splitlines()


def test_exception_that_left_a_request_is_logged_with_its_ids(root: logging.Logger, sender: RecordingSender) -> None:
    """Servers report it when the request is over: gunicorn's "Error handling request", for one."""
    stream = handler_of(root, ALL_FIELDS)
    install()

    def failing_app(environ: dict[str, object], start_response: object) -> list[bytes]:
        raise ValueError("broken")

    app = TraceMiddleware(failing_app)
    try:
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_TRACE_ID": TRACE}, print)
    except ValueError:
        assert clew.get_trace_context() is None
        logging.getLogger("server").exception("Error handling request")
    assert clew.flush()
    assert f"{TRACE}|{sender.span('GET')['id']}|-|test|Error handling request" == stream.getvalue().splitlines()[0]
