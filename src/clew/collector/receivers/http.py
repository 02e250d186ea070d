"""Spans and log records over HTTP: ``POST /api/v2/spans`` and ``POST /api/v1/logs``.

Plain ASGI, without a framework in between: this is the hot route. A request is answered 202, with nothing in it, when
its payload is stored (see :mod:`clew.collector.ingest`); a refusal says what is wrong, where, and what to do. Compared
with Zipkin's own server: an empty body is 202, the content type does not matter (only protobuf is looked for), gzip is
the one encoding.
"""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from clew import wire
from clew.collector.ingest import Ingest, Unavailable
from clew.collector.ingest.payload import BadPayload
from clew.collector.receivers.zipkin_proto import spans_to_json

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from clew.collector.store import Kind

PROTOBUF: Final = b"application/x-protobuf"
RETRY_AFTER_S: Final = b"5"
THREAD_FROM_BYTES: Final = 1_000_000  # larger bodies are unpacked and checked beside the event loop, not in it


class Rejected(Exception):  # noqa: N818 - a request, answered before it became a payload
    """Answer with this status and sentence; ``reason`` is a word for a counter."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ClientGone(Exception):  # noqa: N818
    """The client hung up before its request was complete; there is nobody to answer."""


class Receiver:
    """The ASGI application of the two routes that take data; ``max_body`` bounds a body, packed and not, in bytes."""

    def __init__(self, ingest: Ingest, max_body: int) -> None:
        self._ingest = ingest
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says what it does
        kind: Kind = "logs" if scope["path"].endswith(wire.LOGS_PATH) else "spans"
        try:
            status, message = await self._take(kind, dict(scope["headers"]), receive)
        except ClientGone:
            return
        await _answer(send, status, message)

    async def _take(self, kind: Kind, headers: dict[bytes, bytes], receive: Receive) -> tuple[int, str]:
        try:
            body = await self._body(headers, receive)
            if not body:
                return 202, ""
            if len(body) < THREAD_FROM_BYTES and b"content-encoding" not in headers:
                stored = self._accept(kind, headers, body)
            else:
                stored = await asyncio.to_thread(self._accept, kind, headers, body)
            if not stored.done():
                await asyncio.wrap_future(stored)
        except Rejected as rejected:
            self._ingest.metrics.count("http_rejected_total", reason=rejected.reason)
            return rejected.status, str(rejected)
        except BadPayload as bad:
            return 400, str(bad)
        except Unavailable as unavailable:
            return 503, str(unavailable)
        return 202, ""

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks) if len(chunks) > 1 else chunk

    def _accept(self, kind: Kind, headers: dict[bytes, bytes], body: bytes) -> Future[None]:
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding == b"gzip":
            body = self._gunzip(body)
        elif encoding not in (b"identity", b""):
            raise Rejected(415, "encoding", "Content-Encoding must be gzip or absent. Send the body so.")
        if kind == "spans" and headers.get(b"content-type", b"").lower().startswith(PROTOBUF):
            body = _from_protobuf(body)
        return self._ingest.accept(kind, body)

    def _gunzip(self, body: bytes) -> bytes:
        """Unpack, no further than the limit: a bomb is noticed when it begins to swell."""
        unpacked = bytearray()
        while body:
            member = zlib.decompressobj(wbits=31)  # 31: gzip, nothing else
            try:
                unpacked += member.decompress(body, self._max_body + 1 - len(unpacked))
            except zlib.error as error:
                raise Rejected(400, "gzip", f"The body is not gzip, as its header says: {error}.") from error
            if len(unpacked) > self._max_body:
                raise self._too_large()
            if not member.eof:
                raise Rejected(400, "gzip", "The gzip body ends too early. Send it whole.")
            body = member.unused_data  # gzip may be several members in a row
        return bytes(unpacked)

    def _too_large(self) -> Rejected:
        return Rejected(
            413, "too_large", f"The body is larger than {self._max_body} bytes (max_body). Send it in smaller batches."
        )


def _from_protobuf(body: bytes) -> bytes:
    try:
        return spans_to_json(body)
    except BadPayload as bad:
        raise Rejected(400, "protobuf", str(bad)) from bad


async def _answer(send: Send, status: int, message: str) -> None:
    body = f"{message}\n".encode() if message else b""
    headers = [(b"content-length", b"%d" % len(body))]
    if body:
        headers += [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    if status == 503:
        headers.append((b"retry-after", RETRY_AFTER_S))
    if status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
