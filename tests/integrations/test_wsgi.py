"""WSGI by the letter of PEP 3333: start_response, write, lists, generators, files, close."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

import clew
from clew.integrations.wsgi import TraceMiddleware
from integrations.kit_common import TRACE_ID, stays_itself
from integrations.kit_server import ServerKit, log, seen
from integrations.servers import on_werkzeug

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.testing import MemorySender


def kit_app(environ: Any, start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/error":
        raise RuntimeError("boom")
    status = "200 OK" if path.startswith(("/items/", "/stream", "/late-error", "/copied")) else "404 Not Found"
    start_response("503 Later" if path == "/unavailable" else status, [("Content-Type", "text/plain")])
    if path == "/stream":
        return stream()
    if path == "/late-error":
        return late_error()
    if path == "/copied":
        return [stays_itself(environ.values()).encode()]
    log.info("item")
    return [seen().encode()]


def stream() -> Iterator[bytes]:
    yield seen().encode() + b"\n"
    yield seen().encode() + b"\n"
    with clew.start_span("chunk"):
        pass
    yield seen().encode() + b"\n"


def late_error() -> Iterator[bytes]:
    yield b"begun"
    raise RuntimeError("too late")


class TestKit(ServerKit):
    access_logger = "werkzeug"
    error_logger = ""
    answers_errors = False
    has_routes = False
    modes = ("explicit", "both")

    @contextlib.contextmanager
    def serve(self, mode: str) -> Iterator[int]:
        app = TraceMiddleware(kit_app)
        if mode == "both":
            app = TraceMiddleware(app)
        with on_werkzeug(app) as port:
            yield port

    def test_request_becomes_one_span(self, port: int, spans: MemorySender) -> None:
        """WSGI knows no routes: the name is the method."""
        from integrations.kit_common import fetch
        from integrations.kit_server import JOINED

        fetch(port, "/items/%C3%A9?token=secret", *JOINED)
        span = self.one(spans)
        assert ("GET", TRACE_ID) == (span["name"], span["traceId"])
        assert {"http.method": "GET", "http.path": "/items/é", "http.status_code": "200"} == span["tags"]


def call(app: Any, **environ: Any) -> tuple[list[Any], Any]:
    """Call a WSGI app without a server; return what start_response got, and the body as it came."""
    started: list[Any] = []
    setup_testing_defaults(environ)

    def start_response(*arguments: Any) -> Any:
        started.append(arguments)
        return lambda data: None

    return started, TraceMiddleware(app)(environ, start_response)


def test_list_stays_a_list_and_ends_the_span(clew_spans: MemorySender) -> None:
    """Servers look at a body's length; a body that is there needs no more of the application."""
    body = [b"a", b"b"]

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    started, got = call(app)
    assert body is got
    assert ["200"] == [span["tags"]["http.status_code"] for span in clew_spans.spans()]
    assert [("X-Trace-ID", clew_spans.spans()[0]["traceId"])] == started[0][1]


def test_file_for_sendfile_is_passed_on(clew_spans: MemorySender) -> None:
    """What the server's own wrapper made reaches the server as it is."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"data"))

    _, body = call(app, **{"wsgi.file_wrapper": FileWrapper})
    assert FileWrapper is type(body)
    assert 1 == len(clew_spans.spans())


def test_span_of_a_generator_ends_with_it_and_is_active_only_in_it(clew_spans: MemorySender) -> None:
    """Between two steps the server is in its own context, whatever the generator has left open."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        with clew.start_span("render"):
            yield seen().encode()
            yield seen().encode()

    _, body = call(app)
    chunks = iter(body)
    first = next(chunks)
    assert "none" == seen()
    assert [] == clew_spans.spans()
    assert first == next(chunks)
    assert [] == list(chunks)
    assert ["render", "GET"] == [span["name"] for span in clew_spans.spans()]
    assert "none" == seen()


def test_body_closed_early_ends_the_span(clew_spans: MemorySender) -> None:
    """A client that went away: close() reaches the application, in its trace, once, and ends the span."""
    closed: list[str] = []

    class Body:
        def __iter__(self) -> Any:
            return iter([b"1", b"2"])

        def close(self) -> None:
            closed.append(seen().split()[0])

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Body()

    _, body = call(app)
    next(iter(body))
    body.close()
    assert [clew_spans.spans()[0]["traceId"]] == closed


def test_body_that_nobody_closes_is_reported(clew_spans: MemorySender) -> None:
    """PEP 3333 has servers close it; test clients forget."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return (piece for piece in (b"1", b"2"))

    _, body = call(app)
    next(iter(body))
    del body
    gc.collect()
    assert ("200", "true") == tuple(clew_spans.spans()[0]["tags"][key] for key in ("http.status_code", "clew.unclosed"))


def test_body_whose_close_fails_is_a_failed_request(clew_spans: MemorySender) -> None:
    """The server gets the exception, and the span has it."""

    class Body:
        def __iter__(self) -> Any:
            return iter([b"1"])

        def close(self) -> None:
            raise OSError("disk gone")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Body()

    _, body = call(app)
    next(iter(body))
    with pytest.raises(OSError, match="disk gone"):
        body.close()
    assert "disk gone" == clew_spans.spans()[0]["tags"]["error"]


def test_handshake_of_a_websocket_is_named_so(clew_spans: MemorySender) -> None:
    """As on every other server, whatever library answers it."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("403 Forbidden", [])
        return []

    call(app, HTTP_UPGRADE="WebSocket")
    assert "WS" == clew_spans.spans()[0]["name"]


def test_write_and_exc_info_pass(clew_spans: MemorySender) -> None:
    """The old ways of PEP 3333: the write callable comes back, an error handed to start_response is on the span."""
    got: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        try:
            raise ValueError("inner")
        except ValueError:
            got.append(start_response("500 Sorry", [], sys.exc_info()))
        return []

    started, _ = call(app)
    assert ValueError is started[0][2][0]
    assert callable(got[0])
    tags = clew_spans.spans()[0]["tags"]
    assert ("inner", "ValueError", "500") == (tags["error"], tags["error.type"], tags["http.status_code"])


def test_validator_finds_no_fault(clew_spans: MemorySender) -> None:
    """wsgiref's checker on both sides of the middleware."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    checked = validator(TraceMiddleware(validator(app)))
    body = checked(environ, lambda *arguments: lambda data: None)
    assert [b"ok"] == list(body)
    body.close()
    assert 1 == len(clew_spans.spans())


def test_exception_of_the_application_is_its_own(clew_spans: MemorySender) -> None:
    """It is on the span, and reaches the server unchanged."""
    error = KeyError("x")

    def app(environ: Any, start_response: Any) -> Any:
        raise error

    with pytest.raises(KeyError) as caught:
        call(app)
    assert error is caught.value
    assert "500" == clew_spans.spans()[0]["tags"]["http.status_code"]
    assert "none" == seen()
