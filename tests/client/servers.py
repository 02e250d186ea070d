"""Real collectors' sockets: a UDP port and an HTTP server that keep what arrives."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from client.recording import wait_until

if TYPE_CHECKING:
    from types import TracebackType


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class UdpCollector:
    """A bound UDP socket with a thread that keeps each datagram."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((host, port))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"udp://{host}:{self.port}"
        self.datagrams: list[bytes] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> UdpCollector:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while not self._ended.is_set():
            try:
                self.datagrams.append(self._socket.recv(1 << 17))
            except TimeoutError:
                continue

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [span for datagram in list(self.datagrams) if datagram[:1] == b"[" for span in json.loads(datagram)]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Wait until that many spans came, and then for a moment in which nothing more comes."""
        wait_until(lambda: len(self.spans) >= count, f"{count} spans by UDP, {len(self.spans)} came")
        self._ended.wait(0.1)
        return self.spans


class HttpCollector:
    """An HTTP/1.1 server that keeps requests. ``answer`` is (status, headers); None closes without a word."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.answer: tuple[int, dict[str, str]] | None = (202, {})
        self.answers: list[tuple[int, dict[str, str]]] = []  # given first, in this order
        self.close_after_answer = False
        self.hold: threading.Event | None = None  # a black hole until it is set
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                collector.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = collector.answers.pop(0) if collector.answers else collector.answer
                collector.requests.append((self.path, dict(self.headers), body))
                if collector.hold is not None:
                    collector.hold.wait()
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                for name, value in answer[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                self.close_connection = collector.close_after_answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                """Clients that go away are part of the tests."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> HttpCollector:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [span for path, _, body in list(self.requests) if path.endswith("/spans") for span in json.loads(body)]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.spans) >= count, f"{count} spans by HTTP")
        return self.spans
