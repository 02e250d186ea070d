"""Connections that take more than their share, over raw sockets: others are answered meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import uvicorn

from clew.collector.doors.connections import Connections, Limits
from clew.collector.metrics import Metrics
from clew.collector.serving import configured
from collector.collector_process import CollectorProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD_OF_POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
LARGE = 32 << 20  # an answer that no buffer of the kernel holds


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the length of the body, or as many bytes as the path says."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = b"x" * int(scope["path"][1:]) if len(scope["path"]) > 1 else b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Bounded:
    """The application behind bounded connections."""

    def __init__(self, port: int, metrics: Metrics, stack: contextlib.ExitStack) -> None:
        self._address = ("127.0.0.1", port)
        self._metrics = metrics
        self._stack = stack

    def open(self, data: bytes = b"") -> socket.socket:
        """Connect and send something; closed at the end of the test."""
        opened = self._stack.enter_context(socket.create_connection(self._address, timeout=30))
        opened.sendall(data)
        return opened

    def dropped(self, reason: str) -> int:
        return self._metrics.value("http_connections_dropped_total", reason=reason)


@contextlib.contextmanager
def bounded(limits: Limits) -> Iterator[Bounded]:
    metrics = Metrics()
    server = uvicorn.Server(configured(app, Connections(metrics, limits)))
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listening, contextlib.ExitStack() as stack:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Bounded(listening.getsockname()[1], metrics, stack)
        finally:
            stack.close()
            server.should_exit = True
            thread.join()


def read_all(opened: socket.socket) -> bytes:
    """Read until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := opened.recv(1 << 20):
            found += chunk
    return found


def answer(opened: socket.socket) -> bytes:
    """Read one short answer."""
    found = b""
    while b"\r\n\r\n" not in found or not found.partition(b"\r\n\r\n")[2]:
        chunk = opened.recv(1 << 16)
        assert chunk, found
        found += chunk
    return found


# --- bytes ---


ENDLESS = {
    "address": (b"GET /", b"a"),
    "header": (b"GET / HTTP/1.1\r\nX: ", b"a"),
    "header's name": (b"GET / HTTP/1.1\r\nX", b"a"),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: 1\r\n"),
    "empty lines": (b"", b"\r\n"),
    "chunk extension": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "trailer": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ", b"a"),
    "trailers": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n"),
}


@pytest.mark.parametrize("begin", [b"", GET], ids=["first", "second"])
@pytest.mark.parametrize("part", ENDLESS)
def test_what_is_not_body_ends_somewhere(part: str, begin: bytes) -> None:
    """Of a first request as of a second one; the connection goes, in whatever pieces it comes."""
    head, endless = ENDLESS[part]
    with bounded(Limits(head_bytes=10_000)) as server:
        opened = server.open(begin + head)
        with contextlib.suppress(ConnectionError):
            for _ in range(1_000):
                opened.sendall(endless * 1_000)
        read_all(opened)
        assert 1 == server.dropped("head_large") + server.dropped("no_http")
        assert b"200 OK" in answer(server.open(GET))


