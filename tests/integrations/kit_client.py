"""The conformance kit for HTTP clients: every integration of a client library inherits these tests.

A test file supplies ``get(url, headers)``, one GET with a client of its own that returns the status, and ``client()``,
which makes a client now and returns such a function for it, for the tests of clients that are older than
``instrument()``. The other side is a real server that keeps what it was sent.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import clew
from clew.testing import MemorySender, recorded
from integrations.kit_common import SPAN_ID, TRACE_ID, conduct, without_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Get = "Callable[[str, dict[str, str]], int]"

TRACE_HEADERS = ("x-trace-id", "x-span-id", "x-parent-id", "traceparent")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, [(key.lower(), value) for key, value in self.headers.items()]))  # type: ignore[attr-defined]
        if self.path.startswith("/cut"):
            self.close_connection = True
            self.connection.close()
            return
        if self.path.startswith("/broken"):
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"ok")
            return
        status = 302 if self.path.startswith("/redirect") else 404 if self.path.startswith("/missing") else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/target")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Callee(http.server.ThreadingHTTPServer):
    """The server that is called; ``requests``: path and headers (lower-case names, repeated ones too)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, list[tuple[str, str]]]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def trace_headers(self, index: int = -1) -> dict[str, str]:
        """The headers of one request that carry its trace; each must be there once."""
        found = [pair for pair in self.requests[index][1] if pair[0] in TRACE_HEADERS]
        assert len({name for name, _ in found}) == len(found), found
        return dict(found)


