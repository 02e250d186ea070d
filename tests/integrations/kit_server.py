"""The conformance kit for servers: every integration of a web framework inherits these tests.

A test file supplies one factory: ``serve(mode)``, a context manager that starts a real server on a real socket and
yields its port. ``mode`` is one of MODES: how the app is traced. The app has these routes, which use ``seen()`` and
``log``:

* ``GET /items/{id}``: answers ``seen()``, logs ``"item"`` on ``log``
* ``GET /unavailable``: answers 503
* ``GET /error``: raises ``RuntimeError("boom")``
* ``GET /stream``: answers ``seen()`` three times, each produced while the body is sent; before the last it makes a span
  ``chunk``
* ``GET /late-error``: sends one piece of the body, then raises ``RuntimeError("too late")``
* ``GET /copied``: answers ``stays_itself()`` of the values of the framework's own dict of the request
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

import pytest

import clew
from clew import _tracer
from clew.reporter import Reporter
from clew.senders import parse_reporter
from clew.testing import MemorySender, recorded
from integrations.kit_common import (
    SPAN_ID,
    TRACE_ID,
    Connection,
    LogLines,
    conduct,
    fetch,
    log_lines,
    wait_until,
    without_times,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

MODES = ("explicit", "instrumented", "both")

log = logging.getLogger("kit.app")

JOINED = (("X-Trace-ID", TRACE_ID), ("X-Span-ID", SPAN_ID))


def seen() -> str:
    """What the running code sees of its trace: ``trace span parent sampled``, or ``none``."""
    context = clew.get_trace_context()
    return "none" if context is None else " ".join(str(part) for part in context)


class ServerKit:
    """Inherit, set the four values, and supply ``serve``."""

    item_route: ClassVar[str] = "/items/{id}"
    access_logger: ClassVar[str]
    error_logger: ClassVar[str]  # who reports the exception of /error; "" where it goes to no log
    answers_errors: ClassVar[bool] = True  # False: the 500 comes from a server that knows nothing of traces
    has_routes: ClassVar[bool] = True
    modes: ClassVar[tuple[str, ...]] = MODES

    def serve(self, mode: str) -> AbstractContextManager[int]:
        """Start the server, traced in one of MODES, and yield its port."""
        raise NotImplementedError

    @pytest.fixture(params=MODES)
    def mode(self, request: pytest.FixtureRequest) -> str:
        if request.param not in self.modes:
            pytest.skip("there is nothing to be traced in this way")
        return request.param

    @pytest.fixture
    def spans(self) -> Iterator[MemorySender]:
        with recorded("kit") as sender:
            yield sender

    @pytest.fixture
    def lines(self) -> Iterator[LogLines]:
        with log_lines(*filter(None, (log.name, self.access_logger, self.error_logger))) as handler:
            yield handler

    @pytest.fixture
    def port(self, spans: MemorySender, lines: LogLines, mode: str) -> Iterator[int]:
        try:
            with self.serve(mode) as port:
                yield port
        finally:
            clew.uninstrument()

    def one(self, spans: MemorySender) -> dict:
        """The server span, once it is there; that there is one only is part of every test."""
        wait_until(lambda: any(span.get("kind") == "SERVER" for span in spans.spans()))
        servers = [span for span in spans.spans() if span.get("kind") == "SERVER"]
        assert 1 == len(servers)
        return servers[0]

    def test_request_becomes_one_span(self, port: int, spans: MemorySender) -> None:
        """A request with a caller's headers is one server span, named by its route, under the caller's span."""
        assert 200 == fetch(port, "/items/7?token=secret", *JOINED).status
        assert {
            "traceId": TRACE_ID,
            "parentId": SPAN_ID,
            "kind": "SERVER",
            "name": f"GET {self.item_route}",
            "localEndpoint": {"serviceName": "kit"},
            "remoteEndpoint": {"ipv4": "127.0.0.1"},
            "tags": {
                "http.method": "GET",
                "http.path": "/items/7",
                "http.route": self.item_route,
                "http.status_code": "200",
            },
        } == without_times(self.one(spans))

    def test_handler_runs_in_the_caller_s_trace(self, port: int, spans: MemorySender) -> None:
        """The application sees the caller's trace id, the caller's span as parent, and a span id of its own."""
        trace_id, span_id, parent_id, sampled = fetch(port, "/items/7", *JOINED).body.split()
        assert (TRACE_ID, SPAN_ID, "True") == (trace_id, parent_id, sampled)
        assert self.one(spans)["id"] == span_id

    def test_w3c_header_is_joined(self, port: int, spans: MemorySender) -> None:
        """A traceparent alone is enough."""
        answer = fetch(port, "/items/7", ("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"))
        assert [TRACE_ID, SPAN_ID] == answer.body.split()[::2]

    def test_absent_headers_start_a_new_trace(self, port: int, spans: MemorySender) -> None:
        """Without a caller's headers the span is a root with 32 hex characters of trace id."""
        trace_id, _, parent_id, _ = fetch(port, "/items/7").body.split()
        assert (32, "None") == (len(trace_id), parent_id)
        assert "parentId" not in self.one(spans)

    @pytest.mark.parametrize(
        "headers",
        [
            (("X-Trace-ID", "not-hex"), ("X-Span-ID", SPAN_ID)),
            (("X-Trace-ID", "0" * 32), ("X-Span-ID", SPAN_ID)),
            (("X-Trace-ID", TRACE_ID + "0"), ("X-Span-ID", SPAN_ID)),
            (("X-Trace-ID", "<script>alert(1)</script>"),),
            (("X-Trace-ID", TRACE_ID), ("X-Trace-ID", "a" * 32)),
            (("traceparent", "00-xyz"), ("tracestate", "," * 500)),
            (("X-Trace-ID", "é" * 32),),
        ],
        ids=["letters", "zeros", "long", "script", "twice", "w3c", "latin"],
    )
    def test_hostile_headers_start_a_new_trace(
        self, port: int, spans: MemorySender, headers: tuple[tuple[str, str], ...]
    ) -> None:
        """What is no id is no reason to fail, and goes nowhere."""
        answer = fetch(port, "/items/7", *headers)
        trace_id, _, parent_id, _ = answer.body.split()
        assert (200, "None", 32) == (answer.status, parent_id, len(trace_id))
        assert trace_id not in (TRACE_ID, "a" * 32)

    def test_response_carries_the_trace_id_once(self, port: int, spans: MemorySender) -> None:
        """A user can quote the trace id that the response came with."""
        for path in ("/items/7", "/stream", "/nowhere", *(["/error"] if self.answers_errors else [])):
            assert [TRACE_ID] == fetch(port, path, *JOINED).header("X-Trace-ID"), path

    def test_unknown_path_is_not_in_the_name(self, port: int, spans: MemorySender) -> None:
        """A 404 has no route, so its name is the method alone; it is no error of the server."""
        assert 404 == fetch(port, "/nowhere/123", *JOINED).status
        span = self.one(spans)
        assert "GET" == span["name"]
        assert {"http.method": "GET", "http.path": "/nowhere/123", "http.status_code": "404"} == span["tags"]

    def test_status_of_500_and_above_is_an_error(self, port: int, spans: MemorySender) -> None:
        """A 503 that the application answers marks the span as failed, with the status as reason."""
        assert 503 == fetch(port, "/unavailable", *JOINED).status
        tags = self.one(spans)["tags"]
        assert ("503", "503") == (tags["http.status_code"], tags["error"])

    def test_exception_before_the_headers(self, port: int, spans: MemorySender) -> None:
        """An exception becomes a 500 and is on the span, with its type and stack."""
        assert 500 == fetch(port, "/error", *JOINED).status
        tags = self.one(spans)["tags"]
        assert ("boom", "RuntimeError", "500") == (tags["error"], tags["error.type"], tags["http.status_code"])
        assert "RuntimeError: boom" in tags["error.stack"]

    def test_exception_after_the_headers(self, port: int, spans: MemorySender) -> None:
        """An exception in the body is on the span, beside the status that was sent."""
        assert 200 == fetch(port, "/late-error", *JOINED).status
        tags = self.one(spans)["tags"]
        assert ("too late", "200") == (tags["error"], tags["http.status_code"])

    def test_streaming_body_is_in_the_trace(self, port: int, spans: MemorySender) -> None:
        """Code that produces the body runs in the request's trace, and the span ends after it."""
        body = fetch(port, "/stream", *JOINED).body
        assert 3 == body.count(f"{TRACE_ID} ")
        server = self.one(spans)
        assert ["chunk", "GET /stream" if self.has_routes else "GET"] == [span["name"] for span in spans.spans()]
        assert server["id"] == spans.spans()[0]["parentId"]

    def test_what_the_request_carries_can_be_copied_and_pickled(self, port: int, spans: MemorySender) -> None:
        """Programs hand scopes and environs to other threads and processes."""
        assert "equal" == fetch(port, "/copied", *JOINED).body

    def test_exception_that_left_is_as_it_was(self, port: int, spans: MemorySender, lines: LogLines) -> None:
        """What the server reports has nothing of ours on it: it can be copied, pickled and compared."""
        if not self.error_logger:
            pytest.skip("this server reports to its error stream, not to a log")
        fetch(port, "/error", *JOINED)
        wait_until(lambda: bool(lines.errors))
        assert conduct(RuntimeError("boom")) == conduct(lines.errors[0])

    def test_unsampled_is_passed_on(self, port: int, spans: MemorySender) -> None:
        """A caller's decision not to sample holds: ids are there, spans are not."""
        body = fetch(port, "/items/7", *JOINED, ("X-Sampled", "0")).body
        assert [TRACE_ID, "False"] == body.split()[::3]
        fetch(port, "/unavailable")
        assert "503" == self.one(spans)["tags"]["http.status_code"]

    def test_next_request_on_the_connection_is_clean(self, port: int, spans: MemorySender) -> None:
        """Nothing of a request is left for the one that follows, whether it went well or not."""
        connection = Connection(port)
        for path in ("/items/7", "/error", "/late-error", "/stream"):
            connection.get(path, *JOINED)
            trace_id, _, parent_id, _ = connection.get("/items/8").body.split()
            assert (False, "None") == (trace_id == TRACE_ID, parent_id), path
        connection.close()

    def test_concurrent_requests_do_not_mix(self, port: int, spans: MemorySender) -> None:
        """Each of 60 requests at a time sees its own trace id."""
        ids = [f"{number:032x}" for number in range(1, 61)]
        with ThreadPoolExecutor(12) as pool:
            bodies = list(pool.map(lambda one: fetch(port, "/items/7", ("X-Trace-ID", one)).body, ids))
        assert ids == [body.split()[0] for body in bodies]

    def test_log_lines_carry_the_id(self, port: int, spans: MemorySender, lines: LogLines) -> None:
        """The application's line and the server's access line are in the trace."""
        fetch(port, "/items/7", *JOINED)
        wait_until(lambda: bool(lines.trace_ids(self.access_logger)))
        assert {TRACE_ID} == lines.trace_ids(log.name)
        assert {TRACE_ID} == lines.trace_ids(self.access_logger)

    def test_error_lines_carry_the_id(self, port: int, spans: MemorySender, lines: LogLines) -> None:
        """So are the report of an exception and the access line of the 500."""
        if not self.error_logger:
            pytest.skip("this server reports to its error stream, not to a log")
        fetch(port, "/error", *JOINED)
        wait_until(lambda: bool(lines.trace_ids(self.access_logger)))
        wait_until(lambda: bool(lines.trace_ids(self.error_logger, logging.ERROR)))
        assert {TRACE_ID} == lines.trace_ids(self.error_logger, logging.ERROR)
        assert {TRACE_ID} == lines.trace_ids(self.access_logger)

    def test_dead_collector_is_not_noticed(self, port: int, spans: MemorySender) -> None:
        """With nobody listening, requests are answered as ever and their spans wait or are counted."""
        working = _tracer._tracer
        reporter = Reporter(parse_reporter("http://127.0.0.1:1"), "kit", 10, 0.01)
        _tracer._tracer = _tracer.Tracer("kit", reporter)
        try:
            assert [200] * 30 == [fetch(port, "/items/7").status for _ in range(30)]
            wait_until(lambda: reporter.spans.counts()["dropped"] + reporter.spans.counts()["queued"] == 30)
        finally:
            reporter.shutdown(0.0)
            _tracer._tracer = working