def test_large_head_that_comes_at_once_is_refused_with_a_sentence() -> None:
    """431, and what to do."""
    with bounded(Limits(head_bytes=10_000)) as server:
        found = read_all(server.open(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"))
        assert found.startswith(b"HTTP/1.1 431 ")
        assert b"larger than 10000 bytes" in found


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", b"\0" * 100]
)
def test_other_protocols_are_refused_and_logged_nowhere(junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A scan of ports is no news; it is counted."""
    with bounded(Limits()) as server:
        assert read_all(server.open(junk)).startswith(b"HTTP/1.1 400 ")
        assert 1 == server.dropped("no_http")
    assert [] == caplog.records


def test_upgrades_are_answered_as_if_not_asked_for() -> None:
    """There are no WebSockets behind the doors, so no way around them."""
    with bounded(Limits()) as server:
        asked = (
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert read_all(server.open(GET[:-2] + asked)).startswith(b"HTTP/1.1 200 ")


def test_ordinary_requests_pass() -> None:
    """Several on a connection, at once, byte by byte, large, in chunks of one byte."""
    with bounded(Limits(head_bytes=2_000)) as server:
        opened = server.open()
        for _ in range(50):
            opened.sendall(GET)
            assert b"200 OK" in answer(opened)
        for byte in GET:
            opened.sendall(bytes([byte]))
        assert b"200 OK" in answer(opened)
        opened.sendall(GET * 20 + HEAD_OF_POST % 3 + b"abc" + GET[:-2] + b"Connection: close\r\n\r\n")
        assert 22 == read_all(opened).count(b"200 OK")
        opened = server.open(HEAD_OF_POST % (20 << 20))
        opened.sendall(b"x" * (20 << 20))
        assert answer(opened).endswith(b"%d" % (20 << 20))
        opened.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000)
        opened.sendall(b"0\r\n\r\n")
        assert answer(opened).endswith(b"50000")


# --- time ---


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (b"", "idle", b""),
        (b"GET / HT", "head_slow", b"408"),
        (GET + b"GET / HTTP/1.1\r\nX: ", "head_slow", b"408"),
        (HEAD_OF_POST % 100 + b"half", "body_slow", b"408"),
        (GET, "", b"200"),
    ],
)
def test_who_lets_us_wait_is_dropped(data: bytes, reason: str, said: bytes) -> None:
    """Nothing, half a head, half a body, nothing more."""
    with bounded(Limits(head_s=0.2, body_s=0.2, idle_s=1)) as server:
        found = read_all(server.open(data))
        assert said in found
        assert not reason or 1 == server.dropped(reason)


def test_drip_does_not_count_as_progress() -> None:
    """A byte now and then keeps neither a head nor a body alive."""
    with bounded(Limits(head_s=0.5, body_s=0.5, idle_s=1)) as server:
        for begin in (b"GET / HTTP/1.1\r\nX: ", HEAD_OF_POST % 1_000_000):
            opened = server.open(begin)
            opened.settimeout(0.05)
            found = b"waits"
            with contextlib.suppress(ConnectionError):
                while found:
                    opened.sendall(b"a")
                    with contextlib.suppress(TimeoutError):
                        found = opened.recv(1_000)
        assert (1, 1) == (server.dropped("head_slow"), server.dropped("body_slow"))


def test_answer_that_nobody_reads_is_dropped() -> None:
    """And its memory with it."""
    with bounded(Limits(unread_s=0.2)) as server:
        server.open(GET.replace(b"/ ", b"/%d " % LARGE))
        wait_until(lambda: server.dropped("unread") == 1)
        assert b"200 OK" in answer(server.open(GET))


def test_answer_that_is_read_slowly_is_delivered() -> None:
    """Time counts from the last byte that was taken."""
    with bounded(Limits(unread_s=5)) as server:
        opened = server.open(GET.replace(b"/ ", b"/%d " % LARGE))
        size, chunk = 0, opened.recv(1_000)
        while size < LARGE:
            size += len(chunk)
            chunk = opened.recv(1 << 16) if size < LARGE else b""
        assert 0 == server.dropped("unread")


def test_unread_answers_are_bounded_together() -> None:
    """The largest go."""
    with bounded(Limits(unread_bytes=LARGE)) as server:
        for _ in range(4):
            server.open(GET.replace(b"/ ", b"/%d " % LARGE))
        wait_until(lambda: server.dropped("unread") >= 3)


# --- places ---


@pytest.mark.parametrize("data", [b"", b"GET / HT", HEAD_OF_POST % 100 + b"half", GET])
def test_those_who_wait_make_room(data: bytes) -> None:
    """Ten times as many as there are places; each newcomer is answered, and one who asks is not cut off."""
    with bounded(Limits(connections=50)) as server:
        kept = server.open(HEAD_OF_POST % 3 + b"ab")
        for count in range(500):
            server.open(data)
            if count == 20:
                kept.sendall(b"c")
                assert b"200 OK" in answer(kept)
            if count % 50 == 0:
                assert b"200 OK" in answer(server.open(GET))
        assert b"200 OK" in answer(server.open(GET))
        assert server.dropped("places") >= 400


def test_bodies_are_bounded_together() -> None:
    """The slowest is told to come again; who sends at once is served."""
    with bounded(Limits(bodies_bytes=1_000_000)) as server:
        halves = [server.open(HEAD_OF_POST % 300_000 + b"x" * 200_000) for _ in range(20)]
        whole = server.open(HEAD_OF_POST % 300_000 + b"x" * 300_000)
        assert answer(whole).endswith(b"300000")
        wait_until(lambda: server.dropped("bodies") >= 15)
        refused = [one for one in halves[:10] if read_all(one).startswith(b"HTTP/1.1 503 ")]
        assert refused


# --- a whole collector ---


def test_ten_thousand_connections_keep_nobody_out(tmp_path: Path) -> None:
    """Idle ones, half heads, half bodies: spans are taken and questions answered meanwhile."""
    span = b'[{"traceId":"%x","id":"b","name":"x"}]'
    with CollectorProcess(tmp_path / "data") as collector, contextlib.ExitStack() as stack:
        kinds = (b"", b"GET / HT", b"POST /api/v2/spans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[")
        for count in range(10_000):
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", collector.port), timeout=30))
            with contextlib.suppress(ConnectionError):
                opened.sendall(kinds[count % 3])
            if count % 1_000 == 0:
                assert 202 == collector.post("/api/v2/spans", span % (count + 1))[0]
        assert 200 == collector.get("/health")[0]
        assert 1 == len(collector.trace("1"))
        assert collector.counter('http_connections_dropped_total{reason="places"}') > 0
        assert 0 == collector.stop()
        assert collector.process.stderr is not None
        assert "" == collector.process.stderr.read()


def test_open_requests_end_with_the_collector_and_without_a_traceback(tmp_path: Path) -> None:
    """Half a head, half a body, a follower that does not read, many at once: exit code 0, nothing on stderr."""
    post = b"POST /api/v2/spans HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with CollectorProcess(tmp_path / "data") as collector, contextlib.ExitStack() as stack:
        for data in [b"", b"GET /", post, post + b"[", b"GET /api/v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n"] * 20:
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", collector.port), timeout=30))
            opened.sendall(data)
        assert 200 == collector.get("/health")[0]
        assert 0 == collector.stop()
        assert collector.process.stderr is not None
        assert "" == collector.process.stderr.read()