@contextlib.contextmanager
def callee() -> Iterator[Callee]:
    """Serve in a thread."""
    server = Callee()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ClientKit:
    """Inherit, and supply ``names``, ``client``, ``objects`` and ``connect_error``."""

    names: ClassVar[tuple[str, ...]]  # what to instrument; none for a client that traces by itself
    spans_of_redirect: ClassVar[int] = 2
    connect_error: ClassVar[str]  # error.type of a refused connection
    traces_itself: ClassVar[bool] = False

    def client(self) -> Callable[..., int]:
        """Make a client; return a function of a URL and headers that sends a GET by it and returns the status."""
        raise NotImplementedError

    def objects(self, url: str) -> list[object]:
        """Send a GET; return what the library made of it: the response and its request, or the exception."""
        raise NotImplementedError

    @pytest.fixture
    def server(self) -> Iterator[Callee]:
        with callee() as server:
            yield server

    @pytest.fixture
    def spans(self) -> Iterator[MemorySender]:
        with recorded("kit") as sender:
            try:
                clew.instrument(*self.names) if self.names else None
                yield sender
            finally:
                clew.uninstrument()

    def test_call_becomes_one_span(self, server: Callee, spans: MemorySender) -> None:
        """A call is one client span under the active one; credentials, query and fragment stay out of it."""
        url = f"http://user:pass@127.0.0.1:{server.server_port}/items/7?token=secret#part"
        with clew.start_span("work") as parent:
            assert 200 == self.client()(url)
        assert [
            {
                "traceId": parent.trace_id,
                "parentId": parent.span_id,
                "kind": "CLIENT",
                "name": "GET",
                "localEndpoint": {"serviceName": "kit"},
                "remoteEndpoint": {"ipv4": "127.0.0.1"},
                "tags": {
                    "http.method": "GET",
                    "http.url": f"http://127.0.0.1:{server.server_port}/items/7",
                    "http.status_code": "200",
                },
            },
            {
                "traceId": parent.trace_id,
                "name": "work",
                "localEndpoint": {"serviceName": "kit"},
            },
        ] == [without_times(span) for span in spans.spans()]

    def test_headers_make_the_callee_a_child(self, server: Callee, spans: MemorySender) -> None:
        """The client span's own id goes out, with its parent's and as traceparent."""
        with clew.start_span("work") as parent:
            self.client()(server.url("/"))
        span = spans.spans()[0]
        assert {
            "x-trace-id": parent.trace_id,
            "x-span-id": span["id"],
            "x-parent-id": parent.span_id,
            "traceparent": f"00-{parent.trace_id}-{span['id']}-03",
        } == server.trace_headers()

    def test_call_outside_a_trace_begins_one(self, server: Callee, spans: MemorySender) -> None:
        """Without an active span the call is a root."""
        self.client()(server.url("/"))
        assert spans.spans()[0]["traceId"] == server.trace_headers()["x-trace-id"]
        assert "parentId" not in spans.spans()[0]

    def test_headers_of_the_caller_are_replaced(self, server: Callee, spans: MemorySender) -> None:
        """What an application passes on by hand, in any case, does not go out beside ours."""
        by_hand = {"x-trace-id": "f" * 32, "X-SPAN-ID": "f" * 16, "TraceParent": "00-bad", "X-Other": "kept"}
        with clew.start_span("work") as parent:
            self.client()(server.url("/"), by_hand)
        assert parent.trace_id == server.trace_headers()["x-trace-id"]
        assert ("x-other", "kept") in server.requests[0][1]
        assert {"x-trace-id": "f" * 32, "X-SPAN-ID": "f" * 16, "TraceParent": "00-bad", "X-Other": "kept"} == by_hand

    def test_status_of_400_and_above_is_an_error(self, server: Callee, spans: MemorySender) -> None:
        """To the one who calls, a 404 is a failure."""
        assert 404 == self.client()(server.url("/missing"))
        tags = spans.spans()[0]["tags"]
        assert ("404", "404") == (tags["http.status_code"], tags["error"])

    def test_refused_connection_is_an_error(self, server: Callee, spans: MemorySender) -> None:
        """An exception is on the span and reaches the caller as it was."""
        with callee() as gone:
            url = gone.url("/")
        with clew.start_span("work"), pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            self.client()(url)
        assert self.connect_error == f"{type(caught.value).__module__}.{type(caught.value).__qualname__}"
        tags = spans.spans()[0]["tags"]
        assert self.connect_error == tags["error.type"]
        assert "http.status_code" not in tags

    def test_connection_cut_is_an_error(self, server: Callee, spans: MemorySender) -> None:
        """A server that hangs up without an answer marks the span as failed."""
        with pytest.raises(Exception):  # noqa: B017, PT011 - each library has its own
            self.client()(server.url("/cut"))
        assert "error.type" in spans.spans()[0]["tags"]

    def test_body_that_breaks_off_is_an_error(self, server: Callee, spans: MemorySender) -> None:
        """A response cut in its body marks the span as failed, beside the status that came."""
        with pytest.raises(Exception):  # noqa: B017, PT011 - each library has its own
            self.client()(server.url("/broken"))
        (span,) = spans.spans()
        assert "error.type" in span["tags"]
        assert "200" == span["tags"].get("http.status_code", "200")

    @pytest.mark.parametrize("path", ["/items/7", "/missing", "/redirect", "/broken", "/cut", ""])
    def test_objects_of_the_library_are_as_without_us(self, server: Callee, spans: MemorySender, path: str) -> None:
        """Responses, requests and exceptions look the same, and can be copied and pickled if they could before."""
        if not self.names:
            pytest.skip("this client traces by itself")
        url = server.url(path) if path else "http://127.0.0.1:1/"
        traced = [conduct(found) for found in self.objects(url)]
        clew.uninstrument()
        assert [conduct(found) for found in self.objects(url)] == traced

    def test_secrets_of_a_url_are_not_in_the_error(self, server: Callee, spans: MemorySender) -> None:
        """Libraries write URLs into their messages, and exceptions into each other."""
        for base in (f"http://ada:pass-w0rd@127.0.0.1:{server.server_port}/cut", "http://ada:pass-w0rd@127.0.0.1:1/x"):
            with contextlib.suppress(Exception):
                self.client()(f"{base}?token=s3cret&b=s3cret#s3cret")
        with contextlib.suppress(Exception):
            self.client()("nowhere://ada:pass-w0rd@h/x?token=s3cret")
        text = json.dumps(spans.spans())
        assert ("error" in text, False, False) == (True, "s3cret" in text, "pass-w0rd" in text), text

    def test_redirect(self, server: Callee, spans: MemorySender) -> None:
        """Hops are spans beside each other with headers of their own, or one for all where the library hides them."""
        with clew.start_span("work") as parent:
            assert 200 == self.client()(server.url("/redirect"))
        assert ["/redirect", "/target"] == [path for path, _ in server.requests]
        calls = [span for span in spans.spans() if span.get("kind") == "CLIENT"]
        assert [parent.span_id] * self.spans_of_redirect == [span["parentId"] for span in calls]
        if self.spans_of_redirect == 2:
            assert [span["id"] for span in calls] == [server.trace_headers(hop)["x-span-id"] for hop in (0, 1)]
            assert ["302", "200"] == [span["tags"]["http.status_code"] for span in calls]

    def test_context_afterwards_is_the_caller_s(self, server: Callee, spans: MemorySender) -> None:
        """After a call, good or bad, the caller's span is active."""
        with clew.start_span("work") as parent:
            self.client()(server.url("/"))
            with contextlib.suppress(Exception):
                self.client()(server.url("/cut"))
            context = clew.get_trace_context()
            assert context is not None
            assert parent.span_id == context.span_id
        assert clew.get_trace_context() is None

    def test_unsampled_is_passed_on(self, server: Callee, spans: MemorySender) -> None:
        """A trace that is not sampled makes no span, and says so to the callee."""
        token = clew.set_trace_context(clew.TraceContext(TRACE_ID, SPAN_ID, None, False))
        self.client()(server.url("/"))
        clew.reset_trace_context(token)
        headers = dict(server.requests[0][1])
        assert ("0", TRACE_ID) == (headers["x-sampled"], headers["x-trace-id"])
        assert headers["traceparent"].endswith("-00")
        assert [] == spans.spans()

    def test_concurrent_calls_do_not_mix(self, server: Callee, spans: MemorySender) -> None:
        """Forty calls from eight threads each carry their own caller's trace."""

        def call(number: int) -> tuple[str, str]:
            with clew.start_span("work") as parent:
                self.client()(server.url(f"/{number}"))
            return f"/{number}", parent.trace_id

        with ThreadPoolExecutor(8) as pool:
            expected = dict(pool.map(call, range(40)))
        assert expected == {path: dict(headers)["x-trace-id"] for path, headers in server.requests}

    def test_client_made_before_instrument_is_traced(self, server: Callee, spans: MemorySender) -> None:
        """Instrumenting reaches clients that exist; taking it back does, too."""
        if self.traces_itself:
            pytest.skip("this client traces by itself")
        clew.uninstrument(*self.names)
        get = self.client()
        get(server.url("/before"))
        clew.instrument(*self.names)
        clew.instrument(*self.names)
        get(server.url("/traced"))
        clew.uninstrument(*self.names)
        get(server.url("/after"))
        assert [0, 3, 0] == [len(server.trace_headers(index)) for index in (0, 1, 2)]
        assert 1 == len(spans.spans())
