"""Spans to ``POST /api/v2/spans`` of any Zipkin server or collector of clew; log records to ``POST /api/v1/logs``."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - getaddrinfo() would, on the reporter's thread: see Reporter on logging
import http.client
import socket
from typing import Final
from urllib.parse import urlsplit

from clew import wire
from clew.senders import IS_IT_UP, Kind, SendError

_MESSAGE_BYTES: Final = (
    1 << 20
)  # Zipkin's own limit is 5 MiB of JSON; a tenth of a second of encoding is enough at once
_TIMEOUT_S: Final = 5.0  # of each step: to connect, to send, to get the answer
_MAX_RETRY_AFTER_S: Final = 60.0
_RETRY: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
_ADVICE: Final = {
    401: "; the collector wants its token: option token or CLEW_TOKEN",
    403: "; the collector wants its token: option token or CLEW_TOKEN",
    404: "; is that a collector? `clew up` listens for HTTP on port 9411",
    413: "; the server takes less than a message of 1 MiB",
}


class HttpSender:
    """Post to one server over one kept connection. ``url`` may hold a path, for a server that listens elsewhere."""

    max_message_bytes: int = _MESSAGE_BYTES

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        spans_path = parts.path if parts.path not in ("", "/") else wire.SPANS_PATH
        self._paths = {"spans": spans_path, "logs": spans_path.removesuffix(wire.SPANS_PATH) + wire.LOGS_PATH}
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None
        self.timeout_s = _TIMEOUT_S

    def send(self, messages: list[bytes], kind: Kind = "spans") -> None:
        """Post one array; returns on any 2xx. A server's 4xx is final, but for those that mean "later"."""
        body = wire.join(messages, kind)
        kept = self._connection is not None
        try:
            status, retry_after = self._post(self._paths[kind], body)
        except (http.client.HTTPException, OSError) as problem:
            self.close()
            if not kept or isinstance(problem, TimeoutError):
                raise self._error(problem) from problem
            self._retry_on_new_connection(kind, body)  # the server may just have closed an idle one
            return
        self._check(status, retry_after)

    def _retry_on_new_connection(self, kind: Kind, body: bytes) -> None:
        try:
            status, retry_after = self._post(self._paths[kind], body)
        except (http.client.HTTPException, OSError) as problem:
            self.close()
            raise self._error(problem) from problem
        self._check(status, retry_after)

    def _error(self, problem: Exception) -> SendError:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        question = f"; {IS_IT_UP}" if isinstance(problem, (ConnectionError, TimeoutError)) else ""
        return SendError(f"{self._url}: {reason}{question}")

    def _post(self, path: str, body: bytes) -> tuple[int, str | None]:
        connection = self._connection or self._connect()
        connection.request("POST", path, body, self._headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("Retry-After")

    def _check(self, status: int, retry_after: str | None) -> None:
        if 200 <= status < 300:
            return
        after_s = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        reason = f"{self._url} answered {status}{_ADVICE.get(status, '')}"
        raise SendError(reason, status in _RETRY, min(after_s, _MAX_RETRY_AFTER_S), answered=True)

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self.timeout_s)
        try:
            connection.connect()
        except OSError:
            connection.close()  # a failed TLS handshake leaves the socket open
            raise
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # headers and body are two writes
        self._connection = connection
        return connection

    def close(self) -> None:
        """Close the connection. The next message opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
